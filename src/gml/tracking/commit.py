"""Moving what live runs logged from their journals into the ledger.

Whoever holds the ledger's lock commits every session that has ended, its own and those of processes
that wait for the lock or died: one commit for all (group commit).
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gml.domain.errors import CorruptError, GmlError, InvalidValueError, NotFoundError
from gml.domain.ids import DEFAULT_EXPERIMENT, DEFAULT_EXPERIMENT_ID, short_id
from gml.domain.names import made_up_name
from gml.domain.run import RUNNING, Document
from gml.ledger.ledger import Batch
from gml.tracking.documents import add_session
from gml.tracking.journal import session as journal
from gml.tracking.journal.fold import SessionFold
from gml.tracking.journal.lines import NoHeaderError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from gml.ledger.ledger import Writer
    from gml.ledger.view import LedgerView
    from gml.workspace import Workspace

log = logging.getLogger("gml")


@dataclass(slots=True)
class Pending:
    """A session that is to be committed."""

    fold: SessionFold
    live: bool


def sealer(workspace: Workspace) -> Any:
    """Return the function that stores a full history segment in the artifact store."""

    def seal(data: bytes, points: int) -> dict[str, Any]:
        blob = workspace.blobs.put_bytes(data)
        return {"at": "cas", "points": points, "sha256": blob.digest, "size": blob.size}

    return seal


def commit_sessions(
    workspace: Workspace,
    own: SessionFold | None = None,
    *,
    own_live: bool = False,
    others: bool = True,
    salvage: bool = False,
    skip: Collection[Path] = (),
) -> list[str]:
    """Commit a session, and every other one whose processes are gone.

    Args:
        workspace: the repository.
        own: the caller's session.
        own_live: the caller goes on logging (a checkpoint).
        others: also commit what ended or died elsewhere.
        salvage: also commit what can be read of journals whose first line is damaged.
        skip: journals that the caller knows to be written to.

    Returns:
        The ids of the runs that were committed.

    Raises:
        StorageError: nothing was committed; the journals stay and the next command tries again.
    """
    root = workspace.journal_root
    with workspace.ledger.writing() as writer:
        if own is not None and not own.is_there:
            if workspace.ledger.view().entry(own.path.name) is None:
                log.warning(
                    "gml: the journal of run %s was removed while it was written: the run is lost",
                    own.path.name,
                )
            return []
        pending: dict[Path, Pending] = {}
        if own is not None:
            own.update()
            pending[own.path] = Pending(own, own_live or bool(journal.alive_processes(own.path)))
        if others:
            for path in _finished(root, known=[*pending, *skip]):
                fold = _read(path, workspace, salvage=salvage)
                if fold is not None:
                    pending[path] = Pending(fold, live=False)
        if not pending:
            return []
        for item in pending.values():
            if item.live:
                # It is folded again: a journal must not know less after a power cut than the ledger.
                journal.make_durable(item.fold.path)
        try:
            return _store(workspace, writer, list(pending.values()), own)
        except (InvalidValueError, CorruptError, NotFoundError):
            if len(pending) == 1:
                raise
        return _store_apart(workspace, writer, list(pending.values()), own)


def _store(workspace: Workspace, writer: Writer, items: list[Pending], own: SessionFold | None) -> list[str]:
    """Commit sessions together, and put away the journals of those that have ended."""
    stored: list[Pending] = []

    def build(view: LedgerView) -> Batch:
        batch, stored[:] = _batch(workspace, view, items, own)
        return batch

    writer.commit(build)
    for item in stored:
        if not item.live:
            journal.retire(item.fold.path, item.fold.sizes)
    return [item.fold.path.name for item in stored]


def _store_apart(
    workspace: Workspace, writer: Writer, items: list[Pending], own: SessionFold | None
) -> list[str]:
    """Commit sessions one by one: one of them cannot be committed, which the others must not suffer from."""
    done: list[str] = []
    failed: GmlError | None = None
    for item in items:
        try:
            done += _store(workspace, writer, [item], own)
        except (InvalidValueError, CorruptError, NotFoundError) as error:
            if item.fold is own:
                failed = error
            else:
                log.warning("gml: the journal %s cannot be committed (%s); it stays", item.fold.path, error)
    if failed is not None:
        raise failed
    return done


def _finished(root: Path, known: Iterable[Path]) -> list[Path]:
    skip = set(known)
    return [path for path in journal.sessions(root) if path not in skip and not journal.alive_processes(path)]


def unfinished(workspace: Workspace) -> list[Path]:
    """Return the directories of sessions that nobody writes to and that are not in the ledger yet."""
    return _finished(workspace.journal_root, ())


def _read(path: Path, workspace: Workspace, *, salvage: bool) -> SessionFold | None:
    fold = SessionFold(path, sealer(workspace))
    try:
        try:
            fold.update()
            fold.document()
        except NoHeaderError:
            if not salvage:
                raise
            fold = SessionFold(path, sealer(workspace), fallback=_made_up_header(workspace, path))
            fold.update()
    except FileNotFoundError:
        return None
    except NoHeaderError as error:
        log.warning("gml: the journal %s is damaged (%s); `gml recover` saves what is in it", path, error)
        return None
    except (GmlError, OSError) as error:
        log.warning("gml: cannot read the journal %s (%s); it is left as it is", path, error)
        return None
    return fold


def _made_up_header(workspace: Workspace, path: Path) -> dict[str, Any]:
    """Return what the first line of a journal would say, as far as that can be known without it."""
    run_id = path.name
    known = workspace.ledger.view().entry(run_id) is not None
    # The same each time: a recovery that is interrupted and repeated must not make a second session.
    session = hashlib.sha256(f"salvaged {run_id} {workspace.writer_id}".encode()).hexdigest()[:16]
    header = {"run_id": run_id, "session": session, "writer": workspace.writer_id}
    if known:
        return header | {"role": journal.RESUME}
    return header | {
        "role": journal.CREATE,
        "experiment_id": DEFAULT_EXPERIMENT_ID,
        "experiment": DEFAULT_EXPERIMENT,
        "name": made_up_name(run_id),
        "user": workspace.user,
        "start_time": int((path / journal.SHARED).stat().st_mtime * 1000),
    }


def _batch(
    workspace: Workspace, view: LedgerView, items: list[Pending], own: SessionFold | None
) -> tuple[Batch, list[Pending]]:
    """Return the changes of all sessions that can be stored, and which these are.

    A session that cannot be stored, such as the resume of a run whose record is damaged, or one that
    needs an artifact store that is down, must not keep others out of the ledger.
    """
    batch = Batch()
    stored = []
    summaries = []
    for item in items:
        part = Batch()
        try:
            document = add_session(workspace, view, item.fold, part, live=item.live)
        except (GmlError, OSError, KeyError, TypeError, ValueError) as error:
            if item.fold is own:
                raise
            log.warning("gml: the journal %s cannot be committed (%s); it stays", item.fold.path, error)
            continue
        batch.changes = part.changes | batch.changes
        stored.append(item)
        summaries.append((item.fold, document))
    batch.message = _message(summaries) if summaries else ""
    return batch, stored


def _message(items: list[tuple[SessionFold, Document]]) -> str:
    lines = []
    for fold, document in items:
        name = document.get("name") or ""
        where = f"{fold.header.get('experiment', 'Default')}/{name}" if name else "resumed"
        lines.append(f"run {short_id(fold.path.name)} {where} {document.get('status', RUNNING)}")
    if len(lines) > 1:
        return _plain(f"{len(lines)} runs\n\n" + "\n".join(lines) + "\n")
    fold, document = items[0]
    body = [f"run id: {fold.path.name}"]
    params = " ".join(f"{k}={v:.60}" for k, v in sorted(document.get("params", {}).items())[:20])
    metrics = " ".join(f"{k}={m['last']:.6g}" if isinstance(m["last"], float) else f"{k}={m['last']}"
                       for k, m in sorted(document.get("metrics", {}).items())[:20])  # fmt: skip
    body += [f"params: {params}"] * bool(params) + [f"metrics: {metrics}"] * bool(metrics)
    text = "\n".join(" ".join(line.split()) for line in body)
    return _plain(f"{lines[0]}\n\n{text}\n")


def _plain(text: str) -> str:
    """Return a text that git takes as a message and that does nothing to the terminal it is shown on."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
