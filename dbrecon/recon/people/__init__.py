"""People and solutions as files."""
