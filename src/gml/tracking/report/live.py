"""Following running trainings: each look reads only what the journals have got since the last one."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gml.domain.errors import GmlError
from gml.domain.run import EDIT_FORMAT, KILLED, RUNNING, Run, fold
from gml.tracking.journal import session as journal
from gml.tracking.journal.fold import SessionFold
from gml.tracking.reader import LiveSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.tracking.reader import Reader

log = logging.getLogger("gml")


@dataclass(slots=True)
class Followed:
    """A run that is followed, as it was at the last look.

    Attributes:
        run: the run, without metric points.
        changed: metrics whose last point is another one than at the look before.
        news: whether anything but metrics changed: it appeared, or its status, params or tags did.
    """

    run: Run
    changed: frozenset[str] = field(default_factory=frozenset)
    news: bool = True


class Follower:
    """The runs that were running at some look since the first.

    Args:
        reader: of the present; it is brought up to date by each look.
        accepts: whether a run is to be followed, all by default.

    Example:
        >>> follower = Follower(Reader(workspace))  # doctest: +SKIP
        >>> [each.run.name for each in follower.look()]  # doctest: +SKIP
        ['forest']
    """

    def __init__(self, reader: Reader, accepts: Callable[[Run], bool] | None = None) -> None:
        self._reader = reader
        self._accepts = accepts
        self._known: dict[str, Run] = {}
        self._committed: set[str] = set()

    def look(self) -> list[Followed]:
        """Return all runs that are followed, newest first, with what changed since the last call.

        A run that ended stays in the list with its last state, for as long as it is followed.
        """
        refresh(self._reader)
        current: dict[str, Run] = {}
        for run_id in {*self._reader.live, *self._known}:
            run = self._load(run_id)
            if run is not None and (self._accepts is None or self._accepts(run)):
                current[run_id] = run
        before, self._known = self._known, current
        return [_compare(current[key], before.get(key)) for key in sorted(current, reverse=True)]

    def _load(self, run_id: str) -> Run | None:
        session = self._reader.live.get(run_id)
        known = self._known.get(run_id)
        try:
            if session is not None:
                self._committed.discard(run_id)
                return _light(self._reader, run_id, session)
            if run_id in self._committed:
                return known  # nothing but edits can come, and they are not followed
            run = self._reader.run(run_id)
        except (GmlError, OSError):
            return known  # at the next look it may be whole again
        if run is None:
            return known
        self._committed.add(run_id)
        return replace(run, history=())


def refresh(reader: Reader) -> None:
    """Bring a reader's live runs and its ledger up to date, reading only what was appended.

    The index of the reader stays at the moment it was opened. A journal that cannot be read is logged.
    """
    sessions = {path.name: path for path in journal.sessions(reader.workspace.journal_root)}
    for run_id, path in sessions.items():
        known = reader.live.get(run_id)
        try:
            if known is None or not _goes_on(known):
                reader.live[run_id] = LiveSession(path)
            else:
                known.fold.update()
                known.alive = bool(journal.alive_processes(path))
        except FileNotFoundError:
            continue  # it was committed just now: the next look finds it in the ledger
        except (GmlError, OSError) as error:
            log.warning("gml: cannot read the journal %s (%s)", path, error)
    for run_id in reader.live.keys() - sessions.keys():
        del reader.live[run_id]
    # The ledger last: what is committed meanwhile must not fall between the two.
    if reader.workspace.ledger.tip() != reader.view.commit:
        reader.view = reader.workspace.ledger.view()


def _goes_on(known: LiveSession) -> bool:
    """Whether the directory is still that of this session, and not of one that resumed the run."""

    def never(data: bytes, points: int) -> dict[str, object]:
        raise AssertionError(len(data), points)  # only the header is looked at

    return SessionFold(known.fold.path, never, known.fold.session).is_there


def _light(reader: Reader, run_id: str, session: LiveSession) -> Run:
    """Return a live run without its points, which the reader would have to encode for it each time."""
    document: dict[str, Any] = session.fold.document()
    document["metrics"] = session.fold.history.metrics_json()
    document |= {"format": EDIT_FORMAT, "clock": 1 << 62}
    if "status" not in document and not session.fold.only_adds:
        document |= {"status": RUNNING if session.alive else KILLED, "end_time": None}
    entry = reader.view.entry(run_id)
    record, edits = reader.view.documents(entry) if entry is not None else (None, {})
    others = [e for e in edits.values() if e.get("session") != session.fold.session]
    if record is not None and record.get("session") == session.fold.session:
        record = None
    if session.fold.role == journal.CREATE and record is None:
        run = fold(run_id, document, others)
    else:
        run = fold(run_id, record, [*others, document])
    return replace(run, history=(), live=session.alive)


def _compare(run: Run, before: Run | None) -> Followed:
    if before is None:
        return Followed(run, frozenset(run.metrics))
    changed = frozenset(
        key
        for key, now in run.metrics.items()
        if key not in before.metrics or now.count != before.metrics[key].count
    )
    same = (run.status, run.name, run.params, run.tags) == (
        before.status,
        before.name,
        before.params,
        before.tags,
    )
    return Followed(run, changed, not same)
