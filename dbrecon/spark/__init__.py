"""Spark as a pool of workers for the loop of a node (workflow 2)."""
