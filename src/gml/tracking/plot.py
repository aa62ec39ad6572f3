"""`gml.plot`: figures of runs for notebooks and files; needs plotly (`pip install 'gitml[plot]'`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from gml.domain.errors import MissingPackageError, NotFoundError, UsageError
from gml.domain.ids import short_id
from gml.tracking.report.curves import load, thin
from gml.tracking.report.sections import champion_key
from gml.tracking.report.text import line
from gml.tracking.runset import gather

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.domain.run import Run

__all__ = ["curves", "parallel_coordinates", "scatter"]

POINTS: Final = 2_000
_LABELS: Final = 20


def _plotly() -> Any:
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise MissingPackageError("gml.plot needs plotly", hint="pip install 'gitml[plot]'") from None
    return go


def _text(value: str) -> str:
    # Plotly takes some HTML in labels, links among it.
    return line(value, 80).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _label(run: Run) -> str:
    return f"{_text(run.name)} {short_id(run.run_id)}"


def curves(runs: Any, metric: str, *, x: Literal["step", "time", "relative"] = "step") -> Any:
    """Return a figure of a metric over steps or time, one curve a run.

    A curve is drawn through at most 2,000 points, its extremes among them. Runs without the metric are
    left out.

    Args:
        runs: what `gml.compare` takes: ids, RunSets, DataFrames of `search_runs`, ...
        metric: its name, `metrics.` before it or not.
        x: `step`, `time` (UTC) or `relative` (seconds since the first point).

    Returns:
        A plotly Figure; `figure.show()`, `figure.write_html("loss.html")`.

    Raises:
        MissingPackageError: plotly is not installed.
        NotFoundError: a run is not there, or none of them has the metric.
        UsageError: another x.

    Example:
        >>> gml.plot.curves(gml.runs("metrics.auc > 0.9"), "loss")  # doctest: +SKIP
    """
    go = _plotly()
    if x not in {"step", "time", "relative"}:
        raise UsageError(f"x is {x!r}", hint="use 'step', 'time' or 'relative'")
    reader, found = gather([runs])
    key = champion_key(metric, found)[0]
    _need(found, "metrics", key)
    figure = go.Figure()
    for run in found:
        columns = load(reader, run, [key]).get(key)
        if columns is None:
            continue
        steps, times, values = columns
        kept = thin(values, POINTS)
        across: Any = steps[kept]
        if x == "time":
            across = times[kept].astype("datetime64[ms]")
        elif x == "relative":
            across = (times[kept] - times.min()) / 1000
        mode = "lines" if len(kept) > 1 else "markers"
        figure.add_trace(go.Scatter(x=across, y=values[kept], name=_label(run), mode=mode))
    titles = {"step": "step", "time": "time", "relative": "seconds"}
    figure.update_layout(xaxis_title=titles[x], yaxis_title=_text(key), showlegend=True)
    return figure


def scatter(runs: Any, x: str, y: str) -> Any:
    """Return a figure with a point a run: a param, metric or tag against another.

    Values that are numbers lie on a scale, others are categories; runs that lack one of the two are
    left out.

    Args:
        runs: what `gml.compare` takes.
        x: such as `params.lr`; without a section the name of a param, or else of a metric.
        y: likewise, a metric before a param.

    Raises:
        MissingPackageError: plotly is not installed.
        NotFoundError: a run is not there, or no run has such a value.

    Example:
        >>> gml.plot.scatter(gml.runs(), "params.lr", "metrics.auc")  # doctest: +SKIP
    """
    go = _plotly()
    _, found = gather([runs])
    across, up = _column(found, x, ("params", "metrics")), _column(found, y, ("metrics", "params"))
    both = [at for at in range(len(found)) if across[at] is not None and up[at] is not None]
    figure = go.Figure(
        go.Scatter(
            x=_numbers([across[at] for at in both]),
            y=_numbers([up[at] for at in both]),
            text=[_label(found[at]) for at in both],
            mode="markers",
        )
    )
    figure.update_layout(xaxis_title=_text(x), yaxis_title=_text(y))
    return figure


def parallel_coordinates(runs: Any, params: Sequence[str], metric: str) -> Any:
    """Return a figure with a line a run through its params, coloured by a metric.

    Params that are numbers lie on a scale, others on the places of their values, sorted. Runs that lack
    the metric are left out; a missing param is the place `none`.

    Args:
        runs: what `gml.compare` takes.
        params: names of params, `params.` before them or not; metrics with `metrics.`.
        metric: what colours the lines.

    Raises:
        MissingPackageError: plotly is not installed.
        NotFoundError: a run is not there, or no run has the metric or a param.
        UsageError: no params.

    Example:
        >>> gml.plot.parallel_coordinates(gml.runs(), ["lr", "depth"], "auc")  # doctest: +SKIP
    """
    go = _plotly()
    if isinstance(params, str) or not params:
        raise UsageError("parallel_coordinates takes a list of params", hint='params=["lr", "depth"]')
    _, found = gather([runs])
    key = champion_key(metric, found)[0]
    _need(found, "metrics", key)
    found = [run for run in found if key in run.metrics]
    dimensions = [_dimension(name, _column(found, name, ("params", "metrics"))) for name in params]
    scores = [run.metrics[key].last for run in found]
    dimensions.append({"label": _text(key), "values": scores})
    lines = {"color": scores, "colorscale": "Viridis", "showscale": True}
    return go.Figure(go.Parcoords(dimensions=dimensions, line=lines))


def _need(runs: Sequence[Run], section: str, key: str) -> None:
    if any(key in getattr(run, section) for run in runs):
        return
    names = sorted({name for run in runs for name in getattr(run, section)})
    raise NotFoundError(
        f"none of these runs has {key!r} among its {section}",
        hint=f"there are: {', '.join(names[:10]) or 'none'}",
    )


def _column(runs: Sequence[Run], name: str, sections: Sequence[str]) -> list[Any]:
    section, dot, key = name.partition(".")
    section = {"param": "params", "metric": "metrics", "tag": "tags"}.get(section, section)
    if not dot or section not in {"params", "metrics", "tags"}:
        key = name
        section = next((s for s in sections if any(name in getattr(r, s) for r in runs)), sections[0])
    _need(runs, section, key)
    values = [getattr(run, section).get(key) for run in runs]
    return [value.last if section == "metrics" and value is not None else value for value in values]


def _numbers(values: Sequence[Any]) -> list[Any]:
    """Return values as numbers where all of them are, as text otherwise."""
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        return [_text(str(value)) for value in values]


def _dimension(name: str, values: Sequence[Any]) -> dict[str, Any]:
    if all(value is not None for value in values):
        numbers = _numbers(values)
        if all(isinstance(number, float) for number in numbers):
            return {"label": _text(name), "values": numbers}
    texts = ["none" if value is None else _text(str(value)) for value in values]
    places = {text: at for at, text in enumerate(sorted(set(texts)))}
    shown = list(places.items())[:: max(1, -(-len(places) // _LABELS))]
    return {
        "label": _text(name),
        "values": [places[text] for text in texts],
        "tickvals": [at for _, at in shown],
        "ticktext": [text for text, _ in shown],
    }
