"""gml: your git repository is the tracking server."""

from gml._version import __version__

__all__ = ["__version__"]
