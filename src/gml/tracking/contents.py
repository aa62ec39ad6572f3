"""What a run holds beyond its record: metric points, files, the full environment."""

from __future__ import annotations

import hashlib
import io
import time
from typing import TYPE_CHECKING, Any

from gml.domain.errors import CorruptError, NotFoundError
from gml.domain.run import LINKED, SHREDDED
from gml.ledger import layout
from gml.ledger.history import read_blocks
from gml.tracking.journal import session as journal

if TYPE_CHECKING:
    from typing import BinaryIO

    from gml.domain.run import Artifact, Run
    from gml.ledger.history import Columns
    from gml.tracking.reader import Reader


def history(reader: Reader, run: Run, key: str) -> Columns:
    """Return steps, timestamps (milliseconds since the epoch) and values of a metric as arrays.

    They are sorted by step, then time; a point that was logged twice is there once.

    Raises:
        NotFoundError: the run has no such metric; names those it has.
        CorruptError: the stored history does not match its digest.
    """
    import numpy as np

    if key not in run.metrics:
        known = ", ".join(sorted(run.metrics)[:10]) or "none"
        raise NotFoundError(f"run {run.run_id} has no metric {key!r}", hint=f"it has: {known}")
    parts: list[Columns] = []
    for part in run.history:
        for described in part.segments:
            data = segment(reader, run, part.session, dict(described))
            where = f"history of run {run.run_id}"
            parts.extend(columns for _, columns in read_blocks(data, where, [key]))
        inline = part.inline.get(key)
        if inline:
            steps, times, values = zip(*inline, strict=True)
            parts.append((np.array(steps, np.int64), np.array(times, np.int64), np.array(values, np.float64)))
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)
    steps_, times_, values_ = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _tidy(steps_, times_, values_)


def _tidy(steps: Any, times: Any, values: Any) -> Columns:
    """Sort by step, then time, keeping the order of what is equal, and drop repeated points."""
    import numpy as np

    ahead = (steps[1:] > steps[:-1]) | ((steps[1:] == steps[:-1]) & (times[1:] > times[:-1]))
    if ahead.all():
        return steps, times, values
    order = np.lexsort((times, steps))
    steps, times, values = steps[order], times[order], values[order]
    bits = values.view(np.int64)
    same = (steps[1:] == steps[:-1]) & (times[1:] == times[:-1])
    if not same.any():
        return steps, times, values
    # Few points share step and time: only among those can there be repeats.
    keep = np.ones(len(steps), bool)
    seen: set[tuple[int, int, int]] = set()
    for at in np.flatnonzero(same):
        for place in (at, at + 1):
            point = (int(steps[place]), int(times[place]), int(bits[place]))
            if place == at + 1 and point in seen:
                keep[place] = False
            seen.add(point)
    return steps[keep], times[keep], values[keep]


def segment(reader: Reader, run: Run, session: str, described: dict[str, Any]) -> bytes:
    """Return the bytes of a history file, verified.

    Raises:
        NotFoundError: it is not in the artifact store.
        CorruptError: it is missing from the ledger, or does not match its digest.
    """
    match described.get("at"):
        case "memory":
            return reader.live[run.run_id].segments[int(described["index"])]
        case "git":
            return _git_segment(reader, run, session, described)
        case _:
            return reader.workspace.blobs.read(str(described["sha256"]))


def _git_segment(reader: Reader, run: Run, session: str, described: dict[str, Any]) -> bytes:
    path = layout.history_path(run.run_id)
    if session:
        folder = layout.edits_dir(run.run_id)
        names = [n for n in reader.view.names(folder) if n.endswith(f"-{session}.hist")]
        path = f"{folder}/{names[0]}" if names else f"{folder}/*-{session}.hist"
    data = reader.view.read(path)
    if data is None:
        raise CorruptError(f"{path} is missing from the ledger", hint="`gml doctor` names all damage")
    if hashlib.sha256(data).hexdigest() != described["sha256"]:
        raise CorruptError(f"{path} does not match its digest", hint="`gml doctor` names all damage")
    return data


def artifact(run: Run, name: str) -> Artifact:
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


def shredded(run: Run, name: str, facts: Artifact) -> NotFoundError:
    """Return the error for reading a file that was deleted on purpose."""
    stone = facts.tombstone or {}
    day = time.strftime("%Y-%m-%d", time.gmtime(int(stone.get("time") or 0) / 1000))
    who, why = stone.get("by"), stone.get("reason")
    return NotFoundError(f"artifact {name} of run {run.run_id} was shredded on {day} by {who}: {why}")


def open_artifact(reader: Reader, run: Run, name: str) -> BinaryIO:
    """Return a readable, verified file object of an artifact; the caller closes it.

    Raises:
        NotFoundError: the run has no such artifact, or its bytes are not here, or were shredded.
        CorruptError: the bytes do not match their digest.
    """
    facts = artifact(run, name)
    if facts.at == SHREDDED:
        raise shredded(run, name, facts)
    if facts.at == LINKED:
        from gml.tracking.links import open_link

        return open_link(reader.workspace, name, facts)
    if facts.at == "cas":
        return reader.workspace.blobs.open(facts.sha256)
    if facts.at == "stage":
        path = reader.workspace.journal_root / run.run_id / journal.STAGED / facts.sha256
        try:
            return io.BytesIO(path.read_bytes())
        except FileNotFoundError:
            # Committed since the journal was read: the ledger has it now.
            from gml.tracking.reader import Reader as Fresh

            now = Fresh(reader.workspace)
            return open_artifact(now, now.resolve(run.run_id), name)
    data = reader.view.read(layout.artifact_path(run.run_id, name, facts.at))
    if data is None:
        raise CorruptError(f"artifact {name} of run {run.run_id} is missing from the ledger")
    if hashlib.sha256(data).hexdigest() != facts.sha256:
        raise CorruptError(f"artifact {name} of run {run.run_id} does not match its digest")
    return io.BytesIO(data)


def environment(reader: Reader, run: Run) -> dict[str, Any]:
    """Return the full environment of a run; empty where it was not captured."""
    session = reader.live.get(run.run_id)
    if session is not None and session.fold.environment:
        return session.fold.environment
    digest = run.environment.get("digest")
    if not digest:
        return {}
    from gml.ledger.codec import decode

    path = layout.environment_path(str(digest))
    data = reader.view.read(path)
    return {} if data is None else decode(data, path)


def artifact_digest(run: Run) -> str | None:
    """Return one digest over all artifacts of a run: SHA-256 of their `sha256sum` listing, sorted by path."""
    if not run.artifacts:
        return None
    listing = "".join(f"{a.sha256}  {name}\n" for name, a in sorted(run.artifacts.items()))
    return hashlib.sha256(listing.encode()).hexdigest()
