"""Where entry points run that do not run here: a small port, and its adapters."""
