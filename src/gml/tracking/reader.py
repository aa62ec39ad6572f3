"""Reading runs: what is in the ledger and what live runs have in their journals, as one."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError, NotFoundError
from gml.domain.run import ACTIVE, DELETED, EDIT_FORMAT, KILLED, RUNNING, SCHEDULED, Document, Run, fold
from gml.ledger.view import LedgerView, RunEntry, only
from gml.tracking.journal import session as journal
from gml.tracking.journal.fold import SessionFold

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gml.domain.experiment import Experiment
    from gml.index.query import Order, Query
    from gml.index.query.fields import History
    from gml.index.store import RunIndex
    from gml.ledger.history import Columns
    from gml.workspace import Workspace

log = logging.getLogger("gml")

_RELATIVE: Final = re.compile(r"@(?:~(\d+))?")
_IDS: Final = re.compile(r"[0-9a-f]{4,32}")


class LiveSession:
    """A session whose journal is still here, read without changing anything."""

    def __init__(self, path: Path) -> None:
        self.segments: list[bytes] = []
        self.fold = SessionFold(path, self._seal)
        self.alive = False
        self.refresh()
        self.fold.document()  # a journal without header says nothing

    def refresh(self) -> None:
        """Read what was appended since, and whether somebody still writes."""
        self.fold.update()
        self.alive = bool(journal.alive_processes(self.fold.path))

    def _seal(self, data: bytes, points: int) -> dict[str, Any]:
        # What an earlier call of `document` made of points that were not sealed yet goes.
        del self.segments[len(self.fold.history.segments) :]
        self.segments.append(data)
        return {"at": "memory", "index": len(self.segments) - 1, "points": points}

    def document(self, *, points: bool = True) -> Document:
        """Return the session's document.

        Args:
            points: with the metric points, which stay in memory; otherwise only what they add up to.
        """
        document = self.fold.document()
        document["metrics"] = self.fold.history.metrics_json()
        if points:
            self._add_points(document)
        document["format"] = EDIT_FORMAT
        document["clock"] = 1 << 62
        if "status" not in document and not self.fold.only_adds:
            if self.fold.stays_open:
                document["status"] = RUNNING
            else:
                document["status"] = RUNNING if self.alive else KILLED
                document["end_time"] = None
        return document

    def _add_points(self, document: Document) -> None:
        segments = self.fold.history.segments
        inline, file, points = self.fold.history.tail()
        if file is not None:
            segments.append(self._seal(file, points))
        document["history"] = inline
        document["hist"] = segments


class Reader:
    """All runs of a repository at one moment.

    Args:
        workspace: the repository.
        at: a ledger commit to read instead of the present; live runs are then left out.
        progress: called with the number of runs read while the index is built from nothing.
        live: sessions that the caller keeps up to date, instead of reading all journals here.
        points: whether runs are read with their metric points, as `history` needs them of live runs.
    """

    def __init__(
        self,
        workspace: Workspace,
        at: str | None = None,
        progress: Callable[[int], None] | None = None,
        *,
        live: Mapping[str, LiveSession] | None = None,
        points: bool = True,
    ) -> None:
        self.workspace = workspace
        self.past = at is not None
        self.progress = progress
        self.live: dict[str, LiveSession] = {}
        self.damaged: list[GmlError] = []
        self._points_wanted = points
        if live is not None:
            self.live.update(live)
        elif at is None:
            self._read_live()
        # After the journals: what is committed while they are read must not fall between the two.
        self.view: LedgerView = workspace.ledger.view(at)

    def _read_live(self) -> None:
        for path in journal.sessions(self.workspace.journal_root):
            try:
                self.live[path.name] = LiveSession(path)
            except FileNotFoundError:
                continue
            except (GmlError, OSError) as error:
                log.warning("gml: cannot read the journal %s (%s)", path, error)

    # --- runs ---------------------------------------------------------------------------------

    def run(self, run_id: str) -> Run | None:
        """Return a run by its whole id, None when there is none."""
        entry = self.view.entry(run_id)
        if entry is None and run_id not in self.live:
            return None
        return self.load(entry or RunEntry(run_id, None, None))

    def load(self, entry: RunEntry) -> Run:
        """Return the run of an entry, with what its live session says."""
        record, edits = self.view.documents(entry)
        session = self.live.get(entry.run_id)
        if session is None:
            return fold(entry.run_id, record, edits.values())
        document = session.document(points=self._points_wanted)
        documents = [e for e in edits.values() if e.get("session") != session.fold.session]
        if record is not None and record.get("session") == session.fold.session:
            record = None
        if session.fold.role == journal.CREATE and record is None:
            run = fold(entry.run_id, document, documents)
        else:
            run = fold(entry.run_id, record, [*documents, document])
        if session.fold.stays_open:
            return replace(run, live=run.status in {RUNNING, SCHEDULED})
        return _alive(run) if session.alive else run

    def runs(self, *, deleted: bool = False) -> Iterator[Run]:
        """Yield runs, newest id first; damaged ones are collected in `damaged` and left out.

        Args:
            deleted: also yield deleted ones.
        """
        for entry in self.entries():
            try:
                run = self.load(entry)
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
        if not matches and not self.past and self.index.damaged():
            matches = self.view.match(text)
            if not matches:
                raise NotFoundError(
                    f"no run matches {text!r}, and {len(self.index.damaged())} runs cannot be read",
                    hint="`gml doctor` names them",
                )
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

    @cached_property
    def index(self) -> RunIndex:
        """The disposable index of the ledger at this moment, brought up to date when it is first used."""
        from gml.index.store import RunIndex

        return RunIndex.open(self.workspace.state_dir / "index.sqlite", self.view, self.progress)

    def _match_ids(self, text: str) -> list[str]:
        if not _IDS.fullmatch(text):
            return []
        live = [i for i in self.live if i.startswith(text) or i.endswith(text)]
        known = self.view.match(text) if self.past else self.index.match_ids(text)
        return list(dict.fromkeys([*known, *live]))

    def _match_names(self, text: str) -> list[str]:
        if self.past:
            return [run.run_id for run in self.runs() if run.name == text]
        live = self._readable(self.live)
        known = [i for i in self.index.match_names(text) if i not in self.live]
        return [r.run_id for r in live if r.name == text and r.lifecycle_stage == ACTIVE] + known

    def children(self, run_id: str) -> list[Run]:
        """Return the runs nested in a run, oldest first."""
        if self.past:
            found = [run for run in self.runs(deleted=True) if run.parent_run_id == run_id]
            return found[::-1]
        wanted = [i for i in self.index.children(run_id) if i not in self.live]
        return [run for run in self._readable([*wanted, *self.live]) if run.parent_run_id == run_id]

    def _readable(self, run_ids: Iterable[str]) -> list[Run]:
        """Return runs by id; damaged ones are collected in `damaged` and left out."""
        found = []
        for run_id in run_ids:
            try:
                run = self.run(run_id)
            except GmlError as error:
                self.damaged.append(error)
            else:
                found += [run] if run is not None else []
        return found

    def search(
        self,
        query: Query | None,
        orders: Sequence[Order] = (),
        *,
        now_ms: int,
        experiments: Collection[str] | None = None,
        stages: Collection[str] = (ACTIVE,),
        limit: int | None = None,
    ) -> list[Run]:
        """Return the runs that match a query, in order; newest first where there is none.

        Args:
            query: parsed, None for all runs.
            orders: parsed.
            now_ms: what relative times refer to.
            experiments: only runs of these experiment ids.
            stages: only runs of these life-cycle stages.
            limit: at most so many.

        Raises:
            QueryError: the query or order cannot be evaluated.
        """
        from gml.index.query import sort_runs
        from gml.index.store.compile import NotCompilableError, without_steps

        names = {e.experiment_id: e.name for e in self.experiments()}
        pick = _Picker(query, names, now_ms, self.points_of, experiments, stages)
        # The newest runs are found without an index, unless most of what is read might not be wanted.
        plain = query is None and not orders and experiments is None and ACTIVE in stages
        if self.past or (plain and not self.view.names("runs-x")):
            return self._scan(pick, orders, names, limit)
        steps = (query is not None and query.needs_history) or any(o.field.step is not None for o in orders)
        try:
            entries = self.index.search(
                without_steps(query) if query is not None and steps else query,
                () if steps else orders,
                now_ms=now_ms,
                experiments=experiments,
                stages=stages,
                limit=None if limit is None or steps else limit + len(self.live),
            )
        except NotCompilableError:
            return self._scan(pick, orders, names, limit)
        self.damaged += self.index.damaged()
        found = []
        for entry in entries:
            if entry.run_id not in self.live:
                try:
                    run = self.load(entry)
                except GmlError as error:
                    self.damaged.append(error)
                else:
                    # Only metric points, which the index does not have, are left to ask.
                    found += [run] if not steps or pick(run) else []
        live = [run for run in self._readable(self.live) if pick(run)]
        if orders and (live or steps):
            found = sort_runs([*found, *live], orders, experiment_names=names, history=self.points_of)
        elif live:
            found = sorted([*found, *live], key=_position, reverse=True)
        return found if limit is None else found[:limit]

    def _scan(
        self, pick: _Picker, orders: Sequence[Order], names: dict[str, str], limit: int | None
    ) -> list[Run]:
        from gml.index.query import sort_runs

        found = []
        # Ids that do not carry their time are listed last, wherever their time belongs.
        foreign = bool(self.view.names("runs-x"))
        for run in self.runs(deleted=DELETED in pick.stages):
            if pick(run):
                found.append(run)
                if not orders and not foreign and limit is not None and len(found) >= limit:
                    break
        if orders:
            found = sort_runs(found, orders, experiment_names=names, history=self.points_of)
        elif foreign:
            found.sort(key=_position, reverse=True)
        return found if limit is None else found[:limit]

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

    def points_of(self, run: Run, key: str) -> tuple[list[int], list[int], list[float]]:
        """Return `history` as plain numbers: numpy's False is not the False that a query tests for."""
        steps, times, values = self.history(run, key)
        return steps.tolist(), times.tolist(), values.tolist()

    def history(self, run: Run, key: str) -> Columns:
        """Return steps, timestamps and values of a metric; see `gml.tracking.contents.history`."""
        from gml.tracking.contents import history

        return history(self, run, key)


class _Picker:
    """Whether a run is among the answers, evaluated run by run."""

    def __init__(
        self,
        query: Query | None,
        names: dict[str, str],
        now_ms: int,
        history: History,
        experiments: Collection[str] | None,
        stages: Collection[str],
    ) -> None:
        self._query = query
        self._names = names
        self._now = now_ms
        self._history = history
        self._experiments = experiments
        self.stages = stages

    def __call__(self, run: Run) -> bool:
        from gml.index.query import matches

        if run.lifecycle_stage not in self.stages:
            return False
        if self._experiments is not None and run.experiment_id not in self._experiments:
            return False
        name = self._names.get(run.experiment_id)
        return self._query is None or matches(
            self._query, run, experiment_name=name, now_ms=self._now, history=self._history
        )


def _position(run: Run) -> str:
    from gml.index.store.rows import position

    return position(run.run_id, run.start_time)


def _alive(run: Run) -> Run:
    status = RUNNING if run.end_time is None or run.status == RUNNING else run.status
    return replace(run, live=True, status=status, end_time=None if status == RUNNING else run.end_time)
