"""The environment that a run was recorded with: as a lock, and built again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gml.projects.environments.build import Built, build_at, cached_environment
from gml.projects.environments.spec import EnvSpec, local_places, spec_of_record
from gml.tracking.contents import environment

if TYPE_CHECKING:
    from pathlib import Path

    from gml.domain.run import Run
    from gml.tracking.reader import Reader


def recorded_spec(reader: Reader, run: Run) -> EnvSpec:
    """Return the environment of a run as a lock of all its packages.

    A package that is installed here from a folder or URL, in the same version, is taken from there.

    Raises:
        NotFoundError: the run has no record of its packages.
    """
    document = environment(reader, run)
    plain = spec_of_record(document)
    versions = dict(line.split("==", 1) for line in plain.lines)
    return spec_of_record(document, local_places(sys.path, versions))


def lock_text(spec: EnvSpec) -> str:
    """Return a lock as a requirements file, with the Python it is for in a comment."""
    head = f"# python {spec.python}\n" if spec.python else ""
    return head + spec.requirements()


def restore(
    reader: Reader, run: Run, target: Path | None = None, *, tool: str | None = None, offline: bool = False
) -> Built:
    """Build the environment of a run, in a folder or, without one, in the cache.

    Raises:
        NotFoundError: the run has no record of its packages, or there is no Python of that version.
        EnvironmentBuildError: it cannot be built.
        UsageError: something else is in the folder.
    """
    spec = recorded_spec(reader, run)
    environ = reader.workspace.environ
    if target is None:
        return cached_environment(spec, environ, tool=tool, offline=offline)
    return build_at(spec, target, environ, tool=tool, offline=offline)
