"""Composition root: finds the repository, reads configuration once, builds the rest."""
