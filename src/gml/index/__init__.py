"""Queries over runs: search, comparison, frames."""
