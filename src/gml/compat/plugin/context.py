"""Tags that say which branch and state of the code a run is of, where it goes to a git repository."""

from __future__ import annotations

from pathlib import Path

import mlflow
from mlflow.tracking.context.abstract_context import RunContextProvider

from gml.compat.in_process import local, repository_of
from gml.domain.errors import GmlError


class GmlRunContext(RunContextProvider):
    """Adds `mlflow.source.git.branch` to runs of scripts in the repository that they are tracked in."""

    def in_context(self) -> bool:
        """Whether runs go to a `gml:` URI from within its work tree."""
        uri = mlflow.get_tracking_uri()
        if not uri.startswith(("gml:", "gml+file:")):
            return False
        try:
            top = local(repository_of(uri)).store.workspace.store.location.worktree
        except GmlError:
            return False
        return top is not None and Path.cwd().is_relative_to(top)

    def tags(self) -> dict[str, str]:
        """Return the branch, where HEAD is on one."""
        branch = local(repository_of(mlflow.get_tracking_uri())).store.workspace.store.head().branch
        return {"mlflow.source.git.branch": branch} if branch else {}
