"""Environments of Python code: what is asked for, and building it once for everybody who asks the same."""
