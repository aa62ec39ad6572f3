"""Experiments: create, look up, rename, delete, restore, tag, search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gml.domain.run import ACTIVE, DELETED
from gml.service import filters, limits, pages
from gml.service.errors import EXISTS, MISSING, STATE, ServiceError
from gml.service.live import check_active
from gml.service.runs import set_stage
from gml.service.search import check_size
from gml.tracking import edits

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gml.domain.experiment import Experiment
    from gml.service.store import Store

MAX_RESULTS: Final = 50_000
STAGES: Final = {"ACTIVE_ONLY": (ACTIVE,), "DELETED_ONLY": (DELETED,), "ALL": (ACTIVE, DELETED)}


def create(
    store: Store, name: str, artifact_location: str = "", tags: Mapping[str, str] | None = None
) -> str:
    """Create an experiment and return its id.

    Raises:
        ServiceError: the name is taken, also by a deleted experiment, or something is not legal.
    """
    limits.experiment_name(name)
    if artifact_location:
        limits.artifact_location(artifact_location)
    labels = dict(limits.experiment_tag(limits.Pair(key, value)) for key, value in (tags or {}).items())
    if by_name(store, name) is not None:
        raise ServiceError(f"Experiment(name={name}) already exists. It may be a deleted one.", EXISTS)
    with store.writing() as space:
        return edits.create_experiment(space, name, labels, artifact_location)


def get(store: Store, experiment_id: str, stages: Collection[str] = (ACTIVE, DELETED)) -> Experiment:
    """Return an experiment.

    Raises:
        ServiceError: there is none of this id, or it is in another stage.
    """
    wanted = limits.experiment_id(experiment_id)
    with store.reading() as reader:
        found = reader.view.experiment(wanted)
        if found is None:
            found = next((e for e in reader.experiments() if e.experiment_id == wanted), None)
    if found is None or found.lifecycle_stage not in stages:
        raise ServiceError(f"No Experiment with id={wanted} exists", MISSING)
    return found


def by_name(store: Store, name: str) -> Experiment | None:
    """Return the experiment of a name, None where there is none; deleted ones keep their names."""
    with store.reading() as reader:
        return reader.view.experiment_named(name) or next(
            (e for e in reader.experiments() if e.name == name), None
        )


def _edit(store: Store, experiment: Experiment, changes: Mapping[str, object], what: str) -> None:
    with store.writing() as space:
        edits.edit_experiment(space, experiment, changes, what)


def rename(store: Store, experiment_id: str, name: str) -> None:
    """Give an experiment another name."""
    limits.experiment_name(name)
    found = get(store, experiment_id)
    if found.lifecycle_stage != ACTIVE:
        raise ServiceError("Cannot rename a non-active experiment.", STATE)
    taken = by_name(store, name)
    if taken is not None and taken.experiment_id != found.experiment_id:
        raise ServiceError(f"Experiment(name={name}) already exists.", EXISTS)
    _edit(store, found, {"name": name}, "rename")


def delete(store: Store, experiment_id: str) -> None:
    """Mark an experiment and its active runs as deleted."""
    found = get(store, experiment_id, (ACTIVE,))
    if found.experiment_id == "0":
        raise ServiceError("Cannot delete the default experiment, which every repository has.")
    with store.reading() as reader:
        runs = reader.search(None, now_ms=0, experiments={found.experiment_id})
    ids = [run.run_id for run in runs]
    for run_id in ids:
        if store.live.is_open(run_id):
            set_stage(store, run_id, DELETED)
    with store.writing() as space:
        rest = [run.run_id for run in runs if not run.live]
        if rest:
            edits.delete_runs(space, rest)
        edits.edit_experiment(space, found, {"lifecycle_stage": DELETED, "runs": ids}, "delete")


def restore(store: Store, experiment_id: str) -> None:
    """Bring an experiment back with the runs that were deleted with it."""
    found = get(store, experiment_id, (DELETED,))
    store.live.commit()
    with store.writing() as space:
        edits.restore_experiment(space, found)


def set_tag(store: Store, experiment_id: str, key: str, value: str) -> None:
    """Set a tag of an active experiment."""
    pair = limits.experiment_tag(limits.Pair(key, value))
    found = get(store, experiment_id)
    check_active(found.lifecycle_stage, "experiment", found.experiment_id)
    if found.tags.get(pair.key) != pair.value:
        _edit(store, found, {"tags": {pair.key: pair.value}}, "tag")


def delete_tag(store: Store, experiment_id: str, key: str) -> None:
    """Remove a tag of an active experiment.

    Raises:
        ServiceError: it has none of this key.
    """
    found = get(store, experiment_id)
    check_active(found.lifecycle_stage, "experiment", found.experiment_id)
    if key not in found.tags:
        raise ServiceError(f"No tag with name: {key} in experiment with id {experiment_id}", MISSING)
    _edit(store, found, {"tags": {key: None}}, "tag")


def search(
    store: Store,
    view_type: str = "ACTIVE_ONLY",
    max_results: int = 1_000,
    filter_string: str = "",
    order_by: Sequence[str] = (),
    page_token: str | None = None,
) -> tuple[list[Experiment], str | None]:
    """Return the experiments that match, newest first, and the token of the next page.

    Raises:
        ServiceError: the filter, the order or the page is not legal.
    """
    check_size(max_results, MAX_RESULTS)
    clauses = filters.parse_filter(filter_string, filters.EXPERIMENTS)
    filters.check_operators(clauses, filters.EXPERIMENTS)
    orders = filters.parse_orders(order_by, filters.EXPERIMENTS)
    for order in orders:
        if order.entity != filters.ATTRIBUTE:
            raise ServiceError(f"Invalid order_by entity: {order.entity}")
    offset = pages.decode(page_token)
    stages = STAGES.get(view_type, STAGES["ACTIVE_ONLY"])
    with store.reading() as reader:
        known = reader.experiments()
    found = [
        each
        for each in known
        if each.lifecycle_stage in stages
        and all(filters.holds(clause, _value(each, clause.entity, clause.key)) for clause in clauses)
    ]
    keys = [(_getter(order.key), order.ascending) for order in orders]
    if not keys:
        keys = [(_getter("creation_time"), False)]
    keys.append((_by_id, False))
    return pages.cut(filters.sort_by(found, keys), offset, max_results)


def _by_id(experiment: Experiment) -> int | str:
    return int(experiment.experiment_id) if experiment.experiment_id.isdigit() else 0


def _getter(key: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return lambda experiment: _value(experiment, filters.ATTRIBUTE, key)


def _value(experiment: Experiment, entity: str, key: str) -> str | int | None:
    if entity == filters.TAG:
        return experiment.tags.get(key)
    value: str | int | None = getattr(experiment, key)
    return value
