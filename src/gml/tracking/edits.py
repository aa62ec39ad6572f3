"""Changes to runs and experiments after the fact: tags, names, deletion. Each is a small file of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gml.domain.errors import ConflictError, NotFoundError
from gml.domain.experiment import EXPERIMENT_FORMAT, Experiment
from gml.domain.ids import DEFAULT_EXPERIMENT_ID, short_id
from gml.domain.names import (
    MAX_TAG_VALUE,
    TAG_NOTE,
    TAG_RUN_NAME,
    check_experiment_name,
    check_key,
    check_run_name,
    check_value,
)
from gml.domain.run import ACTIVE, DELETED, EDIT_FORMAT
from gml.ledger import layout
from gml.ledger.codec import encode
from gml.ledger.ledger import Batch
from gml.tracking.journal import session as journal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.ledger.view import LedgerView
    from gml.workspace import Workspace


def _stamp(workspace: Workspace) -> dict[str, Any]:
    return {
        "format": EDIT_FORMAT,
        "session": journal.new_session_id(),
        "writer": workspace.writer_id,
        "revision": 1,
        "editor": workspace.user,
        "time": int(time.time() * 1000),
    }


def edit_runs(workspace: Workspace, run_ids: Sequence[str], changes: Mapping[str, Any], what: str) -> None:
    """Record the same change of several runs in one commit.

    Args:
        workspace: the repository.
        run_ids: whole ids.
        changes: parts of an edit document, such as `{"tags": {"team": "risk"}}`.
        what: what was done, for the commit message.

    Raises:
        NotFoundError: the ledger has no such run.
        StorageError: nothing was changed.
    """
    waiting = [run_id for run_id in run_ids if not _edit_live(workspace, run_id, changes)]
    if not waiting:
        return
    stamp = _stamp(workspace)

    def build(view: LedgerView) -> Batch:
        batch = Batch(message=_message(waiting, what))
        for run_id in waiting:
            entry = view.entry(run_id)
            if entry is None:
                raise NotFoundError(
                    f"no run has id {run_id!r}", hint="`gml ls` shows the runs of this repository"
                )
            _, edits = view.documents(entry)
            clock = max((int(e.get("clock", 0)) for e in edits.values()), default=0) + 1
            name = layout.edit_name(clock, stamp["session"])
            document = {**stamp, "clock": clock, "run_id": run_id, **changes}
            batch.changes[f"{layout.edits_dir(run_id)}/{name}.json"] = encode(document)
        return batch

    workspace.ledger.append(build)


def _message(run_ids: Sequence[str], what: str) -> str:
    if len(run_ids) == 1:
        return f"{what} run {short_id(run_ids[0])}\n\nrun id: {run_ids[0]}\n"
    return f"{what} {len(run_ids)} runs\n\n" + "".join(f"run id: {run_id}\n" for run_id in run_ids)


def _edit_live(workspace: Workspace, run_id: str, changes: Mapping[str, Any]) -> bool:
    events: list[list[Any]] = []
    for key, value in changes.get("tags", {}).items():
        events.append(["T", key] if value is None else ["t", key, value])
    events.extend(["set", key, changes[key]] for key in ("name", "lifecycle_stage") if key in changes)
    return journal.append_to_live(workspace.journal_root, run_id, events)


def tag_runs(
    workspace: Workspace, run_ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str] = ()
) -> None:
    """Set and remove tags of runs.

    Raises:
        InvalidValueError: a key or value is not legal.
    """
    changes: dict[str, str | None] = {}
    for key, value in tags.items():
        if check_key(key, "tag") == TAG_RUN_NAME:
            rename_run(workspace, run_ids, value)
        else:
            changes[key] = check_value(value, "tag", MAX_TAG_VALUE)
    changes |= {check_key(key, "tag"): None for key in removed}
    if changes:
        edit_runs(workspace, run_ids, {"tags": changes}, "tag")


def note_run(workspace: Workspace, run_ids: Sequence[str], text: str) -> None:
    """Replace the note of runs; an empty text removes it."""
    edit_runs(
        workspace, run_ids, {"tags": {TAG_NOTE: check_value(text, "tag", MAX_TAG_VALUE) or None}}, "note on"
    )


def rename_run(workspace: Workspace, run_ids: Sequence[str], name: str) -> None:
    """Give runs another display name."""
    edit_runs(workspace, run_ids, {"name": check_run_name(name)}, "rename")


def delete_runs(workspace: Workspace, run_ids: Sequence[str]) -> None:
    """Mark runs as deleted; they stay in history and can be restored.

    Raises:
        ConflictError: one of them is running.
    """
    for run_id in run_ids:
        path = workspace.journal_root / run_id
        if path.is_dir() and journal.alive_processes(path):
            raise ConflictError(f"run {run_id} is running", hint="stop it first")
    edit_runs(workspace, run_ids, {"lifecycle_stage": DELETED}, "delete")


def restore_runs(workspace: Workspace, run_ids: Sequence[str]) -> None:
    """Bring deleted runs back."""
    edit_runs(workspace, run_ids, {"lifecycle_stage": ACTIVE}, "restore")


# --- experiments ------------------------------------------------------------------------------


def create_experiment(
    workspace: Workspace, name: str, tags: Mapping[str, str] | None = None, artifact_location: str = ""
) -> str:
    """Create an experiment and return its id.

    Raises:
        ConflictError: the name is taken, also by a deleted experiment.
        InvalidValueError: the name or a tag is not legal.
    """
    check_experiment_name(name)
    labels = {check_key(k, "tag"): check_value(v, "tag", 20_000) for k, v in (tags or {}).items()}
    made: list[str] = []

    def build(view: LedgerView) -> Batch:
        known = view.experiment_named(name)
        if known is not None:
            state = "" if known.lifecycle_stage == ACTIVE else f" (deleted: `gml exp restore {name}`)"
            raise ConflictError(f"experiment {name!r} exists already{state}")
        wanted = view.id_for_name(name)
        made[:] = [wanted]
        document = {
            "format": EXPERIMENT_FORMAT,
            "experiment_id": wanted,
            "name": name,
            "creation_time": int(time.time() * 1000),
        }
        if labels:
            document["tags"] = labels
        if artifact_location:
            document["artifact_location"] = artifact_location
        return Batch({layout.experiment_path(wanted): encode(document)}, f"create experiment {name}\n")

    workspace.ledger.append(build)
    return made[0]


def edit_experiment(
    workspace: Workspace, experiment: Experiment, changes: Mapping[str, Any], what: str
) -> None:
    """Record a change of an experiment.

    Raises:
        ConflictError: the new name is taken.
    """
    stamp = _stamp(workspace)
    wanted = experiment.experiment_id

    def build(view: LedgerView) -> Batch:
        name = changes.get("name")
        if name is not None and wanted == DEFAULT_EXPERIMENT_ID:
            raise ConflictError(
                "the Default experiment cannot be renamed", hint="create one: gml exp create NAME"
            )
        if name is not None:
            taken = view.experiment_named(check_experiment_name(name))
            if taken is not None and taken.experiment_id != wanted:
                raise ConflictError(f"experiment {name!r} exists already")
        edits = view.experiment_edits(wanted)
        clock = max((int(e.get("clock", 0)) for e in edits.values()), default=0) + 1
        document = stamp | {"clock": clock, "experiment_id": wanted} | dict(changes)
        path = f"{layout.experiment_edits_dir(wanted)}/{layout.edit_name(clock, stamp['session'])}.json"
        return Batch({path: encode(document)}, f"{what} experiment {experiment.name}\n")

    workspace.ledger.append(build)


def delete_experiment(workspace: Workspace, experiment: Experiment) -> list[str]:
    """Mark an experiment and its active runs as deleted; returns the runs' ids.

    Raises:
        ConflictError: it is the Default experiment, or one of its runs is running.
    """
    if experiment.experiment_id == DEFAULT_EXPERIMENT_ID:
        raise ConflictError("the Default experiment cannot be deleted")
    run_ids = _runs_of(workspace, experiment, ACTIVE)
    if run_ids:
        delete_runs(workspace, run_ids)
    edit_experiment(workspace, experiment, {"lifecycle_stage": DELETED, "runs": run_ids}, "delete")
    return run_ids


def restore_experiment(workspace: Workspace, experiment: Experiment) -> list[str]:
    """Bring an experiment back with the runs that were deleted with it; returns their ids."""
    edits = workspace.ledger.view().experiment_edits(experiment.experiment_id)
    ordered = sorted(edits.values(), key=lambda e: (e.get("clock", 0), str(e.get("session"))))
    with_it: list[str] = next(
        (e.get("runs", []) for e in reversed(ordered) if e.get("lifecycle_stage") == DELETED), []
    )
    deleted = set(_runs_of(workspace, experiment, DELETED))
    run_ids = [run_id for run_id in with_it if run_id in deleted]
    if run_ids:
        restore_runs(workspace, run_ids)
    edit_experiment(workspace, experiment, {"lifecycle_stage": ACTIVE}, "restore")
    return run_ids


def _runs_of(workspace: Workspace, experiment: Experiment, stage: str) -> list[str]:
    from gml.tracking.reader import Reader

    return [
        run.run_id
        for run in Reader(workspace).runs(deleted=True)
        if run.experiment_id == experiment.experiment_id and run.lifecycle_stage == stage
    ]
