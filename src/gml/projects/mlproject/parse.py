"""Reading MLproject files: entry points, parameters, environments. The format is MLflow's."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import InvalidValueError, NotFoundError
from gml.projects.isolation import check_inside
from gml.projects.yamlfile import read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("gml")

FILE_NAME: Final = "mlproject"
MAIN: Final = "main"
ENVIRONMENT_KEYS: Final = ("python_env", "conda_env", "docker_env")
TYPES: Final = ("string", "str", "float", "int", "integer", "bool", "boolean", "path", "uri")
_PROJECT_KEYS: Final = ("name", "entry_points", *ENVIRONMENT_KEYS)
_ENTRY_KEYS: Final = ("parameters", "command", "needs", "outs", "deps")
_DOCKER_KEYS: Final = ("image", "volumes", "environment")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an entry point.

    Attributes:
        name: its name.
        kind: one of `TYPES`.
        default: text, None where a value must be given.
    """

    name: str
    kind: str = "string"
    default: str | None = None


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """Something a project can run.

    Attributes:
        name: its name.
        command: template with `{parameter}`; runs in bash where it needs a shell.
        parameters: by name.
        script: it is a file of the project that no entry point names.
        needs: entry points that must have run before.
        outs: files and folders it writes, relative to the project.
        deps: files and folders whose content it depends on; None for the whole project.
    """

    name: str
    command: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    script: bool = False
    needs: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()
    deps: tuple[str, ...] | None = None

    @property
    def is_step(self) -> bool:
        """Whether it is a step of a pipeline."""
        return bool(self.needs or self.outs or self.deps is not None)


@dataclass(frozen=True, slots=True)
class Docker:
    """A container to run in.

    Attributes:
        image: name of the image.
        volumes: `/host:/container` pairs.
        environment: variables: a name to copy, or name and value.
    """

    image: str
    volumes: tuple[str, ...] = ()
    environment: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Project:
    """A project.

    Attributes:
        name: its name, perhaps empty.
        folder: where it is.
        entry_points: by name.
        env_kind: `python`, `conda`, `docker` or `none`.
        env_file: of python and conda.
        docker: of docker.
        described: whether there is an MLproject file.
    """

    name: str
    folder: Path
    entry_points: Mapping[str, EntryPoint]
    env_kind: str = "none"
    env_file: Path | None = None
    docker: Docker | None = None
    described: bool = False

    def entry_point(self, name: str) -> EntryPoint:
        """Return an entry point; a `.py`, `.sh` or `.R` file that none names is one by itself.

        Raises:
            NotFoundError: there is neither; names the nearest.
            InvalidValueError: the file is outside of the project.
        """
        found = self.entry_points.get(name)
        if found is not None:
            return found
        suffix = Path(name).suffix
        if suffix in {".py", ".sh", ".R"}:
            path = check_inside(self.folder, self.folder / name, f"entry point {name!r}")
            if path.is_file():
                return EntryPoint(name, "", script=True)
            raise NotFoundError(f"there is no file {name!r} in the project {self.folder}")
        near = get_close_matches(name, self.entry_points, 1)
        known = ", ".join(sorted(self.entry_points)) or "none; name a .py, .sh or .R file"
        hint = f"did you mean {near[0]!r}?" if near else f"it has: {known}"
        raise NotFoundError(f"the project has no entry point {name!r}", hint=hint)


def load_project(folder: Path) -> Project:
    """Read the project in a folder; without an MLproject file one that has only scripts.

    Raises:
        NotFoundError: there is no such folder, or an environment file that it names is missing.
        InvalidValueError: the file is malformed; the line says where.
    """
    if not folder.is_dir():
        raise NotFoundError(f"there is no project folder {folder}")
    file = next((p for p in sorted(folder.iterdir()) if p.name.lower() == FILE_NAME and p.is_file()), None)
    if file is None:
        return _undescribed(folder)
    data = read_yaml(file)
    where = str(file)
    _check_keys(data, _PROJECT_KEYS, where)
    kind, env_file, docker = _environment(data, folder, where)
    points = data.get("entry_points") or {}
    if not isinstance(points, dict):
        raise InvalidValueError(f"{where}: entry_points is a mapping of names, not {type(points).__name__}")
    entries = {str(name): _entry(str(name), spec, where) for name, spec in points.items()}
    return Project(str(data.get("name") or ""), folder, entries, kind, env_file, docker, described=True)


def _undescribed(folder: Path) -> Project:
    for kind, name in (("python", "python_env.yaml"), ("conda", "conda.yaml")):
        if (folder / name).is_file():
            return Project(folder.name, folder, {}, kind, folder / name)
    return Project(folder.name, folder, {})


def _check_keys(data: Mapping[Any, Any], known: tuple[str, ...], where: str) -> None:
    for key in data:
        if key in known:
            continue
        near = get_close_matches(str(key), known, 1, 0.8)
        if near:
            raise InvalidValueError(f"{where}: unknown key {key!r}", hint=f"did you mean {near[0]!r}?")
        log.warning("gml: %s: key %r is not known and has no effect", where, key)


def _environment(data: Mapping[str, Any], folder: Path, where: str) -> tuple[str, Path | None, Docker | None]:
    given = [key for key in ENVIRONMENT_KEYS if data.get(key) is not None]
    if len(given) > 1:
        raise InvalidValueError(
            f"{where}: Project cannot contain multiple environment fields",
            hint=f"keep one of {', '.join(given)}",
        )
    if not given:
        found = _undescribed(folder)
        return found.env_kind, found.env_file, None
    kind = given[0].removesuffix("_env")
    value = data[given[0]]
    if kind == "docker":
        return kind, None, _docker(value, where)
    if not isinstance(value, str):
        raise InvalidValueError(f"{where}: {given[0]} is the name of a file")
    path = check_inside(folder, folder / value, f"{given[0]} {value!r} of {where}")
    if not path.is_file():
        raise NotFoundError(f"{where}: {given[0]} {value!r} does not exist")
    return kind, path, None


def _docker(value: Any, where: str) -> Docker:
    if not isinstance(value, dict) or not isinstance(value.get("image"), str) or not value["image"].strip():
        raise InvalidValueError(f"{where}: docker_env needs an image", hint="docker_env: {image: NAME}")
    _check_keys(value, _DOCKER_KEYS, f"{where}, docker_env")
    if value["image"].startswith("-"):
        raise InvalidValueError(f"{where}: an image cannot start with a dash: {value['image']!r}")
    volumes = _texts(value.get("volumes"), f"{where}: volumes")
    variables: list[tuple[str, str | None]] = []
    for item in value.get("environment") or []:
        if isinstance(item, str):
            variables.append((item, None))
        elif isinstance(item, list) and len(item) == 2:
            variables.append((str(item[0]), str(item[1])))
        else:
            raise InvalidValueError(f"{where}: environment is a list of names and [name, value] pairs")
    return Docker(value["image"], volumes, tuple(variables))


def _entry(name: str, spec: Any, where: str) -> EntryPoint:
    here = f"{where}, entry point {name}"
    if not isinstance(spec, dict):
        raise InvalidValueError(f"{here}: a mapping with a command was expected, not {type(spec).__name__}")
    _check_keys(spec, _ENTRY_KEYS, here)
    command = spec.get("command")
    if not isinstance(command, str) or not command.strip():
        raise InvalidValueError(f"{here}: it needs a command")
    parameters = spec.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidValueError(f"{here}: parameters is a mapping of names")
    needs, outs, deps = (_texts(spec.get(key), f"{here}: {key}") for key in ("needs", "outs", "deps"))
    return EntryPoint(
        name,
        command.strip(),
        {str(key): _parameter(str(key), value, here) for key, value in parameters.items()},
        needs=needs,
        outs=tuple(_inside(path, f"{here}: outs") for path in outs),
        deps=None if spec.get("deps") is None else tuple(_inside(path, f"{here}: deps") for path in deps),
    )


def _inside(text: str, where: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.parts or text.startswith("-"):
        raise InvalidValueError(f"{where}: {text!r} is no path within the project")
    return path.as_posix()


def _parameter(name: str, spec: Any, where: str) -> Parameter:
    if isinstance(spec, dict):
        _check_keys(spec, ("type", "default"), f"{where}, parameter {name}")
        kind, default = spec.get("type", "string"), spec.get("default")
    else:
        kind, default = spec, None
    if kind not in TYPES:
        raise InvalidValueError(
            f"{where}: parameter {name} has the type {kind!r}",
            hint="use string, float, int, bool, path or uri",
        )
    if isinstance(default, (dict, list)):
        raise InvalidValueError(f"{where}: the default of parameter {name} is a single value")
    return Parameter(name, str(kind), None if default is None else str(default))


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise InvalidValueError(f"{where} is a list of texts")
    return tuple(items)
