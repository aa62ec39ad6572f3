"""Which files a registered model is, for those who fetch them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gml.domain.errors import NotFoundError
from gml.registry.branch import Registry
from gml.registry.resolve import resolve

if TYPE_CHECKING:
    from gml.domain.run import Artifact
    from gml.registry.resolve import Resolved
    from gml.workspace import Workspace


class HasWorkspace(Protocol):
    """Something that was opened on a repository."""

    workspace: Workspace


def model_files(registry: Registry, uri: str) -> tuple[Resolved, dict[str, Artifact]]:
    """Return what a model URI means, and its files: path within the run -> artifact.

    Args:
        registry: the registry.
        uri: such as `models:/churn/Production`; a path may follow.

    Raises:
        NotFoundError: there is no such model, its run is not here, or nothing is below that path.
        PolicyError: the registry is not in order.
    """
    found = resolve(registry, uri)
    run = registry.evidence().run(found.version)
    if run is None:
        raise NotFoundError(
            f"the run {found.run} of {found.version.model} v{found.version.version} is not here",
            hint="`gml pull` brings it",
        )
    prefix = "/".join(part for part in (found.path, found.subpath) if part)
    files = {
        name: artifact
        for name, artifact in run.artifacts.items()
        if not prefix or name == prefix or name.startswith(f"{prefix}/")
    }
    if not files:
        raise NotFoundError(f"{uri} has no files below {found.subpath!r}")
    return found, files


def model_digests(opened: HasWorkspace, uri: str) -> list[str]:
    """Return the digests of a model's files in the artifact store; raises as `model_files`."""
    _, files = model_files(Registry(opened.workspace), uri)
    return sorted({artifact.sha256 for artifact in files.values() if artifact.at == "cas"})
