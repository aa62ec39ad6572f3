"""What the Python API returns: runs and experiments with the attribute names MLflow users know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gml.domain.names import TAG_RUN_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.domain.run import Run as StoredRun


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Identity and life cycle of a run. Times are milliseconds since the epoch."""

    run_id: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    end_time: int | None
    lifecycle_stage: str
    artifact_uri: str

    @property
    def run_uuid(self) -> str:
        """The run id under its old MLflow name."""
        return self.run_id


@dataclass(frozen=True, slots=True)
class RunData:
    """Last metric values, params and tags of a run."""

    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunInputs:
    """Data sets that a run read."""

    dataset_inputs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it was when it was read.

    Example:
        >>> run = gml.get_run(run_id)  # doctest: +SKIP
        >>> run.data.metrics["auc"]  # doctest: +SKIP
        0.91
    """

    info: RunInfo
    data: RunData
    inputs: RunInputs = field(default_factory=RunInputs)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.info.run_id


def from_stored(run: StoredRun) -> Run:
    """Return the API's form of a stored run."""
    info = RunInfo(
        run.run_id,
        run.name,
        run.experiment_id,
        run.user,
        run.status,
        run.start_time,
        run.end_time,
        run.lifecycle_stage,
        artifact_uri(run.run_id),
    )
    tags = dict(run.tags) | {TAG_RUN_NAME: run.name, "mlflow.user": run.user}
    data = RunData({k: m.last for k, m in run.metrics.items()}, dict(run.params), tags)
    return Run(info, data, RunInputs(run.inputs))


def artifact_uri(run_id: str) -> str:
    """Return the URI of a run's artifacts.

    Example:
        >>> artifact_uri("01983c1f2ab470008000000000000000")
        'gml:/runs/01983c1f2ab470008000000000000000/artifacts'
    """
    return f"gml:/runs/{run_id}/artifacts"
