"""The values of an entry point's parameters: given ones, defaults, types, paths and URIs."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml.cas.urls import is_url, receive
from gml.domain.errors import GmlError, InvalidValueError, NotFoundError, UsageError
from gml.tracking.capture.keys import is_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.projects.mlproject.parse import EntryPoint, Parameter

_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:.+")
_BOOLEANS: Final = frozenset({"true", "false", "yes", "no", "1", "0", "on", "off"})


@dataclass(frozen=True, slots=True)
class Values:
    """Values that are ready for the command.

    Attributes:
        named: of the parameters that the entry point has.
        extra: given ones that it has not; they become options.
        data: local paths of path parameters, by name; they are hashed and recorded as inputs.
    """

    named: Mapping[str, str]
    extra: Mapping[str, str]
    data: Mapping[str, Path]


def resolve_values(
    entry: EntryPoint, given: Mapping[str, str], project: Path, cwd: Path, storage: Path | None
) -> Values:
    """Return the values of an entry point's parameters.

    Args:
        entry: the entry point.
        given: what the user gave.
        project: folder of the project; defaults of paths start there.
        cwd: where given relative paths start.
        storage: where remote files of path parameters go; a temporary folder without one.

    Raises:
        UsageError: values are missing; all of them are named.
        InvalidValueError: values are not of their type; all of them are named.
        NotFoundError: a path does not exist.
    """
    missing = [
        name
        for name, parameter in entry.parameters.items()
        if name not in given and parameter.default is None
    ]
    if missing:
        listed = ", ".join(map(repr, missing))
        raise UsageError(
            f"No value given for missing parameters: {listed}",
            hint=" ".join(f"-P {name}=..." for name in missing),
        )
    wrong: list[str] = []
    named: dict[str, str] = {}
    data: dict[str, Path] = {}
    for number, (name, parameter) in enumerate(entry.parameters.items()):
        value = given[name] if name in given else str(parameter.default)
        try:
            if parameter.kind == "path":
                base = cwd if name in given else project
                path = _path(name, value, base, project, storage, number, trusted=name in given)
                named[name], data[name] = str(path), path
            else:
                named[name] = _checked(parameter, value)
        except GmlError as error:
            wrong.append(error.message)
    if wrong:
        kind: Any = InvalidValueError
        raise kind(f"entry point {entry.name}: {'; '.join(wrong)}", hint="correct the values given with -P")
    extra = {name: value for name, value in given.items() if name not in entry.parameters}
    return Values(named, extra, data)


def _checked(parameter: Parameter, value: str) -> str:
    kind = parameter.kind
    if kind == "float" and not is_number(value):
        raise InvalidValueError(f"{parameter.name} is a float, not {value!r}")
    if kind in {"int", "integer"} and not re.fullmatch(r"\s*[+-]?\d+\s*", value):
        raise InvalidValueError(f"{parameter.name} is an integer, not {value!r}")
    if kind in {"bool", "boolean"} and value.lower() not in _BOOLEANS:
        raise InvalidValueError(f"{parameter.name} is true or false, not {value!r}")
    if kind == "uri" and not _URI.fullmatch(value):
        raise InvalidValueError(f"{parameter.name} is a URI, not {value!r}")
    return value


def _path(
    name: str, value: str, base: Path, project: Path, storage: Path | None, number: int, *, trusted: bool
) -> Path:
    if is_url(value) and not value.startswith("file://"):
        folder = storage or Path(tempfile.mkdtemp(prefix="gml-storage-"))
        target = folder / f"param_{number}" / (value.rstrip("/").rpartition("/")[2] or "data")
        receive(value, target)
        return target.absolute()
    text = value.removeprefix("file://")
    path = Path(text)
    if not path.is_absolute():
        path = base / path if (base / path).exists() or not trusted else project / path
        inside = path.resolve().is_relative_to(project.resolve()) or (
            trusted and path.resolve().is_relative_to(base.resolve())
        )
        if not inside:
            raise InvalidValueError(f"{name}: {value!r} leads out of the project; give an absolute path")
    elif not trusted:
        raise InvalidValueError(f"{name}: the default {value!r} leads out of the project")
    if not path.exists():
        raise NotFoundError(f"{name}: there is no {value!r}")
    return path.absolute()
