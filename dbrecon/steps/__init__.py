"""One function a step, with explicit arguments: what the scripts, the workers and Spark's tasks call."""
