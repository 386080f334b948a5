"""A tract's tables, its integer program, the program's text, and the check of an answer."""
