"""Reading runs: what is in the ledger and what live runs have in their journals, as one."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import CorruptError, GmlError, NotFoundError
from gml.domain.ids import is_time_ordered
from gml.domain.metrics import number_from_json
from gml.domain.names import TAG_PARENT
from gml.domain.run import ACTIVE, EDIT_FORMAT, KILLED, RUNNING, Artifact, Document, Run, fold
from gml.ledger import layout
from gml.ledger.history import read_blocks
from gml.ledger.view import LedgerView, RunEntry, only
from gml.tracking.journal import session as journal
from gml.tracking.journal.fold import SessionFold

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from gml.domain.experiment import Experiment
    from gml.workspace import Workspace

log = logging.getLogger("gml")

_RELATIVE: Final = re.compile(r"@(?:~(\d+))?")
_IDS: Final = re.compile(r"[0-9a-f]{4,32}")


class LiveSession:
    """A session whose journal is still here, read without changing anything."""

    def __init__(self, path: Path) -> None:
        self.segments: list[bytes] = []
        self.fold = SessionFold(path, self._seal)
        self.fold.update()
        self.alive = bool(journal.alive_processes(path))

    def _seal(self, data: bytes, points: int) -> dict[str, Any]:
        self.segments.append(data)
        return {"at": "memory", "index": len(self.segments) - 1, "points": points}

    def document(self) -> Document:
        """Return the session's document, its points in memory."""
        document = self.fold.document()
        inline, file, points = self.fold.history.tail()
        segments = self.fold.history.segments
        if file is not None:
            segments.append(self._seal(file, points))
        document["metrics"] = self.fold.history.metrics_json()
        document["history"] = inline
        document["hist"] = segments
        document["format"] = EDIT_FORMAT
        document["clock"] = 1 << 62
        if "status" not in document:
            document["status"] = RUNNING if self.alive else KILLED
            document["end_time"] = None
        return document


class Reader:
    """All runs of a repository at one moment.

    Args:
        workspace: the repository.
        at: a ledger commit to read instead of the present; live runs are then left out.
    """

    def __init__(self, workspace: Workspace, at: str | None = None) -> None:
        self.workspace = workspace
        self.view: LedgerView = workspace.ledger.view(at)
        self.live: dict[str, LiveSession] = {}
        self.damaged: list[GmlError] = []
        if at is None:
            self._read_live()

    def _read_live(self) -> None:
        for path in journal.sessions(self.workspace.journal_root):
            try:
                self.live[path.name] = LiveSession(path)
            except FileNotFoundError:
                continue
            except (GmlError, OSError) as error:
                log.warning("gml: cannot read the journal %s (%s)", path, error)
        if self.live:
            # What was committed while the journals were read must not fall between the two.
            self.view = self.workspace.ledger.view()

    # --- runs ---------------------------------------------------------------------------------

    def run(self, run_id: str) -> Run | None:
        """Return a run by its whole id, None when there is none."""
        entry = self.view.entry(run_id)
        if entry is None and run_id not in self.live:
            return None
        return self._load(entry or RunEntry(run_id, None, None))

    def _load(self, entry: RunEntry) -> Run:
        record, edits = self.view.documents(entry)
        session = self.live.get(entry.run_id)
        if session is None:
            return fold(entry.run_id, record, edits.values())
        document = session.document()
        documents = [e for e in edits.values() if e.get("session") != session.fold.session]
        if record is not None and record.get("session") == session.fold.session:
            record = None
        if session.fold.role == journal.CREATE and record is None:
            run = fold(entry.run_id, document, documents)
        else:
            run = fold(entry.run_id, record, [*documents, document])
        return _alive(run) if session.alive else run

    def runs(self, *, deleted: bool = False) -> Iterator[Run]:
        """Yield runs, newest id first; damaged ones are collected in `damaged` and left out.

        Args:
            deleted: also yield deleted ones.
        """
        for entry in self.entries():
            try:
                run = self._load(entry)
            except GmlError as error:
                self.damaged.append(error)
                continue
            if deleted or run.lifecycle_stage == ACTIVE:
                yield run

    def entries(self) -> Iterator[RunEntry]:
        """Yield where each run is, newest id first."""
        waiting = sorted((i for i in self.live if self.view.entry(i) is None), reverse=True)
        for entry in self.view.entries():
            while waiting and waiting[0] > entry.run_id:
                yield RunEntry(waiting.pop(0), None, None)
            yield entry
        for run_id in waiting:
            yield RunEntry(run_id, None, None)

    def resolve(self, text: str) -> Run:
        """Return the run that a user means: an id, its unique beginning or end, a name, `@` or `@~2`.

        Raises:
            NotFoundError: there is none.
            AmbiguousError: there are several.
        """
        relative = _RELATIVE.fullmatch(text)
        if relative:
            return self._latest(int(relative.group(1) or 0), text)
        exact = self.run(text) if len(text) <= 256 and "/" not in text and text else None
        if exact is not None:
            return exact
        matches = self._match_ids(text)
        if not matches:
            matches = self._match_names(text)
        found = self.run(only(matches, text))
        if found is None:
            raise NotFoundError(f"run {text!r} has gone")
        return found

    def _latest(self, back: int, text: str) -> Run:
        for run in self.runs():
            if back == 0:
                return run
            back -= 1
        raise NotFoundError(f"there is no run {text!r}", hint="`gml ls` shows the runs of this repository")

    def _match_ids(self, text: str) -> list[str]:
        if not _IDS.fullmatch(text):
            return []
        live = [i for i in self.live if i.startswith(text) or i.endswith(text)]
        return list(dict.fromkeys([*self.view.match(text), *live]))

    def _match_names(self, text: str) -> list[str]:
        needle = b'"name":' + _json(text)
        found = []
        for entry in self.entries():
            plain = entry.run_id not in self.live and entry.folder is None and entry.record is not None
            if plain and entry.record is not None and needle not in self._raw(entry.record):
                continue
            try:
                run = self._load(entry)
            except GmlError:
                continue
            if run.name == text and run.lifecycle_stage == ACTIVE:
                found.append(run.run_id)
        return found

    def _raw(self, oid: str) -> bytes:
        try:
            return self.workspace.store.read(oid)[1]
        except GmlError:
            return b""

    def children(self, run_id: str) -> list[Run]:
        """Return the runs nested in a run, oldest first."""
        needle = _json(TAG_PARENT) + b":" + _json(run_id)
        found = []
        for entry in self.entries():
            if entry.run_id <= run_id and is_time_ordered(run_id):
                break
            plain = entry.run_id not in self.live and entry.folder is None and entry.record is not None
            if plain and entry.record is not None and needle not in self._raw(entry.record):
                continue
            run = self._load(entry)
            if run.parent_run_id == run_id:
                found.append(run)
        return found[::-1]

    def experiments(self) -> list[Experiment]:
        """Return all experiments, those of live runs that are not committed yet included."""
        from gml.domain.experiment import Experiment

        known = {e.experiment_id: e for e in self.view.experiments()}
        for session in self.live.values():
            facts = session.fold.header
            wanted = str(facts.get("experiment_id", "0"))
            if wanted not in known:
                known[wanted] = Experiment(wanted, str(facts.get("experiment", wanted)))
        return list(known.values())

    # --- history ------------------------------------------------------------------------------

    def history(self, run: Run, key: str) -> tuple[list[int], list[int], list[float]]:
        """Return steps, timestamps and values of a metric, sorted by step, then time.

        Raises:
            NotFoundError: the run has no such metric.
            CorruptError: the stored history does not match its digest.
        """
        if key not in run.metrics:
            known = ", ".join(sorted(run.metrics)[:10]) or "none"
            raise NotFoundError(f"run {run.run_id} has no metric {key!r}", hint=f"it has: {known}")
        points: list[tuple[int, int, float]] = []
        for part in run.history:
            for segment in part.segments:
                data = self.segment(run, part.session, dict(segment))
                for _, (steps, times, values) in read_blocks(data, f"history of run {run.run_id}", [key]):
                    points.extend(zip(steps.tolist(), times.tolist(), values.tolist(), strict=True))
            points.extend((s, t, number_from_json(v)) for s, t, v in part.inline.get(key, ()))
        points.sort(key=lambda p: (p[0], p[1]))
        if not points:
            return [], [], []
        steps_, times_, values_ = zip(*points, strict=True)
        return list(steps_), list(times_), list(values_)

    def segment(self, run: Run, session: str, segment: dict[str, Any]) -> bytes:
        """Return the bytes of a history file, verified."""
        match segment.get("at"):
            case "memory":
                return self.live[run.run_id].segments[segment["index"]]
            case "git":
                return self._git_segment(run, session, segment)
            case _:
                return self.workspace.blobs.read(str(segment["sha256"]))

    def _git_segment(self, run: Run, session: str, segment: dict[str, Any]) -> bytes:
        import hashlib

        path = layout.history_path(run.run_id)
        if session:
            folder = layout.edits_dir(run.run_id)
            names = [n for n in self.view.names(folder) if n.endswith(f"-{session}.hist")]
            path = f"{folder}/{names[0]}" if names else f"{folder}/*-{session}.hist"
        data = self.view.read(path)
        if data is None:
            raise CorruptError(f"{path} is missing from the ledger", hint="`gml doctor` names all damage")
        if hashlib.sha256(data).hexdigest() != segment["sha256"]:
            raise CorruptError(f"{path} does not match its digest", hint="`gml doctor` names all damage")
        return data

    # --- artifacts ----------------------------------------------------------------------------

    def artifact(self, run: Run, name: str) -> Artifact:
        """Return an artifact's facts.

        Raises:
            NotFoundError: the run has no such artifact; names the nearest.
        """
        found = run.artifacts.get(name)
        if found is None:
            from difflib import get_close_matches

            near = get_close_matches(name, run.artifacts, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"`gml artifacts ls {run.run_id}` lists them"
            raise NotFoundError(f"run {run.run_id} has no artifact {name!r}", hint=hint)
        return found

    def open_artifact(self, run: Run, name: str) -> BinaryIO:
        """Return a readable, verified file object of an artifact; the caller closes it."""
        import io

        facts = self.artifact(run, name)
        if facts.at == "cas":
            return self.workspace.blobs.open(facts.sha256)
        if facts.at == "stage":
            path = self.workspace.journal_root / run.run_id / journal.STAGED / facts.sha256
            try:
                return io.BytesIO(path.read_bytes())
            except FileNotFoundError:
                # Committed since: the ledger has it now.
                now = Reader(self.workspace)
                return now.open_artifact(now.resolve(run.run_id), name)
        data = self.view.read(layout.artifact_path(run.run_id, name, facts.at))
        if data is None:
            raise CorruptError(f"artifact {name} of run {run.run_id} is missing from the ledger")
        import hashlib

        if hashlib.sha256(data).hexdigest() != facts.sha256:
            raise CorruptError(f"artifact {name} of run {run.run_id} does not match its digest")
        return io.BytesIO(data)

    def environment(self, run: Run) -> dict[str, Any]:
        """Return the full environment of a run; empty where it was not captured."""
        session = self.live.get(run.run_id)
        if session is not None and session.fold.environment:
            return session.fold.environment
        digest = run.environment.get("digest")
        if not digest:
            return {}
        from gml.ledger.codec import decode

        path = layout.environment_path(str(digest))
        data = self.view.read(path)
        return {} if data is None else decode(data, path)


def _alive(run: Run) -> Run:
    from dataclasses import replace

    status = RUNNING if run.end_time is None or run.status == RUNNING else run.status
    return replace(run, live=True, status=status, end_time=None if status == RUNNING else run.end_time)


def _json(text: str) -> bytes:
    import orjson

    out: bytes = orjson.dumps(text)
    return out


def artifact_digest(run: Run) -> str | None:
    """Return one digest over all artifacts of a run: SHA-256 of their `sha256sum` listing, sorted by path."""
    if not run.artifacts:
        return None
    import hashlib

    listing = "".join(f"{a.sha256}  {name}\n" for name, a in sorted(run.artifacts.items()))
    return hashlib.sha256(listing.encode()).hexdigest()
