"""Pipelines: entry points that need one another, run only where something changed."""
