"""Starting, resuming and joining runs."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import ConflictError, GmlError, NotFoundError
from gml.domain.ids import DEFAULT_EXPERIMENT, check_run_id, new_run_id
from gml.domain.names import (
    MAX_PARAM_VALUE,
    MAX_TAG_VALUE,
    TAG_NOTE,
    TAG_PARENT,
    check_experiment_name,
    check_key,
    check_run_name,
    check_value,
    made_up_name,
)
from gml.domain.run import DELETED, Run
from gml.fs import storage_error
from gml.tracking.journal import session as journal
from gml.tracking.recorder import Recorder, now_ms, process_facts
from gml.tracking.source import Source, capture_own_environment, capture_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gml.workspace import Workspace

log = logging.getLogger("gml")

ENV_RUN_ID: Final = "GML_RUN_ID"
ENV_JOURNAL: Final = "GML_JOURNAL"
ENV_ACTIVE: Final = "GML_ACTIVE_RUN"
RENDEZVOUS_WAIT: Final = 30.0


@dataclass(frozen=True, slots=True)
class NewRun:
    """What is known of a run when it starts.

    Attributes:
        experiment: name of its experiment, created where missing; None for the default one.
        experiment_id: id of an existing experiment; wins over `experiment`.
        name: display name, made up where missing.
        tags: first tags.
        params: first params.
        guesses: first params that yield to what the script logs.
        parent: id of the run it is nested in.
        description: note for readers.
        command: command line that is tracked, None for this interpreter's own.
        kind: LOCAL, NOTEBOOK, PROJECT or JOB.
        environment: captured environment, None to capture this interpreter's own.
        start_time: milliseconds since the epoch, None for now.
        run_id: id to use, None for a new one.
        cwd: where the command runs, None for the current directory.
        facts: further keys of the `source` section.
        inputs: data sets that are known to be read, as documents have them.
    """

    experiment: str | None = None
    experiment_id: str | None = None
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    guesses: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    description: str | None = None
    command: Sequence[str] | None = None
    kind: str = "LOCAL"
    environment: Mapping[str, Any] | None = None
    start_time: int | None = None
    run_id: str | None = None
    cwd: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Mapping[str, Any]] = ()


def start_new(workspace: Workspace, new: NewRun) -> Recorder:
    """Start a run.

    Raises:
        InvalidValueError: a param or tag is not legal.
        NotFoundError: the experiment id is unknown.
        ConflictError: the experiment is deleted.
        StorageError: the journal directory cannot be written.
    """
    _check_words(new)
    experiment_id, experiment = find_experiment(workspace, new)
    run_id = check_run_id(new.run_id) if new.run_id else next_id(workspace)
    name = check_run_name(new.name) if new.name is not None else made_up_name(run_id)
    source = capture_source(workspace, new.command, kind=new.kind, cwd=new.cwd)
    environment = new.environment if new.environment is not None else capture_own_environment()
    header = {
        "run_id": run_id,
        "session": journal.new_session_id(),
        "role": journal.CREATE,
        "writer": workspace.writer_id,
        "experiment_id": experiment_id,
        "experiment": experiment,
        "experiment_chosen": new.experiment is not None or new.experiment_id is not None,
        "name": name,
        "name_chosen": new.name is not None,
        "user": workspace.user,
        "inline_limit": workspace.settings.inline_limit,
        "start_time": new.start_time if new.start_time is not None else now_ms(),
    }
    events: list[list[Any]] = [["set", "source", source.facts | dict(new.facts)]]
    if environment:
        events.append(["env", dict(environment)])
    events += [["i", dict(entry)] for entry in new.inputs]
    if new.parent:
        events.append(["t", TAG_PARENT, new.parent])
    membership = journal.create(workspace.journal_root, run_id, header, events, process_facts(os.environ))
    recorder = Recorder(
        run_id, membership, lambda: workspace, owner=True, checkpoint=workspace.settings.checkpoint
    )
    _first_words(recorder, new, source)
    return recorder


def _check_words(new: NewRun) -> None:
    """Refuse bad params and tags while there is no run yet that would be left behind."""
    for key, value in (*new.params.items(), *new.guesses.items()):
        check_value(value, f"param {check_key(key, 'param')!r}", MAX_PARAM_VALUE)
    for key, value in new.tags.items():
        check_value(value, f"tag {check_key(key, 'tag')!r}", MAX_TAG_VALUE)
    if new.description:
        check_value(new.description, "description", MAX_TAG_VALUE)


def _first_words(recorder: Recorder, new: NewRun, source: Source) -> None:
    from gml.tracking.artifacts import log_bytes

    tags = dict(new.tags)
    if new.description:
        tags[TAG_NOTE] = new.description
    try:
        if tags:
            recorder.set_tags(tags)
        if new.params:
            recorder.log_params(new.params)
        if new.guesses:
            recorder.guess_params(new.guesses)
        if source.patch:
            log_bytes(recorder, source.patch.encode("utf-8", "surrogateescape"), "code/changes.patch")
    except GmlError:
        recorder.end("FAILED")
        raise


def find_experiment(workspace: Workspace, new: NewRun) -> tuple[str, str]:
    """Return id and name of the experiment that a new run belongs to."""
    view = workspace.ledger.view()
    if new.experiment_id is not None:
        known = view.experiment(new.experiment_id)
        if known is None:
            raise NotFoundError(f"no experiment has id {new.experiment_id!r}", hint="`gml exp ls` shows them")
    else:
        chosen = new.experiment if new.experiment is not None else workspace.settings.experiment
        name = check_experiment_name(DEFAULT_EXPERIMENT if chosen is None else chosen)
        known = view.experiment_named(name)
        if known is None:
            return view.id_for_name(name), name
    if known.lifecycle_stage == DELETED:
        raise ConflictError(
            f"experiment {known.name!r} is deleted", hint=f"`gml exp restore {known.name}` brings it back"
        )
    return known.experiment_id, known.name


def next_id(workspace: Workspace) -> str:
    """Return a new run id that sorts after every run known here, live ones included."""
    try:
        newest = workspace.ledger.newest_id()
    except GmlError:
        newest = None
    live = max(journal.names(workspace.journal_root), default=None)
    after = max((i for i in (newest, live) if i is not None), default=None)
    return new_run_id(now_ms(), secrets.token_bytes(10), after=after)


def resume(workspace: Workspace, run_id: str, *, stays_open: bool = False, late: bool = False) -> Recorder:
    """Go on with a run: join it where it is live, otherwise open a new session of it.

    Args:
        workspace: the repository.
        run_id: whole id.
        stays_open: the end of this session says nothing about the run.
        late: neither does its beginning: somebody whom the run has left behind adds something.

    Raises:
        InvalidValueError: that cannot be the id of a run.
        NotFoundError: no such run.
        ConflictError: the run is deleted.
        StorageError: the journal directory cannot be written.
    """
    from gml.tracking.commit import commit_sessions

    check_run_id(run_id)

    run: Run | None = None
    for _ in range(3):
        run = workspace.ledger.view().run(run_id)
        known = dict(run.params) if run is not None else {}
        path = workspace.journal_root / run_id
        if not path.is_dir():
            break
        if journal.alive_processes(path):
            joined = journal.join(workspace.journal_root, run_id, process_facts(os.environ), known)
            if joined is not None:
                return Recorder(run_id, joined, lambda: workspace, owner=False)
        else:
            commit_sessions(workspace)
    if run is None:
        raise NotFoundError(f"no run has id {run_id!r}", hint="`gml ls` shows the runs of this repository")
    if run.lifecycle_stage == DELETED:
        raise ConflictError(f"run {run_id} is deleted", hint=f"`gml restore {run_id}` brings it back")
    experiment = workspace.ledger.view().experiment(run.experiment_id)
    header = {
        "run_id": run_id,
        "session": journal.new_session_id(),
        "role": journal.RESUME,
        "writer": workspace.writer_id,
        "experiment_id": run.experiment_id,
        "experiment": experiment.name if experiment else run.experiment_id,
        "start_time": run.start_time,
        "name": run.name,
        "user": run.user,
    }
    if late:
        header["late"] = True
    if stays_open:
        header |= {"open": True, "inline_limit": workspace.settings.inline_limit}
    membership = journal.create(
        workspace.journal_root, run_id, header, [], process_facts(os.environ), run.params
    )
    return Recorder(
        run_id, membership, lambda: workspace, owner=True, checkpoint=workspace.settings.checkpoint
    )


def join_parent(environ: Mapping[str, str], workspace: Callable[[], Workspace]) -> Recorder | None:
    """Join the run that `gml log`, or a Python parent process, is writing; None when there is none.

    Needs no git: the journal directory comes in the environment as well.
    """
    run_id = environ.get(ENV_RUN_ID) or environ.get(ENV_ACTIVE) or environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return None
    check_run_id(run_id)
    root = environ.get(ENV_JOURNAL)
    if root:
        joined = journal.join(Path(root), run_id, process_facts(environ))
        if joined is not None:
            return Recorder(run_id, joined, workspace, owner=False)
    # A process that outlived the run it was started in does not open that run again.
    return resume(workspace(), run_id, late=bool(root))


def rank_key(environ: Mapping[str, str], ordinal: int) -> str | None:
    """Return what all ranks of one distributed job, and nobody else, have in common; None outside one.

    Args:
        environ: environment variables.
        ordinal: how many runs this process started before, so that the n-th runs meet.
    """
    if environ.get("SLURM_PROCID") and environ.get("SLURM_JOB_ID") and _int(environ.get("SLURM_NTASKS")) > 1:
        job = f"slurm {environ['SLURM_JOB_ID']} {environ.get('SLURM_STEP_ID', '')}"
    elif environ.get("RANK") and _int(environ.get("WORLD_SIZE")) > 1:
        # torchrun's default id is "none": then the agent that all local ranks descend from tells jobs apart.
        elastic = environ.get("TORCHELASTIC_RUN_ID", "none")
        unique = elastic if elastic not in {"", "none"} else f"parent {_parent_identity()}"
        address = f"{environ.get('MASTER_ADDR')} {environ.get('MASTER_PORT')}"
        job = f"torch {unique} {address} {environ.get('TORCHELASTIC_RESTART_COUNT', '')}"
    elif environ.get("OMPI_COMM_WORLD_RANK") and _int(environ.get("OMPI_COMM_WORLD_SIZE")) > 1:
        namespace = environ.get("PMIX_NAMESPACE") or environ.get("OMPI_MCA_ess_base_jobid")
        job = f"ompi {namespace or _parent_identity()}"
    else:
        return None
    return hashlib.sha256(f"{job}\n{ordinal}".encode()).hexdigest()[:32]


def _int(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _parent_identity() -> str:
    parent = os.getppid()
    try:
        started = Path(f"/proc/{parent}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1]
        return f"{parent} {started.split()[19]}"
    except (OSError, IndexError):
        return str(parent)


def start_or_join_rank(workspace: Workspace, new: NewRun, key: str) -> Recorder:
    """Start the run of a distributed job, or join it when another rank was first.

    The ranks meet at a file named after their job in the journal directory; it is created exclusively.
    A later job may have the same name (a fixed torchrun id, one parent that starts several): each rank
    leaves a mark, and a rank that finds its own mark belongs to the next job of that name.
    """
    meeting = workspace.journal_root / ".ranks"
    try:
        meeting.mkdir(parents=True, exist_ok=True)
        mark = _take_mark(meeting, key)
        spot = mark.with_name(mark.name.rpartition(".")[0])
        run_id = new.run_id or next_id(workspace)
        first = _claim(spot, run_id)
    except OSError as error:
        raise storage_error(error, f"cannot meet the other ranks in {meeting}") from error
    if first:
        try:
            return start_new(workspace, _with_id(new, run_id))
        except BaseException:
            for path in (spot, mark):
                path.unlink(missing_ok=True)
            raise
    joined = _join_first(workspace, spot)
    if joined is not None:
        return joined
    log.warning(
        "gml: the run of the first rank did not appear in %g s; this rank has its own", RENDEZVOUS_WAIT
    )
    return start_new(workspace, new)


def _take_mark(meeting: Path, key: str) -> Path:
    """Create this rank's mark in the first job of this name where it has none."""
    rank = process_facts(os.environ).get("rank", 0)
    for job in range(100_000):
        mark = meeting / f"{key}-{job}.{rank}"
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        return mark
    raise OSError(errno.EMLINK, "too many jobs of one name")


def _claim(spot: Path, run_id: str) -> bool:
    """Create the meeting point with its content at once; False when another rank was first."""
    mine = spot.with_name(f".{spot.name}-{run_id}")
    mine.write_text(run_id)
    try:
        os.link(mine, spot)
    except FileExistsError:
        return False
    finally:
        mine.unlink(missing_ok=True)
    return True


def _join_first(workspace: Workspace, spot: Path) -> Recorder | None:
    end = time.monotonic() + RENDEZVOUS_WAIT
    while time.monotonic() < end:
        try:
            shared_id = spot.read_text().strip()
        except FileNotFoundError:
            # The first rank could not start its run: it has said why, and there is nobody to join.
            return None
        joined = journal.join(workspace.journal_root, shared_id, process_facts(os.environ))
        if joined is not None:
            return Recorder(shared_id, joined, lambda: workspace, owner=False)
        if workspace.ledger.view().entry(shared_id) is not None:
            return resume(workspace, shared_id)
        time.sleep(0.01)
    return None


def _with_id(new: NewRun, run_id: str) -> NewRun:
    from dataclasses import replace

    return replace(new, run_id=run_id)


def kind_of_process() -> str:
    """Return NOTEBOOK inside a Jupyter kernel, LOCAL elsewhere."""
    return "NOTEBOOK" if "ipykernel" in sys.modules else "LOCAL"
