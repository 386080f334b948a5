"""Solving integer programs, and explaining why one has no solution."""
