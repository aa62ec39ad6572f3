"""The reading half of the Python API."""

from __future__ import annotations

import logging
import time
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import NotFoundError, StorageError, UsageError
from gml.domain.run import ACTIVE, DELETED, SHREDDED
from gml.tracking import active, edits
from gml.tracking.contents import artifact, open_artifact
from gml.tracking.entities import Run, from_stored
from gml.tracking.reader import Reader

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from gml.domain.experiment import Experiment
    from gml.domain.run import Run as StoredRun

log = logging.getLogger("gml")

ACTIVE_ONLY = 1
DELETED_ONLY = 2
ALL = 3


def get_run(run_id: str) -> Run:
    """Return a run by id, its unique beginning or end, name, or `@`.

    Raises:
        NotFoundError: there is none.
        AmbiguousError: there are several.
    """
    return from_stored(Reader(active.workspace()).resolve(run_id))


def search_runs(
    experiment_ids: Sequence[str] | None = None,
    filter_string: str = "",
    run_view_type: int = ACTIVE_ONLY,
    max_results: int = 100_000,
    order_by: Sequence[str] | None = None,
    output_format: str = "pandas",
    search_all_experiments: bool = False,
    experiment_names: Sequence[str] | None = None,
) -> Any:
    """Return the runs that match, newest first.

    Args:
        experiment_ids: only these experiments.
        filter_string: a query, see docs/queries.md; empty for all.
        run_view_type: 1 active, 2 deleted, 3 all runs.
        max_results: at most so many.
        order_by: such as `["metrics.auc DESC"]`.
        output_format: `pandas` for a DataFrame, `list` for a list of runs.
        search_all_experiments: search everywhere; without it and without experiments, the one of
            `set_experiment` is searched, or everything if none was set.
        experiment_names: only these experiments, by name.

    Returns:
        A pandas.DataFrame with MLflow's columns, or a list of `Run`.

    Raises:
        UsageError: the query is malformed; names the position.

    Example:
        >>> gml.search_runs(filter_string="metrics.auc > 0.9")  # doctest: +SKIP
    """
    if not isinstance(filter_string or "", str):
        raise UsageError(f"filter_string is text, not {type(filter_string).__name__}")
    if output_format not in {"pandas", "list"}:
        raise UsageError(f"output_format is {output_format!r}", hint="use 'pandas' or 'list'")
    reader = Reader(active.workspace())
    wanted = _wanted_experiments(reader, experiment_ids, experiment_names, search_all_experiments)
    found = select(reader, filter_string or "", order_by or (), wanted, run_view_type, max_results)
    if output_format == "list":
        return [from_stored(run) for run in found]
    from gml.index.frames import runs_frame

    return runs_frame(found)


def _wanted_experiments(
    reader: Reader, ids: Sequence[str] | None, names: Sequence[str] | None, everywhere: bool
) -> set[str] | None:
    if ids and names:
        raise UsageError("search_runs takes experiment_ids or experiment_names, not both")
    if names:
        by_name = {e.name: e.experiment_id for e in reader.experiments()}
        for name in names:
            if name not in by_name:
                near = get_close_matches(str(name), by_name, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                log.warning("gml: no experiment is named %r%s", name, hint)
        return {by_name[name] for name in names if name in by_name}
    if ids is not None:
        return set(ids)
    if everywhere:
        return None
    from gml.tracking import fluent

    chosen = fluent._experiment  # noqa: SLF001
    if chosen is None:
        return None
    return {e.experiment_id for e in reader.experiments() if e.name == chosen}


def select(
    reader: Reader,
    query: str,
    order_by: Sequence[str],
    experiments: set[str] | None,
    view_type: int = ACTIVE_ONLY,
    limit: int | None = None,
) -> list[StoredRun]:
    """Return the stored runs that match a query, sorted and cut."""
    from gml.index.query import parse, parse_order
    from gml.tracking.missing import missing_keys

    parsed = parse(query) if query.strip() else None
    found = reader.search(
        parsed,
        parse_order(order_by),
        now_ms=int(time.time() * 1000),
        experiments=experiments,
        stages=_stages(view_type),
        limit=limit,
    )
    if not found and parsed is not None:
        for line in missing_keys(reader, parsed.fields()):
            log.warning("gml: %s", line)
    return found


def _stages(view_type: int) -> set[str]:
    known = {ACTIVE_ONLY: {ACTIVE}, DELETED_ONLY: {DELETED}, ALL: {ACTIVE, DELETED}}
    try:
        return known[view_type]
    except (KeyError, TypeError):
        raise UsageError(
            f"a view type is 1 (active), 2 (deleted) or 3 (all), not {view_type!r:.40}"
        ) from None


def metric_history(run_id: str, key: str) -> pd.DataFrame:
    """Return every point of a metric, also of running, killed and recovered runs.

    Returns:
        A DataFrame with columns step, timestamp (milliseconds since the epoch) and value, sorted by
        step, then time.

    Raises:
        NotFoundError: no such run, or it has no such metric; names those it has.

    Example:
        >>> gml.metric_history(run_id, "loss").plot(x="step", y="value")  # doctest: +SKIP
    """
    from gml.index.frames import history_frame

    reader = Reader(active.workspace())
    frame: pd.DataFrame = history_frame(*reader.history(reader.resolve(run_id), key))
    return frame


def download_artifacts(
    run_id: str, artifact_path: str | None = None, dst_path: str | os.PathLike[str] | None = None
) -> str:
    """Copy artifacts of a run out and return the local path, as MLflow does.

    Args:
        run_id: the run.
        artifact_path: a file or folder of it; everything by default.
        dst_path: directory to write to, a new temporary one by default.

    Raises:
        NotFoundError: no such run or artifact.
        CorruptError: the bytes do not match their digest; nothing is written for that file.
    """
    import tempfile
    from pathlib import Path

    reader = Reader(active.workspace())
    target = Path(dst_path) if dst_path is not None else Path(tempfile.mkdtemp(prefix="gml-"))
    copied = copy_artifacts(reader, reader.resolve(run_id), artifact_path, target)
    return str(target / artifact_path) if artifact_path and copied else str(target)


READ_AT_ONCE: Final = 8 << 20
"""Bytes from which on a file is read and written on several cores, and synced to the disk."""


def copy_artifacts(reader: Reader, run: StoredRun, path: str | None, target: Path) -> list[Path]:
    """Copy a file, a folder or everything of a run below a directory; returns the files written."""
    from gml.domain.names import check_restorable
    from gml.fs import write_stream

    prefix = (path or "").strip("/")
    names = [n for n in sorted(run.artifacts) if not prefix or n == prefix or n.startswith(f"{prefix}/")]
    if not names:
        if prefix:
            artifact(run, prefix)
        raise NotFoundError(f"run {run.run_id} has no artifacts")
    written: list[Path] = []
    seen: dict[str, Path] = {}
    for name in names:
        facts = run.artifacts[name]
        if facts.at == SHREDDED and name != prefix:
            continue
        place = target / check_restorable(name)
        _check_case(place, seen)
        if facts.at == "cas" and facts.size > READ_AT_ONCE:
            reader.workspace.blobs.get_file(facts.sha256, place)
        else:
            with open_artifact(reader, run, name) as source:
                write_stream(place, source)
        written.append(place)
    return written


def _check_case(place: Path, seen: dict[str, Path]) -> None:
    """Refuse to write a file over another one of the same run on a disk that takes them for the same."""
    other = seen.setdefault(str(place).casefold(), place)
    if other != place and place.exists() and place.samefile(other):
        raise StorageError(
            f"{place} and {other.name} are one file on this disk, which does not tell upper from lower case",
            hint="get them one by one, into different folders",
        )


def get_experiment(experiment_id: str) -> Experiment:
    """Return an experiment by id.

    Raises:
        NotFoundError: there is none.
    """
    wanted = str(experiment_id)
    space = active.workspace()
    # The experiment of a first run is committed with it; until then the run's journal has it.
    found = space.ledger.view().experiment(wanted) or next(
        (e for e in Reader(space).experiments() if e.experiment_id == wanted), None
    )
    if found is None:
        raise NotFoundError(f"no experiment has id {experiment_id!r}", hint="`gml exp ls` shows them")
    return found


def get_experiment_by_name(name: str) -> Experiment | None:
    """Return an experiment by name, None when there is none."""
    space = active.workspace()
    return space.ledger.view().experiment_named(name) or next(
        (e for e in Reader(space).experiments() if e.name == name), None
    )


def search_experiments(view_type: int = ACTIVE_ONLY) -> list[Experiment]:
    """Return all experiments of a life-cycle stage: 1 active, 2 deleted, 3 all."""
    stages = _stages(view_type)
    return [e for e in Reader(active.workspace()).experiments() if e.lifecycle_stage in stages]


def create_experiment(
    name: str, artifact_location: str | None = None, tags: Mapping[str, str] | None = None
) -> str:
    """Create an experiment and return its id.

    Raises:
        ConflictError: the name is taken.
    """
    return edits.create_experiment(active.workspace(), name, tags, artifact_location or "")


def delete_experiment(experiment_id: str) -> None:
    """Mark an experiment and its runs as deleted."""
    edits.delete_experiment(active.workspace(), get_experiment(experiment_id))


def delete_run(run_id: str) -> None:
    """Mark a run as deleted; `restore_run` brings it back."""
    space = active.workspace()
    edits.delete_runs(space, [Reader(space).resolve(run_id).run_id])


def restore_run(run_id: str) -> None:
    """Bring a deleted run back."""
    space = active.workspace()
    edits.restore_runs(space, [Reader(space).resolve(run_id).run_id])


def set_experiment_tag(key: str, value: Any) -> None:
    """Set a tag of the experiment that `set_experiment` chose (or of Default)."""
    from gml.domain.names import check_key, check_value
    from gml.tracking import fluent, start

    space = active.workspace()
    wanted, name = start.find_experiment(space, start.NewRun(experiment=fluent._experiment))  # noqa: SLF001
    known = space.ledger.view().experiment(wanted)
    if known is None:
        edits.create_experiment(space, name)
        known = get_experiment(wanted)
    tags = {check_key(key, "tag"): check_value(value, "tag", 20_000)}
    edits.edit_experiment(space, known, {"tags": tags}, "tag")
