"""Building environments: once for each content, whole or not at all, with uv where it is present."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import NotFoundError, StorageError, UsageError
from gml.fs import locked, storage_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.projects.environments.spec import EnvSpec

MARK: Final = "gml-environment.json"
TOOLS: Final = ("uv", "venv", "conda")
_BUILD_LOCK_SECONDS: Final = 3600.0
_DECORATION: Final = "\u00d7\u2570\u2500\u25b6 "
_FULL: Final = re.compile(r"No space left on device|os error 28|Errno 28|Disk quota exceeded")


class EnvironmentBuildError(StorageError):
    """An environment could not be built; nothing of it was left behind."""


@dataclass(frozen=True, slots=True)
class Built:
    """An environment that can be used.

    Attributes:
        path: its folder.
        cached: whether it was there already.
        tool: `uv`, `venv` or `conda`.
    """

    path: Path
    cached: bool
    tool: str

    @property
    def bin(self) -> Path:
        """Folder of its programs."""
        return self.path / ("Scripts" if os.name == "nt" else "bin")


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return where gml keeps what can be made again: GML_CACHE_DIR, or `gml` in the user's cache folder."""
    chosen = environ.get("GML_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".cache")
    return Path(base) / "gml"


def choose_tool(wanted: str | None, environ: Mapping[str, str]) -> str:
    """Return the tool that builds environments: the wanted one, uv where it is present, else venv and pip.

    Raises:
        NotFoundError: the wanted one is not installed.
    """
    if wanted in {None, "auto"}:
        return "uv" if _uv(environ) else "venv"
    if wanted == "uv" and not _uv(environ):
        raise NotFoundError("uv is not installed", hint="pip install uv, or --env-manager virtualenv")
    return "venv" if wanted == "virtualenv" else str(wanted)


def cached_environment(
    spec: EnvSpec, environ: Mapping[str, str], *, tool: str | None = None, offline: bool = False
) -> Built:
    """Return the environment of a content, built if it is not in the cache.

    Processes that want the same one wait for each other; one that is interrupted leaves nothing.

    Raises:
        EnvironmentBuildError: it cannot be built.
        NotFoundError: the tool, or a Python of the wanted version, is not here.
    """
    folder = cache_folder(environ) / "environments"
    target = folder / spec.digest[:32]
    found = _finished(target)
    if found is not None:
        return Built(target, cached=True, tool=found)
    chosen = choose_tool(tool, environ)
    with locked(folder / f"{target.name}.lock", timeout=_BUILD_LOCK_SECONDS):
        found = _finished(target)
        if found is not None:
            return Built(target, cached=True, tool=found)
        shutil.rmtree(target, ignore_errors=True)  # what a killed process left
        _build(spec, target, environ, chosen, offline=offline)
    return Built(target, cached=False, tool=chosen)


def build_at(
    spec: EnvSpec, target: Path, environ: Mapping[str, str], *, tool: str | None = None, offline: bool = False
) -> Built:
    """Build an environment in a folder of the user's.

    Raises:
        UsageError: something else is there.
        EnvironmentBuildError: it cannot be built; the folder is not left behind.
    """
    found = _finished(target, spec.digest)
    if found is not None:
        return Built(target, cached=True, tool=found)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there already and is not this environment", hint="remove it first")
    chosen = choose_tool(tool, environ)
    _build(spec, target, environ, chosen, offline=offline)
    return Built(target, cached=False, tool=chosen)


def _finished(target: Path, digest: str | None = None) -> str | None:
    try:
        facts = json.loads((target / MARK).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(facts, dict) or (digest is not None and facts.get("digest") != digest):
        return None
    python = target / "bin" / "python"
    return str(facts.get("tool", "venv")) if python.exists() or os.name == "nt" else None


def _build(spec: EnvSpec, target: Path, environ: Mapping[str, str], tool: str, *, offline: bool) -> None:
    python = find_python(spec.python, environ)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _make(spec, target, environ, tool, python, offline=offline)
        facts = {"digest": spec.digest, "python": spec.python, "tool": tool}
        (target / MARK).write_text(json.dumps(facts) + "\n", "utf-8")
    except BaseException as error:
        # Also after Ctrl-C: half an environment looks like a whole one.
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, OSError):
            raise storage_error(error, f"cannot build the environment {target}") from error
        raise


def _make(
    spec: EnvSpec, target: Path, environ: Mapping[str, str], tool: str, python: str, *, offline: bool
) -> None:
    uv = _uv(environ)
    wanted = target.parent / f".{target.name}.txt"
    wanted.write_text(spec.requirements(), "utf-8")
    inside = str(target / "bin" / "python")
    deps = ["--no-deps"] if spec.locked else []
    try:
        if tool == "uv" and uv is not None:
            more = ["--offline"] if offline else []
            _run([uv, "venv", "-q", "--no-project", "--python", python, str(target)], environ)
            if spec.lines:
                _run(
                    [uv, "pip", "install", "-q", "--python", inside, *more, *deps, "-r", str(wanted)], environ
                )
            return
        pip = _pip(inside)
        bare = ["--without-pip"] if pip[0] != inside else []
        _run([python, "-m", "venv", *bare, str(target)], environ)
        if spec.lines:
            more = ["--no-index"] if offline else []
            quiet = ["-q", "--disable-pip-version-check", "--no-input"]
            _run([*pip, "install", *quiet, *more, *deps, "-r", str(wanted)], environ)
    finally:
        wanted.unlink(missing_ok=True)


def _pip(python: str) -> list[str]:
    """Return the pip that installs into an environment: ours, which saves three seconds, or its own."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        major, minor = version("pip").split(".")[:2]
        recent = (int(major), int(minor)) >= (22, 3)
    except (PackageNotFoundError, ValueError):
        recent = False
    return [sys.executable, "-m", "pip", "--python", python] if recent else [python, "-m", "pip"]


def find_python(version: str, environ: Mapping[str, str]) -> str:
    """Return an interpreter of a version: exactly that one, else one that differs in the last number only.

    Raises:
        NotFoundError: there is none.
    """
    here = ".".join(map(str, sys.version_info[:3]))
    if not version or version in {here, here.rpartition(".")[0], here.split(".")[0]}:
        return _base_python()
    minor = ".".join(version.split(".")[:2])
    near: str | None = None
    homes = Path(environ.get("PYENV_ROOT") or Path(environ.get("HOME", "/")) / ".pyenv") / "versions"
    candidates = [str(path) for path in sorted(homes.glob(f"{minor}*/bin/python"))] if homes.is_dir() else []
    on_path = shutil.which(f"python{minor}", path=environ.get("PATH"))
    for candidate in [*candidates, *([on_path] if on_path else [])]:
        found = _version_of(candidate)
        if found == version or (version == minor and found.startswith(f"{minor}.")):
            return candidate
        near = near or (candidate if found.startswith(f"{minor}.") else None)
    if near is not None:
        return near
    if here.startswith(f"{minor}."):
        return _base_python()
    raise NotFoundError(
        f"there is no Python {version} on this machine (this one is {here})",
        hint="install it, or use the present one: --env-manager local",
    )


def _base_python() -> str:
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def _version_of(python: str) -> str:
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [python, "-I", "-c", "import platform; print(platform.python_version())"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        return done.stdout.strip()
    return ""


def _uv(environ: Mapping[str, str]) -> str | None:
    found = shutil.which("uv", path=environ.get("PATH", os.defpath))
    beside = Path(sys.executable).parent / "uv"
    return found or (str(beside) if beside.is_file() else None)


def _run(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    clean = {k: v for k, v in environ.items() if k not in {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH"}}
    clean.setdefault("UV_PYTHON_DOWNLOADS", "never")
    done = subprocess.run(list(argv), stdin=subprocess.DEVNULL, capture_output=True, check=False, env=clean)
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace")
        if _FULL.search(said):
            raise EnvironmentBuildError(
                "no space left on the disk for the environment", hint="free some space"
            )
        raise EnvironmentBuildError(
            f"the environment cannot be built: {_reason(said) or f'exit code {done.returncode}'}",
            hint="correct its requirements, or use what is installed: --env-manager local",
        )


def _reason(text: str) -> str:
    """Return the line of an installer's output that says why."""
    because = " ".join(text.split()).partition("Because ")
    if because[1]:
        return f"because {because[2][:300]}"
    lines = [" ".join(line.split()).lstrip(_DECORATION) for line in text.splitlines() if line.strip()]
    telling = (
        "no matching distribution",
        "no solution",
        "because ",
        "no version of",
        "not found",
        "conflict",
    )
    for line in lines:
        if any(word in line.lower() for word in telling):
            return line.removeprefix("ERROR: ")[:300]
    return lines[-1].removeprefix("ERROR: ")[:300] if lines else ""
