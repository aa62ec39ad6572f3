"""Runs on git: format, append, read, merge."""
