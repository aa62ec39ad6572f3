"""What an environment has to contain: from a run's record, `python_env.yaml` or `conda.yaml`."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from gml.domain.errors import InvalidValueError, NotFoundError
from gml.projects.yamlfile import read_yaml
from gml.tracking.capture.packages import normalised_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

log = logging.getLogger("gml")

# What installs others: the environment gets its own.
TOOLS: Final = frozenset({"pip", "uv"})
_FORMAT: Final = "gml-environment 1"
_PIN: Final = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)\s*(?P<rest>[=<>!~].*)?$")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_INCLUDE: Final = re.compile(r"^(?:-r|--requirement)[ =]?\s*(.+)$")


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """What an environment has to contain.

    Attributes:
        python: version, `3.11` or `3.11.7`; empty for any.
        lines: requirements as pip reads them, files that they name already put in.
        locked: whether the lines are everything, each with its exact version: dependencies of
            dependencies are not looked for.
        places: folders or archives from which packages are installed that no index has, by name.
    """

    python: str = ""
    lines: tuple[str, ...] = ()
    locked: bool = False
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Return what the environment is cached by: 64 hexadecimal digits."""
        facts = [_FORMAT, self.python, platform.machine(), platform.system(), str(self.locked), *self.lines]
        facts += [f"{name} {place}" for name, place in sorted(self.places.items())]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    def requirements(self) -> str:
        """Return the lines as a requirements file; a package with a place of its own is taken from there."""
        out = []
        for line in self.lines:
            match = _PIN.match(line)
            place = self.places.get(normalised_name(match["name"])) if match else None
            out.append(f"{match['name']} @ {place}" if match and place else line)
        return "".join(f"{line}\n" for line in out)


def spec_of_record(document: Mapping[str, Any], places: Mapping[str, str] | None = None) -> EnvSpec:
    """Return the environment of a run as a lock: every package with its version.

    Args:
        document: the run's environment document.
        places: where packages come from that no index has.

    Raises:
        NotFoundError: the record does not say which packages there were.
        InvalidValueError: it has names or versions that cannot be such.
    """
    packages = document.get("packages")
    if not isinstance(packages, dict) or not packages or list(packages) == ["error"]:
        raise NotFoundError("the record does not say which packages were installed")
    python = document.get("python")
    version = str(python.get("version", "")) if isinstance(python, dict) else ""
    for name, number in packages.items():
        # A record may come from somebody else, and these lines become arguments of an installer.
        if not _NAME.fullmatch(str(name)) or not _NUMBER.fullmatch(str(number)):
            raise InvalidValueError(f"the record has a package that is none: {name!r:.80} {number!r:.80}")
    lines = tuple(f"{name}=={number}" for name, number in sorted(packages.items()) if name not in TOOLS)
    known = {name: place for name, place in (places or {}).items() if name in packages}
    return EnvSpec(version, lines, locked=True, places=known)


def local_places(packages_path: Iterable[str], versions: Mapping[str, str]) -> dict[str, str]:
    """Return which packages were installed from a folder or URL, where the version is still the wanted one.

    Args:
        packages_path: the import path of an interpreter.
        versions: wanted version by name.
    """
    found = {}
    for folder in packages_path:
        for place in sorted(Path(folder).glob("*.dist-info/direct_url.json")) if folder else ():
            name, _, version = place.parent.name.removesuffix(".dist-info").rpartition("-")
            try:
                facts = json.loads(place.read_text("utf-8"))
            except (OSError, ValueError):
                continue
            url = str(facts.get("url", "")) if isinstance(facts, dict) else ""
            if versions.get(normalised_name(name)) == version and _still_there(url):
                found[normalised_name(name)] = url
    return found


def _still_there(url: str) -> bool:
    return bool(url) and (
        not url.startswith("file://") or Path(unquote(url.removeprefix("file://"))).exists()
    )


def read_python_env(path: Path) -> EnvSpec:
    """Read a `python_env.yaml`: `python`, `build_dependencies`, `dependencies`.

    Raises:
        InvalidValueError: it is malformed.
        NotFoundError: it, or a requirements file that it names, does not exist.
    """
    data = read_yaml(path)
    unknown = set(data) - {"python", "build_dependencies", "dependencies", "name"}
    if unknown:
        raise InvalidValueError(f"{path} has unknown keys: {', '.join(sorted(map(str, unknown)))}")
    lines: list[str] = []
    for key in ("build_dependencies", "dependencies"):
        lines += _texts(data.get(key), f"{key} of {path}")
    return EnvSpec(_version(data.get("python"), path), tuple(expand(lines, path.parent)))


def read_conda(path: Path) -> tuple[EnvSpec, list[str]]:
    """Read a `conda.yaml` for an environment without conda.

    Returns:
        Its Python, its `pip:` part; and the conda packages that only conda can install.

    Raises:
        InvalidValueError: it is malformed.
        NotFoundError: it, or a requirements file that it names, does not exist.
    """
    data = read_yaml(path)
    python, lines, others = "", [], []
    for entry in data.get("dependencies") or []:
        if isinstance(entry, dict):
            lines += _texts(entry.get("pip"), f"pip of {path}")
        elif isinstance(entry, str):
            name, _, version = entry.partition("=")
            if name.strip() == "python":
                python = version.lstrip("=").strip().removesuffix(".*")
            elif normalised_name(re.split(r"[<>=!~ ]", entry, maxsplit=1)[0]) not in {
                "pip",
                "setuptools",
                "wheel",
            }:
                others.append(entry)
        else:
            raise InvalidValueError(f"{path}: a dependency is text or pip: [...], not {entry!r:.60}")
    return EnvSpec(_version(python or None, path), tuple(expand(lines, path.parent))), others


def _version(value: Any, path: Path) -> str:
    if value is None:
        return ""
    text = str(value).strip()
    if not re.fullmatch(r"\d+(\.\d+){0,2}", text):
        raise InvalidValueError(
            f"{path}: python is {text!r}", hint="write a version in quotes, such as '3.11' or '3.11.7'"
        )
    return text


def _texts(value: Any, where: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidValueError(f"{where}: a list of requirements was expected, not {value!r:.60}")
    return value


def expand(lines: Iterable[str], folder: Path, depth: int = 0) -> list[str]:
    """Return requirement lines with the files they name put in, without comments.

    Raises:
        NotFoundError: a file does not exist.
        InvalidValueError: files include each other without end.
    """
    if depth > 10:
        raise InvalidValueError(f"requirements files in {folder} include each other")
    out: list[str] = []
    for raw in lines:
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        include = _INCLUDE.match(line)
        if include is None:
            out += [_absolute(line, folder)] if line else []
            continue
        path = folder / include[1].strip()
        try:
            text = path.read_text("utf-8")
        except OSError:
            raise NotFoundError(f"requirements file {path} does not exist") from None
        out += expand(text.replace("\\\n", " ").splitlines(), path.parent, depth + 1)
    return out


def _absolute(line: str, folder: Path) -> str:
    """Return a requirement whose relative path (`.`, `./wheel.whl`, `-e .`) starts at the project."""
    prefix, _, rest = line.rpartition(" ") if line.startswith(("-e ", "--editable ")) else ("", "", line)
    if rest.startswith((".", "/")) and (folder / rest).exists():
        return f"{prefix} {(folder / rest).resolve()}".strip()
    return line
