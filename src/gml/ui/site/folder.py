"""A folder that a site was built into, and what is known of it from the last time."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from gml import fs
from gml.domain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

NAME: Final = "site.json"
FORMAT: Final = "gml-site 1"


@dataclass
class Known:
    """What the site says of a run, for the parts of it that name many runs.

    Attributes:
        key: changes when the run's page has to be written again.
        name: of the run.
        status: of the run.
        experiment: id.
        position: where it is among all runs; greater is newer.
        parent: id of the run it is nested in, empty for none.
        pages: what belongs to its page: its data and the pages of its files.
        copies: names of the files' bytes.
        metrics: keys of its metrics.
    """

    key: str
    name: str
    status: str
    experiment: str
    position: str
    parent: str = ""
    pages: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)


@dataclass
class State:
    """What `site.json` holds.

    Attributes:
        made: of what made the pages; another one makes them all again.
        runs: by id.
        pages: path of each page -> what it was made of.
        copies: name of each file's bytes -> size.
        bounds: table -> lowest position of each of its pages.
    """

    made: str = ""
    runs: dict[str, Known] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    copies: dict[str, int] = field(default_factory=dict)
    bounds: dict[str, list[str]] = field(default_factory=dict)


class Folder:
    """Writes what differs, and removes what no page leads to any more.

    Args:
        path: of the folder.

    Raises:
        UsageError: there is something in it that is not a site of ours.
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = self.size = 0
        self._made: set[Path] = set()
        try:
            path.mkdir(parents=True, exist_ok=True)
            self.old = self._read()
        except OSError as error:
            raise fs.storage_error(error, f"cannot write into {path}") from None

    def _read(self) -> State:
        try:
            told = orjson.loads((self.path / NAME).read_bytes())
            if told.pop("format") == FORMAT:
                runs = {run_id: Known(**each) for run_id, each in told.pop("runs").items()}
                return State(**told, runs=runs)
        except FileNotFoundError:
            if any(each.name not in {".git", ".gitignore"} for each in self.path.iterdir()):
                raise UsageError(
                    f"{self.path} is not empty, and no site of gml is in it", hint="name an empty folder"
                ) from None
            return State()
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            pass
        raise UsageError(
            f"{self.path / NAME} is not what this gml writes", hint="remove the folder, or name another one"
        )

    def write(self, name: str, data: str | bytes) -> None:
        """Write a file where its bytes differ."""
        path = self.path / name
        content = data.encode("utf-8", "replace") if isinstance(data, str) else data
        self.size += len(content)
        with suppress(OSError):
            if path.stat().st_size == len(content) and path.read_bytes() == content:
                return
        try:
            if path.parent not in self._made:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._made.add(path.parent)
        except OSError as error:
            raise fs.storage_error(error, f"cannot write {path}") from None
        fs.write_atomic(path, content, durable=False)
        self.written += 1

    def remove(self, names: Iterable[str]) -> int:
        """Remove files of the last time; returns how many there were."""
        count = 0
        top = self.path.resolve()
        for name in names:
            path = self.path / name
            # The list of the last time may come from elsewhere, with the folder.
            if name == NAME or not path.resolve().is_relative_to(top) or ".git" in path.parts:
                continue
            try:
                path.unlink()
                count += 1
                while path.parent != self.path:
                    path = path.parent
                    path.rmdir()
            except OSError:
                continue
        return count

    def keep(self, state: State) -> None:
        """Remember what is there."""
        runs = {run_id: vars(known) for run_id, known in state.runs.items()}
        data = orjson.dumps({"format": FORMAT, **vars(state), "runs": runs}, option=orjson.OPT_SORT_KEYS)
        self.write(NAME, data)


def key_of(*parts: Any) -> str:
    """Return a short text that is the same for the same parts only."""
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:20]


def paged(
    runs: Sequence[tuple[str, str]], bounds: Sequence[str], size: int
) -> tuple[list[list[str]], list[str]]:
    """Return ids by pages, oldest first, so that one more run changes the last page only.

    Args:
        runs: (position, id), oldest first.
        bounds: the lowest position of each page, as it was returned the last time.
        size: runs a page; the last one may hold nearly twice as many.

    Example:
        >>> paged([("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")], [], 2)
        ([['1', '2'], ['3', '4']], ['a', 'c'])
        >>> paged([("a", "1"), ("c", "3"), ("d", "4"), ("e", "5")], ["a", "c"], 2)
        ([['1'], ['3', '4', '5']], ['a', 'c'])
    """
    groups: dict[int, list[tuple[str, str]]] = {}
    for run in runs:
        groups.setdefault(max(0, bisect_right(bounds, run[0]) - 1), []).append(run)
    pages: list[list[tuple[str, str]]] = []
    for _, group in sorted(groups.items()):
        rest = group
        while len(rest) >= 2 * size:
            pages.append(rest[:size])
            rest = rest[size:]
        pages.append(rest)
    return [[run_id for _, run_id in page] for page in pages], [page[0][0] for page in pages]


__all__ = ["FORMAT", "NAME", "Folder", "Known", "State", "key_of", "paged"]
