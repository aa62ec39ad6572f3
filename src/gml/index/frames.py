"""Runs and metric histories as pandas DataFrames, in the shape that MLflow gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from gml.index.as_mlflow import artifact_uri as default_artifact_uri
from gml.index.as_mlflow import mlflow_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    import pandas as pd

    from gml.domain.run import Run

    # A list or a numpy array.
    Column: TypeAlias = "Sequence[float] | npt.NDArray[Any]"

__all__ = ["history_frame", "mlflow_tags", "runs_frame"]


def runs_frame(runs: Sequence[Run], *, artifact_uri: Callable[[Run], str] | None = None) -> pd.DataFrame:
    """Return one row a run, in the columns of MLflow's `search_runs`.

    run_id, experiment_id, status, artifact_uri, start_time and end_time (UTC, NaT while it runs), then
    `metrics.*`, `params.*` and `tags.*`, each in the order of first appearance. A missing metric is NaN,
    a missing param or tag None. Tags include those that MLflow would have made, see `mlflow_tags`.

    Args:
        runs: in the order of the rows.
        artifact_uri: says where a run's artifacts are; `gml:/runs/<id>/artifacts` by default.

    Example:
        >>> list(runs_frame([]).columns)
        ['run_id', 'experiment_id', 'status', 'artifact_uri', 'start_time', 'end_time']
    """
    import pandas as pd

    uri = artifact_uri or default_artifact_uri
    columns: dict[str, Any] = {
        "run_id": _objects([run.run_id for run in runs]),
        "experiment_id": _objects([run.experiment_id for run in runs]),
        "status": _objects([run.status for run in runs]),
        "artifact_uri": _objects([uri(run) for run in runs]),
        "start_time": _times([run.start_time for run in runs]),
        "end_time": _times([run.end_time for run in runs]),
    }
    metrics: dict[str, list[float]] = {}
    params: dict[str, list[str | None]] = {}
    tags: dict[str, list[str | None]] = {}
    count = len(runs)
    for row, run in enumerate(runs):
        for key, summary in run.metrics.items():
            numbers = metrics.get(key)
            if numbers is None:
                numbers = metrics[key] = [float("nan")] * count
            numbers[row] = summary.last
        for section, found in ((params, run.params), (tags, mlflow_tags(run))):
            for key, value in found.items():
                texts = section.get(key)
                if texts is None:
                    texts = section[key] = [None] * count
                texts[row] = value
    columns |= {f"metrics.{key}": pd.Series(numbers, dtype="float64") for key, numbers in metrics.items()}
    columns |= {f"params.{key}": _objects(texts) for key, texts in params.items()}
    columns |= {f"tags.{key}": _objects(texts) for key, texts in tags.items()}
    return pd.DataFrame(columns)


def history_frame(steps: Column, timestamps: Column, values: Column) -> pd.DataFrame:
    """Return the points of a metric: step (int64), timestamp (int64, milliseconds) and value (float64).

    Timestamps are what was logged, as in MLflow; `pd.to_datetime(df.timestamp, unit="ms")` makes dates.

    Args:
        steps: one a point; lists or numpy arrays.
        timestamps: one a point.
        values: one a point.

    Example:
        >>> history_frame([0, 1], [5, 6], [0.5, 0.4]).value.min()
        np.float64(0.4)
    """
    import numpy as np
    import pandas as pd

    return pd.DataFrame(
        {
            "step": np.asarray(steps, dtype=np.int64),
            "timestamp": np.asarray(timestamps, dtype=np.int64),
            "value": np.asarray(values, dtype=np.float64),
        }
    )


def _objects(values: Sequence[str | None]) -> pd.Series[Any]:
    import pandas as pd

    # Said explicitly: pandas 3 would make them `str`, where None turns into NaN.
    return pd.Series(values, dtype=object)


def _times(values: Sequence[int | None]) -> pd.Series[Any]:
    import numpy as np
    import pandas as pd

    # The least int64 is NaT; times that nanoseconds cannot hold (after 2262) are as good as unknown.
    limit = (1 << 63) // 1_000_000
    known = [v if v is not None and -limit < v < limit else None for v in values]
    nat = np.iinfo(np.int64).min
    stamps = np.array([nat if v is None else v * 1_000_000 for v in known], dtype=np.int64)
    return pd.Series(stamps.view("datetime64[ns]")).dt.tz_localize("UTC")
