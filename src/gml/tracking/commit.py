"""Moving what live runs logged from their journals into the ledger.

Whoever holds the ledger's lock commits every session that has ended, its own and those of processes
that wait for the lock or died: one commit for all (group commit).
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import CorruptError, GmlError, InvalidValueError, NotFoundError
from gml.domain.experiment import EXPERIMENT_FORMAT
from gml.domain.ids import DEFAULT_EXPERIMENT_ID, short_id
from gml.domain.run import EDIT_FORMAT, KILLED, RECORD_FORMAT, RUNNING, Document
from gml.ledger import layout
from gml.ledger.codec import encode
from gml.ledger.ledger import Batch
from gml.tracking.journal import session as journal
from gml.tracking.journal.fold import SessionFold

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gml.ledger.ledger import Writer
    from gml.ledger.view import LedgerView
    from gml.workspace import Workspace

log = logging.getLogger("gml")

HIST_INLINE: Final = 256 * 1024
INLINE_TOTAL: Final = 4 * 1024 * 1024
MANIFEST_INLINE: Final = 200
OUTPUT: Final = "logs"


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
    workspace: Workspace, own: SessionFold | None = None, *, own_live: bool = False, others: bool = True
) -> list[str]:
    """Commit a session, and every other one whose processes are gone.

    Args:
        workspace: the repository.
        own: the caller's session.
        own_live: the caller goes on logging (a checkpoint).
        others: also commit what ended or died elsewhere.

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
            for path in _finished(root, known=pending):
                fold = _read(path, workspace)
                if fold is not None:
                    pending[path] = Pending(fold, live=False)
        if not pending:
            return []
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


def _read(path: Path, workspace: Workspace) -> SessionFold | None:
    fold = SessionFold(path, sealer(workspace))
    try:
        fold.update()
        fold.document()
    except FileNotFoundError:
        return None
    except (GmlError, OSError) as error:
        log.warning("gml: cannot read the journal %s (%s); it is left as it is", path, error)
        return None
    return fold


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
            document = _store_session(workspace, view, item, part)
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


def _store_session(workspace: Workspace, view: LedgerView, item: Pending, batch: Batch) -> Document:
    fold = item.fold
    run_id = fold.path.name
    document = fold.document()
    entry = view.entry(run_id)
    record, edits = view.documents(entry) if entry is not None else (None, {})
    base = layout.run_base(run_id)
    creates = fold.role == journal.CREATE and (record is None or record.get("session") == fold.session)
    if creates:
        path, at = base, "git"
        previous = record
        document["format"] = RECORD_FORMAT
    else:
        name = next((n for n, e in edits.items() if e.get("session") == fold.session), None)
        previous = edits.get(name) if name else None
        clock = max((int(e.get("clock", 0)) for e in edits.values()), default=0) + 1
        clock = int(previous["clock"]) if previous else clock
        name = name or layout.edit_name(clock, fold.session)
        path, at = f"{base}/edits/{name}", f"git:{name}"
        document |= {"format": EDIT_FORMAT, "clock": clock}
    document["run_id"] = run_id
    document["revision"] = int(previous.get("revision", 0)) + 1 if previous else 1
    _close(document, item)
    _add_history(fold, document, path, batch)
    _add_artifacts(workspace, fold, document, at, batch)
    _add_environment(view, fold, document, batch)
    _add_experiment(view, fold, batch)
    batch.changes[f"{path}.json"] = encode(document)
    return document


def _close(document: Document, item: Pending) -> None:
    if "status" in document or item.fold.only_adds:
        return
    if item.live:
        document["status"] = RUNNING
    else:
        document["status"] = KILLED
        document["end_time"] = _last_write(item.fold.path)


def _last_write(path: Path) -> int:
    try:
        return max(
            int(file.stat().st_mtime * 1000) for file in [path / journal.SHARED, *journal.process_files(path)]
        )
    except (OSError, ValueError):
        return int(time.time() * 1000)


def _add_history(fold: SessionFold, document: Document, path: str, batch: Batch) -> None:
    metrics = fold.history.metrics_json()
    if not metrics:
        return
    inline, file, points = fold.history.tail()
    if file is not None and len(file) > HIST_INLINE:
        fold.history.seal_all()
        inline, file, points = fold.history.tail()
    segments = fold.history.segments
    if file is not None:
        digest = hashlib.sha256(file).hexdigest()
        segments.append({"at": "git", "points": points, "sha256": digest, "size": len(file)})
        batch.changes[f"{path}.hist"] = file
    document["metrics"] = metrics
    if inline:
        document["history"] = inline
    if segments:
        document["hist"] = segments


def _add_artifacts(
    workspace: Workspace, fold: SessionFold, document: Document, at: str, batch: Batch
) -> None:
    manifest = _kept_output(workspace, fold) | document.get("artifacts", {})
    if not manifest:
        return
    room = INLINE_TOTAL
    clashing = _clashes([name for name, facts in manifest.items() if facts is not None])
    out: dict[str, Any] = {}
    for name, facts in manifest.items():
        if facts is None or facts.get("at") != "stage":
            out[name] = facts
            continue
        staged = fold.path / journal.STAGED / facts["sha256"]
        room_here = -1 if name in clashing else room
        place = _place_staged(workspace, staged, facts, name, at, batch, room_here)
        if place is None:
            continue
        if place == at:
            room -= facts["size"]
        out[name] = facts | {"at": place}
    if len(out) > MANIFEST_INLINE:
        data = encode(out)
        digest = hashlib.sha256(data).hexdigest()
        batch.changes[layout.manifest_path(digest)] = data
        document["artifact_manifest"] = digest
        del document["artifacts"]
    else:
        document["artifacts"] = out


def _kept_output(workspace: Workspace, fold: SessionFold) -> dict[str, Any]:
    """Return the kept output of a tracked command as artifacts, also when its tracker was killed."""
    found: dict[str, Any] = {}
    try:
        files = sorted((fold.path / OUTPUT).iterdir())
    except OSError:
        return {}
    limit = int(fold.header.get("inline_limit", 0))
    for file in files:
        try:
            size = file.stat().st_size
            if size == 0:
                continue
            if size > limit:
                blob = workspace.blobs.put_file(file)
                facts = {"at": "cas", "sha256": blob.digest, "size": blob.size}
            else:
                data = file.read_bytes()
                digest = hashlib.sha256(data).hexdigest()
                staged = fold.path / journal.STAGED
                staged.mkdir(exist_ok=True)
                (staged / digest).write_bytes(data)
                facts = {"at": "stage", "sha256": digest, "size": len(data)}
        except (GmlError, OSError) as error:
            log.warning("gml: output %s of run %s is left out (%s)", file.name, fold.path.name, error)
            continue
        found[f"{OUTPUT}/{file.name}"] = facts
    return found


def _clashes(names: list[str]) -> set[str]:
    """Return the names of which one is a directory of the other: `a` and `a/b` do not fit into one tree."""
    known = set(names)
    out = set()
    for name in names:
        at = name.find("/")
        while at >= 0:
            if name[:at] in known:
                out |= {name, name[:at]}
            at = name.find("/", at + 1)
    return out


def _place_staged(
    workspace: Workspace,
    staged: Path,
    facts: dict[str, Any],
    name: str,
    at: str,
    batch: Batch,
    room: int,
) -> str | None:
    run_id = staged.parents[1].name
    try:
        data = staged.read_bytes()
    except OSError as error:
        log.warning("gml: artifact %s of run %s is lost (%s)", name, run_id, error)
        return None
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        log.warning("gml: artifact %s of run %s was damaged beside its journal and is left out", name, run_id)
        return None
    if len(data) <= room and layout.fits_git(name):
        batch.changes[layout.artifact_path(run_id, name, at)] = data
        return at
    workspace.blobs.put_bytes(data)
    return "cas"


def _add_environment(view: LedgerView, fold: SessionFold, document: Document, batch: Batch) -> None:
    full = fold.environment
    if not full:
        return
    data = encode(full)
    digest = hashlib.sha256(data).hexdigest()
    path = layout.environment_path(digest)
    if path not in batch.changes and view.read(path) is None:
        batch.changes[path] = data
    python = full.get("python")
    platform = full.get("platform")
    document["environment"] = {
        "digest": digest,
        "python": python.get("version") if isinstance(python, dict) else None,
        "system": platform.get("system") if isinstance(platform, dict) else None,
        "host": full.get("host"),
        "packages_digest": full.get("packages_digest"),
    }


def _add_experiment(view: LedgerView, fold: SessionFold, batch: Batch) -> None:
    wanted = str(fold.header.get("experiment_id", DEFAULT_EXPERIMENT_ID))
    path = layout.experiment_path(wanted)
    if wanted == DEFAULT_EXPERIMENT_ID or path in batch.changes or view.read(path) is not None:
        return
    batch.changes[path] = encode(
        {
            "format": EXPERIMENT_FORMAT,
            "experiment_id": wanted,
            "name": fold.header.get("experiment", wanted),
            "creation_time": fold.header.get("start_time", 0),
        }
    )


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
