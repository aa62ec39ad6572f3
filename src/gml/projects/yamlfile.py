"""Reading YAML that other people wrote: plain values only, no bombs, errors with a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import InvalidValueError, NotFoundError
from gml.fs import storage_error

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 1 << 20


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty mapping.

    Aliases are refused: a few lines of them unfold into gigabytes. So are keys that are given twice.

    Raises:
        NotFoundError: there is no such file.
        InvalidValueError: it is not YAML, not a mapping, too large, or uses aliases.
        StorageError: it cannot be read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidValueError(
                f"{path} is larger than {MAX_BYTES >> 20} MiB", hint="it is meant to be short"
            )
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{path} does not exist") from None
    except OSError as error:
        raise storage_error(error, f"cannot read {path}") from error
    return parse_yaml(data, str(path))


def parse_yaml(data: bytes, where: str) -> dict[str, Any]:
    """Return the mapping in YAML text. See `read_yaml`."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                event: Any = self.get_event()  # type: ignore[no-untyped-call]
                raise InvalidValueError(
                    f"{where}, line {event.start_mark.line + 1}: aliases are not allowed", hint="write it out"
                )
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[Any] = set()
            for key, _ in node.value:
                name = getattr(key, "value", None)
                if isinstance(name, str) and name in seen:
                    raise InvalidValueError(
                        f"{where}, line {key.start_mark.line + 1}: {name!r} is given twice"
                    )
                seen.add(name if isinstance(name, str) else id(key))
            return super().construct_mapping(node, deep)

    try:
        value = yaml.load(data, Loader)  # noqa: S506 - derived from SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise InvalidValueError(f"{where}{line}: not YAML: {problem}") from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        if isinstance(error, InvalidValueError):
            raise
        raise InvalidValueError(f"{where}: not YAML: {type(error).__name__}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidValueError(f"{where}: a mapping was expected, not {type(value).__name__}")
    return value
