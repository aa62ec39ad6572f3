"""The model registry: versions, stages and approvals on a branch of the user's repository.

>>> import gml
>>> gml.registry.get("models:/churn/Production").version.version  # doctest: +SKIP
4
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gml.registry.resolve import Resolved

__all__ = ["get"]


def get(uri: str, *, repo: str | Path | None = None, at: int | None = None) -> Resolved:
    """Return what a model URI means, after the whole registry was verified.

    Args:
        uri: such as `models:/churn/4`, `models:/churn/Production`, `models:/churn/latest`,
            `models:/churn@champion` or `models:/churn@sha256:...`.
        repo: a path in the repository; GML_REPO or the current directory by default.
        at: as of a time, seconds since the epoch; None for now.

    Raises:
        UsageError: the URI is malformed.
        NotFoundError: there is no such model, version, stage or alias.
        PolicyError: the registry is not in order, was rolled back, or is not the trusted one.

    Example:
        >>> get("models:/churn/Production").digest  # doctest: +SKIP
        '55a1f6b1...'
    """
    from gml.registry.branch import Registry
    from gml.registry.resolve import resolve
    from gml.workspace import Workspace

    return resolve(Registry(Workspace.open(repo)), uri, at=at)
