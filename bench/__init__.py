"""Benchmarks and the demo: commands that measure, and the makers of what they measure on."""
