"""Reading a session's files into the document that the ledger keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.ledger.history import HistoryBuilder
from gml.tracking.journal.lines import FORMAT, NoHeaderError, check_header, parse
from gml.tracking.journal.session import RESUME, SHARED, left_well, process_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

READ_SIZE: Final = 1024 * 1024
_HEADER_KEYS: Final = ("experiment_id", "name", "user", "start_time")


class SessionFold:
    """The state that a session's events add up to. Can be brought up to date again and again.

    Args:
        path: the session's directory.
        seal: see `HistoryBuilder`.
        session: the session it must be; None for whichever is there.
        fallback: what to take for the journal's first line where that line is damaged.
    """

    def __init__(
        self,
        path: Path,
        seal: Callable[[bytes, int], dict[str, Any]],
        session: str | None = None,
        fallback: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self._wanted = session
        self.history = HistoryBuilder(seal)
        self.header: dict[str, Any] = dict(fallback or {})
        self._salvage = fallback is not None
        self.damaged_lines = 0
        self.environment: dict[str, Any] | None = None
        self.sizes: dict[str, int] = {}
        self._offsets: dict[str, int] = {}
        self._document: dict[str, Any] = {}
        self._params: dict[str, str] = {}
        self._guesses: dict[str, str] = {}
        self._tags: dict[str, str | None] = {}
        self._artifacts: dict[str, dict[str, Any] | None] = {}
        self._inputs: list[dict[str, Any]] = []
        self._outputs: list[dict[str, Any]] = []

    def update(self) -> None:
        """Read everything that was appended since the last call.

        Raises:
            FormatError: the journal was written by a newer gml, or is none.
        """
        self._read(self.path / SHARED, shared=True)
        for file in process_files(self.path):
            self._read(file, shared=False)

    @property
    def is_there(self) -> bool:
        """Whether the directory exists and is not that of another session that came after."""
        try:
            with (self.path / SHARED).open("rb") as stream:
                events, _, _ = parse(stream.readline())
        except OSError:
            return False
        return (
            self._wanted is None or not events or check_header(events[0], "").get("session") == self._wanted
        )

    def _read(self, file: Path, *, shared: bool) -> None:
        offset = self._offsets.get(file.name, 0)
        with file.open("rb") as stream:
            stream.seek(offset)
            rest = b""
            while chunk := stream.read(READ_SIZE):
                data = rest + chunk
                events, consumed, bad = parse(data)
                self.damaged_lines += bad
                # The header of a process file is information: the points after a damaged one stand.
                required = shared and not self._salvage
                if offset == 0 and events and (required or events[0][0] == FORMAT):
                    facts = check_header(events[0], str(file))
                    self.header = facts if shared else self.header
                offset += consumed
                rest = data[consumed:]
                self._apply(events)
        self._offsets[file.name] = offset
        self.sizes[file.name] = offset + len(rest)

    def _apply(self, events: list[list[Any]]) -> None:
        add = self.history.add
        for event in events:
            if event[0] == "m" and len(event) == 5:
                _, key, value, timestamp, step = event
                add(key, value if value.__class__ is float else float(value), timestamp, step)
            else:
                self._apply_rare(event)

    def _apply_rare(self, event: list[Any]) -> None:
        match event:
            case ["p", str(key), str(value)]:
                self._params.setdefault(key, value)
            case ["P", str(key), str(value)]:
                self._guesses.setdefault(key, value)
            case ["t", str(key), str(value)]:
                self._tags[key] = value
            case ["T", str(key)]:
                self._tags[key] = None
            case ["a", str(path), dict(facts)]:
                self._artifacts[path] = facts
            case ["A", str(path)]:
                self._artifacts[path] = None
            case ["i", dict(entry)]:
                self._inputs.append(entry)
            case ["o", dict(entry)]:
                self._outputs.append(entry)
            case ["set", str(key), value]:
                self._document[key] = value
            case ["x", str(experiment_id), str(name)]:
                self.header = {**self.header, "experiment_id": experiment_id, "experiment": name}
            case ["env", dict(full)]:
                self.environment = full
            case ["status", str(status), end_time]:
                self._document["status"] = status
                self._document["end_time"] = end_time
            case [str(kind), *_] if kind in {FORMAT, "end"}:
                pass
            case _:
                self.damaged_lines += 1

    @property
    def session(self) -> str:
        """Id of the session."""
        return str(self.header.get("session", ""))

    @property
    def role(self) -> str:
        """`create` or `resume`."""
        return str(self.header.get("role", "create"))

    @property
    def only_adds(self) -> bool:
        """Whether nobody runs the training in this session: something was logged to a run that had ended."""
        return self.role == RESUME and (
            bool(self.header.get("late")) or self.stays_open or left_well(self.path)
        )

    @property
    def is_salvaged(self) -> bool:
        """Whether the journal's first line was damaged and made up."""
        return self._salvage

    @property
    def stays_open(self) -> bool:
        """Whether the run goes on after its processes: its end is only what somebody says is its end."""
        return bool(self.header.get("open"))

    @property
    def status(self) -> str | None:
        """Status that a process of the run set, None while nobody did."""
        return self._document.get("status")

    @property
    def artifacts(self) -> dict[str, dict[str, Any] | None]:
        """Artifacts by path; None for those that were removed."""
        return self._artifacts

    def document(self) -> dict[str, Any]:
        """Return what the events say, without metric points (see `history`)."""
        if not self.header:
            raise NoHeaderError(f"{self.path / SHARED} has no header")
        out: dict[str, Any] = {"session": self.session, "writer": self.header.get("writer", "")}
        if self.role == "create":
            out |= {key: self.header[key] for key in _HEADER_KEYS if key in self.header}
        out |= self._document
        removed_counts = self.role != "create"
        sections: dict[str, Any] = {
            "params": {**self._guesses, **self._params},
            "tags": {k: v for k, v in self._tags.items() if v is not None or removed_counts},
            "artifacts": {k: v for k, v in self._artifacts.items() if v is not None or removed_counts},
            "inputs": list(self._inputs),
            "outputs": list(self._outputs),
        }
        return out | {key: value for key, value in sections.items() if value}
