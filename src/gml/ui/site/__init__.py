"""Pages without a server: a folder of files, or one file."""
