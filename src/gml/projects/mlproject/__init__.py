"""MLproject files: what they say, and running it."""
