"""`gml.compare(a, b, ...)`: what differs, as DataFrames and as a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gml.domain.errors import UsageError
from gml.domain.ids import short_id
from gml.tracking.report.sections import FILES, Report, champion_first
from gml.tracking.runset import gather

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 200


class Comparison:
    """Runs side by side.

    `params`, `metrics`, `tags`, `code`, `files`, `environment`, `artifacts`, `inputs` and `curves` are
    DataFrames with one row a key and one column a run (its id); what a run lacks is None, a missing metric
    NaN. Of two runs, `metrics` has `delta` as well. Notebooks show all of it.

    Args:
        report: what is compared.
    """

    def __init__(self, report: Report) -> None:
        self.report = report

    @property
    def ids(self) -> list[str]:
        """Ids of the runs, in the order of the columns."""
        return [run.run_id for run in self.report.runs]

    @property
    def params(self) -> pd.DataFrame:
        """Params by key."""
        return self._frame("params")

    @property
    def tags(self) -> pd.DataFrame:
        """Tags by key."""
        return self._frame("tags")

    @property
    def code(self) -> pd.DataFrame:
        """Commit, branch, dirty, snapshot and tree of the code that ran."""
        return self._frame("code")

    @property
    def files(self) -> pd.DataFrame:
        """Files of the code that differ from the first run's: A added, D removed, M or T changed, or ""."""
        return self._frame(FILES)

    @property
    def environment(self) -> pd.DataFrame:
        """The environment by dotted key, such as `packages.numpy`."""
        return self._frame("environment")

    @property
    def artifacts(self) -> pd.DataFrame:
        """SHA-256 of the files by path."""
        return self._frame("artifacts", "sha256")

    @property
    def inputs(self) -> pd.DataFrame:
        """Digests of the data sets by name."""
        return self._frame("inputs", "digest")

    @property
    def metrics(self) -> pd.DataFrame:
        """Last values by key; of two runs also `delta`, the second minus the first."""
        import pandas as pd

        frame = self._frame("metrics")
        frame = frame.apply(pd.to_numeric).astype("float64") if len(frame) else frame.astype("float64")
        if len(self.ids) == 2:
            frame["delta"] = frame[self.ids[1]] - frame[self.ids[0]]
        return frame

    @property
    def curves(self) -> pd.DataFrame:
        """`count`, `last`, `min` and `max` of each curve: columns are (id, one of these)."""
        import pandas as pd

        names = ("count", "last", "min", "max")
        rows = self.report.tables.get("curves", {})
        columns = pd.MultiIndex.from_product([self.ids, names], names=["run_id", None])
        data = [[v[n] if v else float("nan") for v in values for n in names] for values in rows.values()]
        index = pd.Index(list(rows), name="key", dtype=object)
        return pd.DataFrame(data, index=index, columns=columns, dtype="float64")

    def _frame(self, section: str, part: str | None = None) -> pd.DataFrame:
        import pandas as pd

        rows = self.report.tables.get(section, {})
        data = [
            [value[part] if part is not None and value is not None else value for value in values]
            for values in rows.values()
        ]
        index = pd.Index(list(rows), name="key", dtype=object)
        return pd.DataFrame(data, index=index, columns=pd.Index(self.ids, dtype=object), dtype=object)

    @property
    def patch(self) -> str | None:
        """The diff from the first run's code to the second's; None where code is not in this repository."""
        found: str | None = self.report.codes[0]["patch"]
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the shape of `gml diff A B C --json` (docs/reports.md)."""
        return self.report.to_json()

    def to_markdown(self, limit: int = 65_000) -> str:
        """Return Markdown for a comment of a pull request; see `gml.tracking.report.markdown.markdown`."""
        from gml.tracking.report.markdown import markdown

        return markdown(self.report, limit)

    def to_html(self) -> str:
        """Return a whole page; see `gml.tracking.report.page.page`."""
        from gml.tracking.report.page import page

        return page(self.report)

    def __repr__(self) -> str:
        names = ", ".join(f"{run.name} ({short_id(run.run_id)})" for run in self.report.runs[:4])
        return f"<Comparison of {names}{', ...' if len(self.ids) > 4 else ''}>"

    def _repr_html_(self) -> str:
        """Return what notebooks show: a table for each section that differs."""
        from gml.tracking.report.page import table
        from gml.tracking.report.text import in_html

        runs = self.report.runs[:24]
        parts = [
            f"<h4>{in_html(name)}</h4>{table(self.report, name, runs, _ROWS)}"
            for name, rows in self.report.tables.items()
            if rows
        ]
        return "".join(parts) or "<p>nothing differs</p>"


def compare(*runs: Any, champion: str | None = None, everything: bool = False) -> Comparison:
    """Compare two runs or more.

    Args:
        runs: ids, names, `@~1`, `Run` objects, RunSets, or DataFrames of `search_runs`.
        champion: put the run that is best in this metric first, such as `metrics.auc` or
            `metrics.loss ASC`.
        everything: also rows in which all runs are equal.

    Raises:
        UsageError: fewer than two runs.
        NotFoundError: a run is not there, or no run has the champion's metric.
        AmbiguousError: a name fits several runs.

    Example:
        >>> gml.compare("@~1", "@").params  # doctest: +SKIP
    """
    reader, found = gather(runs)
    if len(found) < 2:
        raise UsageError(f"compare takes two runs or more, not {len(found)}")
    if champion is not None:
        found = champion_first(found, champion)
    names = " ".join(short_id(run.run_id) for run in found[:8]) + (" ..." if len(found) > 8 else "")
    return Comparison(Report(reader, found, (), everything, champion or "", f"gml diff {names}"))
