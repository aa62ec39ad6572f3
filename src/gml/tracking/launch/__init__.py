"""`gml log`: run a command, pass everything through, and keep what it did as a run."""

from gml.tracking.launch.command import Launch, run_command

__all__ = ["Launch", "run_command"]
