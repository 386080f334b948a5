"""Reports that a board reads: one self-contained page, its figures as SVG and PNG, its numbers as CSV and Parquet."""
