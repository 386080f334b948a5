"""Measures of a reconstruction, and synthetic people to measure on."""
