"""Selecting runs by their code, together with a query, an order and a limit."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gml.domain.errors import GmlError, UsageError
from gml.domain.run import ACTIVE
from gml.tracking.code.facts import read_facts
from gml.tracking.code.places import Places, branch_places, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from gml.domain.run import Run
    from gml.git.log import CommitLog
    from gml.index.query import Order, Query
    from gml.tracking.code.facts import Facts
    from gml.tracking.reader import Reader


@dataclass(frozen=True, slots=True)
class CodeSelection:
    """Conditions on the code of runs; all given ones must hold.

    Attributes:
        commit: a revision or a range `A..B`, `A...B`.
        branch: name of a branch.
        author: part of the author's name or address, or `me`; case does not matter.
        since: started at this time or later, as `gml.index.query.times.parse_time` reads it.
        until: started before the end of this time.
        dirty: with (True) or without (False) uncommitted changes.
        touching: paths or patterns, as `gml.tracking.code.touching` describes.
    """

    commit: str | None = None
    branch: str | None = None
    author: str | None = None
    since: str | None = None
    until: str | None = None
    dirty: bool | None = None
    touching: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != CodeSelection()


@dataclass(slots=True)
class Selected:
    """Runs, and lines for people about how they were found."""

    runs: list[Run]
    notes: list[str] = field(default_factory=list)


def select_runs(
    reader: Reader,
    selection: CodeSelection,
    query: Query | None = None,
    orders: Sequence[Order] = (),
    *,
    now_ms: int,
    experiments: Collection[str] | None = None,
    stages: Collection[str] = (ACTIVE,),
    limit: int | None = None,
) -> Selected:
    """Return the runs that match a selection and a query, in order; newest first where there is none.

    Only the runs that are returned are loaded.

    Args:
        reader: the repository.
        selection: conditions on the code.
        query: parsed, None for all runs.
        orders: parsed.
        now_ms: what relative times refer to, milliseconds since the epoch.
        experiments: only runs of these experiment ids.
        stages: only runs of these life-cycle stages.
        limit: at most so many.

    Raises:
        NotFoundError: a revision, branch or path does not exist.
        UsageError: a time is malformed.
        QueryError: the query or order cannot be evaluated.
    """
    if not selection:
        found = reader.search(
            query, orders, now_ms=now_ms, experiments=experiments, stages=stages, limit=limit
        )
        return Selected(found)
    facts = read_facts(reader, experiments, stages)
    wanted, loaded = _matching(reader, query, orders, facts, now_ms, experiments, stages)
    notes: list[str] = []
    chosen = [facts[run_id] for run_id in wanted if run_id in facts]
    for keep in _filters(reader, selection, facts, now_ms, notes):
        chosen = keep(chosen)
    found = []
    for each in chosen:
        if limit is not None and len(found) >= limit:
            break
        run = loaded.get(each.run_id) or _load(reader, each.run_id)
        if run is not None:
            found.append(run)
    return Selected(found, notes)


def _matching(
    reader: Reader,
    query: Query | None,
    orders: Sequence[Order],
    facts: dict[str, Facts],
    now_ms: int,
    experiments: Collection[str] | None,
    stages: Collection[str],
) -> tuple[Collection[str], dict[str, Run]]:
    """Return the ids of the runs that match a query, in order, and what of them was loaded for it."""
    from gml.index.store.compile import NotCompilableError

    if query is None and not orders:
        return facts, {}
    if not reader.past and not reader.live:
        with suppress(NotCompilableError):
            entries = reader.index.search(
                query, orders, now_ms=now_ms, experiments=experiments, stages=stages
            )
            return [entry.run_id for entry in entries], {}
    runs = reader.search(query, orders, now_ms=now_ms, experiments=experiments, stages=stages)
    loaded = {run.run_id: run for run in runs}
    return loaded, loaded


def _load(reader: Reader, run_id: str) -> Run | None:
    try:
        return reader.run(run_id)
    except GmlError as error:
        reader.damaged.append(error)
        return None


def _filters(
    reader: Reader, selection: CodeSelection, facts: dict[str, Facts], now_ms: int, notes: list[str]
) -> Iterator[Callable[[list[Facts]], list[Facts]]]:
    """Yield what narrows a list of runs, the cheap conditions first."""
    from gml.git.log import CommitLog

    log = CommitLog(reader.workspace.store)
    since, until = _bounds(selection, now_ms)
    if since is not None or until is not None:
        yield lambda runs: [
            f
            for f in runs
            if (since is None or f.start_time >= since) and (until is None or f.start_time < until)
        ]
    if selection.dirty is not None:
        yield lambda runs: [f for f in runs if f.dirty is selection.dirty]
    if selection.author is not None:
        is_by = author_test(reader, selection.author)
        yield lambda runs: [f for f in runs if is_by(f.author, f.user)]
    if selection.commit is not None:
        places = _range_places(log, selection.commit)
        yield lambda runs: _placed(runs, places, notes)
    if selection.branch is not None:
        on_branch = branch_places(log, selection.branch, {f.branch for f in facts.values()})
        yield lambda runs: _placed(runs, on_branch, notes)
    if selection.touching:
        from gml.tracking.code.touching import Touching

        yield Touching(reader, log, selection.touching, facts, notes)


def _range_places(log: CommitLog, text: str) -> Places:
    found = log.range(text)
    return Places(log, found.commits, log.reachable(found.tips))


def _placed(runs: list[Facts], places: Places, notes: list[str]) -> list[Facts]:
    counts: Counter[str] = Counter()
    kept = []
    for each in runs:
        place = places.place(each)
        counts[place.how] += 1
        if place.found:
            kept.append(each)
    notes.extend(explain(counts))
    return kept


def _bounds(selection: CodeSelection, now_ms: int) -> tuple[int | None, int | None]:
    since = _time("--since", selection.since, now_ms)
    until = _time("--until", selection.until, now_ms)
    return (since[0] if since else None), (until[1] if until else None)


def _time(option: str, text: str | None, now_ms: int) -> tuple[int, int] | None:
    from gml.index.query.times import parse_time, resolve

    if text is None:
        return None
    try:
        return resolve(parse_time(text, ago=True), now_ms)
    except ValueError as error:
        raise UsageError(
            f"{option} {text!r} is no time: {error}", hint="such as 2w, 36h or 2026-06-01"
        ) from None


def author_test(reader: Reader, text: str) -> Callable[[str, str], bool]:
    """Return a test of (author, user): whether a run is by somebody.

    Args:
        reader: the repository, whose git identity says who `me` is.
        text: part of the name, the address or the login name; `me`.

    Raises:
        UsageError: the text is empty.
    """
    if not text.strip():
        raise UsageError("--author is empty", hint="give a part of a name, or `me`")
    if text != "me":
        needle = text.casefold()
        return lambda author, user: needle in author.casefold() or needle in user.casefold()
    identity, login = reader.workspace.store.identity(), reader.workspace.user
    if identity is None:
        return lambda author, user: not author and user == login
    address = f"<{identity.email}>".casefold()
    # A run without an author was made where git knew none: then the login name has to do.
    return lambda author, user: author.casefold().endswith(address) if author else user == login
