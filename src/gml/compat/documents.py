"""What a run of another tool becomes in the ledger: a record and the files beside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gml.cas.streams import continued
from gml.domain.errors import InvalidValueError
from gml.domain.names import TAG_RUN_NAME, check_artifact_path
from gml.domain.run import ACTIVE, DELETED, RECORD_FORMAT, STATUSES
from gml.ledger import layout
from gml.ledger.codec import encode
from gml.ledger.history import HistoryBuilder

if TYPE_CHECKING:
    from gml.compat.foreign import ForeignRun, Source
    from gml.domain.run import Document
    from gml.workspace import Workspace

HIST_INLINE: Final = 256 * 1024
FILES_INLINE: Final = 4 * 1024 * 1024
MANIFEST_INLINE: Final = 200
_CHUNK: Final = 1 << 20
_SOURCE: Final = {
    "mlflow.source.type": "type",
    "mlflow.source.name": "name",
    "mlflow.source.git.commit": "commit",
    "mlflow.source.git.branch": "branch",
    "mlflow.source.git.repoURL": "remote",
}
_MAX_STEP: Final = (1 << 63) - 1


@dataclass(slots=True)
class Prepared:
    """A run that is ready to be committed.

    Attributes:
        run_id: of the run.
        document: its record, without what the importer adds.
        beside: ledger path -> bytes of what stands beside the record, None for what is to be removed.
        points: metric points in it.
        files: artifacts in it.
        file_bytes: their size.
    """

    run_id: str
    document: Document
    beside: dict[str, bytes | None] = field(default_factory=dict)
    points: int = 0
    files: int = 0
    file_bytes: int = 0

    @property
    def size(self) -> int:
        """Bytes that wait in memory, roughly."""
        return 4_000 + 40 * self.points + sum(len(data or b"") for data in self.beside.values())

    def changes(self) -> dict[str, bytes | None]:
        """Return everything that is to be written, by ledger path."""
        return {**self.beside, layout.record_path(self.run_id): encode(self.document)}

    def drop_old(self, before: Document) -> None:
        """Remove files that an earlier import of the run left beside its record."""
        for name, facts in before.get("artifacts", {}).items():
            path = layout.artifact_path(self.run_id, name)
            if facts.get("at") == "git" and path not in self.beside:
                self.beside[path] = None
        path = layout.history_path(self.run_id)
        if path not in self.beside and any(part.get("at") == "git" for part in before.get("hist", ())):
            self.beside[path] = None


def prepare(
    workspace: Workspace, source: Source, run: ForeignRun, experiment_id: str, *, files: bool = True
) -> Prepared:
    """Read a run and return what is to be committed; large files are in the artifact store then.

    Raises:
        StorageError: a file cannot be read or stored.
    """
    tags = {key: value for key, value in run.tags.items() if key != TAG_RUN_NAME}
    user = run.user
    if run.stage in {ACTIVE, DELETED}:  # of a logged model it is a tag like any other
        user = user or tags.get("mlflow.user", "")
        if tags.get("mlflow.user") == user:
            del tags["mlflow.user"]
    document: Document = {
        "format": RECORD_FORMAT,
        "run_id": run.run_id,
        "experiment_id": experiment_id,
        "name": run.name,
        "user": user,
        "status": run.status if run.status in STATUSES else "RUNNING",
        "start_time": run.start,
        "lifecycle_stage": run.stage,
        "params": dict(run.params),
        "tags": tags,
        "inputs": run.inputs,
        "outputs": run.outputs,
        "source": _source(tags),
    }
    if run.end is not None:
        document["end_time"] = run.end
    made = Prepared(run.run_id, {key: value for key, value in document.items() if value not in ({}, [])})
    _add_points(workspace, source, run, made)
    if files:
        _add_files(workspace, source, run, made)
    return made


def _source(tags: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {ours: tags[theirs] for theirs, ours in _SOURCE.items() if tags.get(theirs)}
    dirty = tags.get("mlflow.source.git.dirty", "").lower()
    if dirty in {"true", "false"}:
        found["dirty"] = dirty == "true"
    return found


def _add_points(workspace: Workspace, source: Source, run: ForeignRun, made: Prepared) -> None:
    def seal(data: bytes, points: int) -> dict[str, Any]:
        blob = workspace.blobs.put_bytes(data)
        return {"at": "cas", "points": points, "sha256": blob.digest, "size": blob.size}

    history = HistoryBuilder(seal)
    for key, value, timestamp, step in run.points():
        if not (-_MAX_STEP <= step <= _MAX_STEP and -_MAX_STEP <= timestamp <= _MAX_STEP):
            source.losses.add(
                "metric points whose step or time has more than 64 bits", f"{key} of {run.run_id}"
            )
            continue
        history.add(key, value, timestamp, step)
        made.points += 1
    if not made.points:
        return
    document = made.document
    document["metrics"] = history.metrics_json()
    inline, file, points = history.tail()
    if file is not None and len(file) > HIST_INLINE:
        history.seal_all()
        inline, file, points = history.tail()
    segments = history.segments
    if file is not None:
        digest = hashlib.sha256(file).hexdigest()
        segments.append({"at": "git", "points": points, "sha256": digest, "size": len(file)})
        made.beside[layout.history_path(run.run_id)] = file
    if inline:
        document["history"] = inline
    if segments:
        document["hist"] = segments


def _add_files(workspace: Workspace, source: Source, run: ForeignRun, made: Prepared) -> None:
    room = FILES_INLINE
    limit = workspace.settings.inline_limit
    found: dict[str, Any] = {}
    for file in run.files():
        try:
            name = check_artifact_path(file.path)
        except InvalidValueError:
            source.losses.add("files whose names no artifact can have", file.path)
            continue
        try:
            with file.open() as stream:
                head = stream.read(limit + 1)
                if len(head) <= limit:
                    size, digest = len(head), hashlib.sha256(head).hexdigest()
                    if size <= room and layout.fits_git(name):
                        room -= size
                        made.beside[layout.artifact_path(run.run_id, name)] = head
                        at = "git"
                    else:
                        workspace.blobs.put_bytes(head)
                        at = "cas"
                else:
                    blob = workspace.blobs.put_stream(continued(head, stream))
                    size, digest, at = blob.size, blob.digest, "cas"
        except OSError as error:
            source.losses.add(
                "files that cannot be read", f"{file.path} of {run.run_id}: {error.strerror or error}"
            )
            continue
        found[name] = {"at": at, "sha256": digest, "size": size}
        made.files += 1
        made.file_bytes += size
    if len(found) > MANIFEST_INLINE:
        data = encode(found)
        digest = hashlib.sha256(data).hexdigest()
        made.beside[layout.manifest_path(digest)] = data
        made.document["artifact_manifest"] = digest
    elif found:
        made.document["artifacts"] = found
