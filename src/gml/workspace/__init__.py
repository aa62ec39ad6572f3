"""Composition root: finds the repository, reads configuration once, builds the rest."""

from gml.workspace.settings import Settings
from gml.workspace.workspace import Workspace

__all__ = ["Settings", "Workspace"]
