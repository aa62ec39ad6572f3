"""What `gml run` would do, without doing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gml.projects.mlproject.environment import Ready
from gml.projects.mlproject.run import ProjectRun, ReadyProject, checked, launch_of
from gml.projects.mlproject.sources import located

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.workspace import Workspace


def dry_command(workspace: Workspace, wish: ProjectRun, consent: Callable[[str, str], None]) -> list[str]:
    """Return the command line that would run; with docker the one that starts the container.

    Raises:
        GmlError: whatever `run_located` would raise before it builds the environment.
    """
    with located(
        workspace, wish.uri, wish.version, isolated=wish.isolated, keep=None, consent=consent
    ) as place:
        project, entry, values, argv = checked(place, wish, Path.cwd())
        docker = project.env_kind == "docker" and wish.env_manager in {None, "docker"}
        ready = ReadyProject(place, project, entry, values, argv, Ready("docker" if docker else "local"))
        return list(launch_of(ready, wish).command)
