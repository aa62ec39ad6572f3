"""The environment that a project asks for, ready to run in."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import NotFoundError, UsageError
from gml.projects.environments.build import EnvironmentBuildError, cache_folder, cached_environment
from gml.projects.environments.spec import EnvSpec, local_places, read_conda, read_python_env
from gml.tracking.capture.packages import installed_packages, normalised_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.projects.mlproject.parse import Docker, Project

log = logging.getLogger("gml")

MANAGERS: Final = ("local", "uv", "virtualenv", "conda", "docker")
_OWN: Final = "gitml"


@dataclass(frozen=True, slots=True)
class Ready:
    """An environment to run a command in.

    Attributes:
        kind: what the run's `mlflow.project.env` says: `local`, `virtualenv`, `uv`, `conda` or `docker`.
        variables: environment variables that activate it.
        prefix: words to put before the command (`conda run ...`, `docker run ...`).
        cached: whether it was there already.
    """

    kind: str
    variables: Mapping[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    cached: bool = True


def prepare(project: Project, manager: str | None, environ: Mapping[str, str], *, offline: bool) -> Ready:
    """Return the environment of a project, built where it has to be.

    Args:
        project: the project.
        manager: one of `MANAGERS`, None for what the project asks for: nothing is built for a project that
            names no environment.
        environ: environment variables.
        offline: do not ask any package index.

    Raises:
        UsageError: the manager cannot make the environment that the project asks for.
        NotFoundError: the manager, or the wanted Python, is not installed.
        EnvironmentBuildError: it cannot be built.
    """
    kind = project.env_kind
    if manager == "local" or (manager is None and kind == "none"):
        return Ready("local")
    if kind == "docker" or manager == "docker":
        if kind != "docker":
            raise UsageError("the project has no docker_env", hint="--env-manager uv, virtualenv or local")
        if manager not in {None, "docker"}:
            raise UsageError(
                f"the project runs in docker, not with {manager}", hint="--env-manager docker or local"
            )
        return Ready("docker")
    if manager == "conda" or (manager is None and kind == "conda" and conda(environ)):
        return _conda(project, environ)
    spec = _spec(project)
    built = cached_environment(_with_own_package(spec), environ, tool=manager, offline=offline)
    path = os.pathsep.join([str(built.bin), environ.get("PATH", os.defpath)])
    variables = {"PATH": path, "VIRTUAL_ENV": str(built.path)}
    return Ready("uv" if built.tool == "uv" else "virtualenv", variables, cached=built.cached)


def _spec(project: Project) -> EnvSpec:
    if project.env_file is None:
        return EnvSpec()
    if project.env_kind == "python":
        return read_python_env(project.env_file)
    spec, others = read_conda(project.env_file)
    if others:
        log.warning(
            "gml: %s: without conda these are not installed: %s", project.env_file.name, ", ".join(others)
        )
    return spec


def _with_own_package(spec: EnvSpec) -> EnvSpec:
    """Let scripts that log find gml: it is installed from where this one is, beside mlflow too."""
    names = {normalised_name(re.split(r"[\s\[<>=!~;@]", line, maxsplit=1)[0]) for line in spec.lines}
    if not names & {_OWN, "mlflow", "mlflow-skinny"}:
        return spec
    version = installed_packages(sys.path).get(_OWN, "")
    places = local_places(sys.path, {_OWN: version})
    lines = spec.lines if _OWN in names else (*spec.lines, f"{_OWN}=={version}" if not places else _OWN)
    return replace(spec, lines=lines, places={**spec.places, **places})


def conda(environ: Mapping[str, str]) -> str | None:
    """Return the conda command: micromamba, mamba or conda, whichever is installed."""
    path = environ.get("PATH", os.defpath)
    return next(
        (found for name in ("micromamba", "mamba", "conda") if (found := shutil.which(name, path=path))), None
    )


def _conda(project: Project, environ: Mapping[str, str]) -> Ready:
    import hashlib

    from gml.fs import locked

    program = conda(environ)
    if program is None:
        raise NotFoundError(
            "conda is not installed", hint="--env-manager uv or virtualenv takes its pip part"
        )
    if project.env_kind != "conda" or project.env_file is None:
        raise UsageError("the project has no conda_env", hint="--env-manager uv, virtualenv or local")
    digest = hashlib.sha256(b"conda\n" + project.env_file.read_bytes()).hexdigest()[:32]
    folder = cache_folder(environ) / "environments"
    target = folder / digest
    ready = Ready(
        "conda", {}, (program, "run", "-p", str(target)), cached=(target / "gml-complete").is_file()
    )
    with locked(folder / f"{digest}.lock", timeout=3600):
        if (target / "gml-complete").is_file():
            return ready
        shutil.rmtree(target, ignore_errors=True)
        verb = ["create"] if Path(program).name == "micromamba" else ["env", "create"]
        try:
            done = subprocess.run(
                [program, *verb, "-q", "-y", "-p", str(target), "-f", str(project.env_file)],
                stdin=subprocess.DEVNULL, capture_output=True, check=False, env=dict(environ),
            )  # fmt: skip
            if done.returncode:
                said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
                raise EnvironmentBuildError(f"conda cannot build the environment: {said[-1] if said else ''}")
            (target / "gml-complete").touch()
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
    return ready


def docker_command(
    docker: Docker,
    argv: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    environ: Mapping[str, str],
    options: Mapping[str, str],
    mounts: Sequence[Path] = (),
) -> list[str]:
    """Return the `docker run` command line of a project's command.

    Args:
        docker: image, volumes and variables.
        argv: the command in the container.
        folder: of the project, mounted as the working directory.
        variables: that tell the command of its run; set in the container.
        environ: from which the named variables are copied.
        options: further options of `docker run`, such as `{"gpus": "all"}`.
        mounts: folders that are mounted under their own path.

    Example:
        >>> from gml.projects.mlproject.parse import Docker
        >>> docker_command(Docker("img"), ["python", "t.py"], Path("/p"), {"A": "1"}, {}, {})[-5:]
        ['-e', 'A=1', 'img', 'python', 't.py']
    """
    inside = "/gml/projects/code"
    words = ["docker", "run", "--rm", "-v", f"{folder}:{inside}", "-w", inside]
    for volume in docker.volumes:
        words += ["-v", volume]
    for mount in mounts:
        words += ["-v", f"{mount}:{mount}"]
    for name, value in docker.environment:
        if value is not None:
            words += ["-e", f"{name}={value}"]
        elif name in environ:
            words += ["-e", f"{name}={environ[name]}"]
    for name, value in variables.items():
        words += ["-e", f"{name}={value}"]
    for name, value in options.items():
        words += [f"--{name}" if len(name) > 1 else f"-{name}", *([value] if value else [])]
    return [*words, docker.image, *argv]
