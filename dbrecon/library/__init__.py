"""What `import dbrecon` offers: the science over arrays and data frames, for scripts and notebooks."""
