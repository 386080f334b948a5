"""What published tables give away about people: reidentification, its baselines, and protections to compare."""
