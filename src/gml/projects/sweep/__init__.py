"""Sweeps: many runs of one command with other values, nested in one run that can be resumed."""
