"""Content-addressed bytes on any fsspec file system."""
