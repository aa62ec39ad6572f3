"""What a session's journal becomes in the ledger: a record or an edit, and the files beside it."""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError
from gml.domain.experiment import EXPERIMENT_FORMAT
from gml.domain.ids import DEFAULT_EXPERIMENT_ID
from gml.domain.run import EDIT_FORMAT, KILLED, RECORD_FORMAT, RUNNING, Document
from gml.ledger import layout
from gml.ledger.codec import encode
from gml.tracking.journal import session as journal

if TYPE_CHECKING:
    from pathlib import Path

    from gml.ledger.ledger import Batch
    from gml.ledger.view import LedgerView
    from gml.tracking.journal.fold import SessionFold
    from gml.workspace import Workspace

log = logging.getLogger("gml")

HIST_INLINE: Final = 256 * 1024
INLINE_TOTAL: Final = 4 * 1024 * 1024
MANIFEST_INLINE: Final = 200
OUTPUT: Final = "logs"


def add_session(
    workspace: Workspace, view: LedgerView, fold: SessionFold, batch: Batch, *, live: bool
) -> Document:
    """Add a session's documents and files to a batch.

    Args:
        workspace: the repository.
        view: the ledger that the batch is for.
        fold: the session, read.
        batch: gets the changes.
        live: the session goes on: it is RUNNING unless it says otherwise.

    Returns:
        The record or edit.

    Raises:
        CorruptError: the run's record cannot be read.
        StorageError: a file cannot be stored.
    """
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
    known = previous or (record if fold.is_salvaged else None)
    if known is not None and not live and is_behind(fold, document, known):
        return known
    document["run_id"] = run_id
    document["revision"] = int(previous.get("revision", 0)) + 1 if previous else 1
    _close(document, fold, live=live)
    _add_history(fold, document, path, batch)
    _add_artifacts(workspace, fold, document, at, batch)
    _add_environment(view, fold, document, batch)
    _add_experiment(view, fold, batch)
    batch.changes[f"{path}.json"] = encode(document)
    return document


_OWN: Final = frozenset(("session", "writer", "format", "clock", "run_id", "revision", "status", "end_time"))


def is_behind(fold: SessionFold, document: Document, known: Document) -> bool:
    """Whether everything in a journal is in a document already which says how the run ended.

    The end of a journal need not survive a power cut, while the ledger does, and neither does its removal.
    Folding such a journal again would take away what is committed.
    """
    if known.get("status") in {None, RUNNING}:
        return False
    if fold.status is not None and fold.status != known["status"]:
        return False
    points = known.get("metrics", {})
    for key, summary in fold.history.summaries.items():
        if key not in points or summary.count > points[key].get("count", 1):
            return False
    for key, value in document.items():
        if key in _OWN:
            continue
        held = known.get(key)
        if key == "artifacts":
            digests = {name: facts and facts["sha256"] for name, facts in (held or {}).items()}
            if any(
                name not in digests or digests[name] != (facts and facts["sha256"])
                for name, facts in value.items()
            ):
                return False
        elif key in {"params", "tags"}:
            if not value.items() <= (held or {}).items():
                return False
        elif key in {"inputs", "outputs"}:
            if len(value) > len(held or ()):
                return False
        elif value != held:
            return False
    return True


def _close(document: Document, fold: SessionFold, *, live: bool) -> None:
    if "status" in document or fold.only_adds:
        return
    if live or fold.stays_open:
        document["status"] = RUNNING
    else:
        document["status"] = KILLED
        document["end_time"] = _last_write(fold.path)


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
