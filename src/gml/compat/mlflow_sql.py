"""MLflow's SQLite database, read with the tables of MLflow 1 to 3, without MLflow.

It is opened read only and read in one transaction: what a server writes meanwhile is not half seen.
"""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from gml.compat import artifact_files
from gml.compat.foreign import (
    MODEL,
    MODEL_DELETED,
    ForeignExperiment,
    ForeignModel,
    ForeignRun,
    Losses,
)
from gml.compat.mlflow_files import model_tags, read_version
from gml.compat.mlflow_values import model_outputs, model_status, text_of, unclip
from gml.domain.errors import CorruptError, NotFoundError, UsageError
from gml.domain.run import ACTIVE, DELETED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gml.compat.foreign import Point

_BATCH: Final = 200
# table -> what it holds, in the words of the report.
_NO_HOME: Final = {
    "trace_info": "traces", "assessments": "assessments of traces",
    "evaluation_datasets": "evaluation data sets", "webhooks": "webhooks",
    "scorers": "scorers", "issues": "issues", "label_schemas": "label schemas",
    "endpoints": "gateway endpoints", "review_queues": "review queues", "mcp_servers": "MCP servers",
}  # fmt: skip


class MlflowSqlite:
    """An SQLite database of MLflow.

    Args:
        path: the file.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it is no database of MLflow.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise NotFoundError(f"there is no database {path}")
        self.name = f"sqlite:///{path}"
        self.losses = Losses()
        self._places = (path.resolve().parent, Path.cwd())
        try:
            self._db = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
            self._db.row_factory = sqlite3.Row
            self._db.text_factory = lambda data: data.decode("utf-8", "replace")
            self._db.execute("BEGIN")
            tables = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        except sqlite3.Error as error:
            raise UsageError(f"{path} is not a database of SQLite ({error})") from error
        self._tables = {row[0]: self._columns(row[0]) for row in tables}
        if not {"experiments", "runs", "metrics"} <= self._tables.keys():
            raise UsageError(
                f"{path} is no database of MLflow", hint="it has no tables `experiments` and `runs`"
            )

    def _columns(self, table: str) -> set[str]:
        quoted = table.replace('"', '""')
        return {row[1] for row in self._db.execute(f'PRAGMA table_info("{quoted}")')}

    def _all(self, statement: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise CorruptError(
                f"{self.name} cannot be read ({error})", hint="`sqlite3 FILE .recover` saves what is good"
            ) from error

    def _group(
        self, table: str, column: str, ids: Sequence[str], fields: str
    ) -> dict[str, list[sqlite3.Row]]:
        """Return the rows of a table by the value of a column, for some values of it."""
        found: dict[str, list[sqlite3.Row]] = defaultdict(list)
        if table in self._tables:
            marks = ",".join("?" * len(ids))
            for row in self._all(
                f"SELECT {column} AS owner, {fields} FROM {table} WHERE {column} IN ({marks})",  # noqa: S608
                ids,
            ):
                found[row["owner"]].append(row)
        return found

    def _field(self, table: str, name: str, default: str = "NULL") -> str:
        return name if name in self._tables.get(table, ()) else f"{default} AS {name}"

    def experiments(self) -> list[ForeignExperiment]:
        """See `Source.experiments`."""
        tags: dict[str, dict[str, str]] = defaultdict(dict)
        if "experiment_tags" in self._tables:
            for row in self._all("SELECT experiment_id, key, value FROM experiment_tags ORDER BY key"):
                tags[str(row[0])][row[1]] = text_of(row[2])
        created = self._field("experiments", "creation_time", "0")
        updated = self._field("experiments", "last_update_time", "0")
        rows = self._all(
            f"SELECT experiment_id, name, lifecycle_stage, {created}, {updated} "  # noqa: S608
            "FROM experiments ORDER BY experiment_id"
        )
        return [
            ForeignExperiment(
                str(row["experiment_id"]), row["name"], row["lifecycle_stage"] == DELETED,
                row["creation_time"] or 0, row["last_update_time"] or 0, tags[str(row["experiment_id"])],
            )
            for row in rows
        ]  # fmt: skip

    def runs(self, experiment: ForeignExperiment, since: int | None) -> Iterator[ForeignRun]:
        """See `Source.runs`."""
        rows = self._all(
            "SELECT * FROM runs WHERE experiment_id = ? ORDER BY start_time, run_uuid",
            (experiment.experiment_id,),
        )
        if since is not None:
            rows = [
                r for r in rows if r["end_time"] is None or max(r["start_time"] or 0, r["end_time"]) >= since
            ]
        for start in range(0, len(rows), _BATCH):
            yield from self._batch(rows[start : start + _BATCH], experiment)
        if "logged_models" in self._tables:
            for row in self._all(
                "SELECT * FROM logged_models WHERE experiment_id = ? "
                "ORDER BY creation_timestamp_ms, model_id",
                (experiment.experiment_id,),
            ):
                if (
                    since is None
                    or max(row["creation_timestamp_ms"], row["last_updated_timestamp_ms"]) >= since
                ):
                    yield self._model(row, experiment)

    def _batch(self, rows: list[sqlite3.Row], experiment: ForeignExperiment) -> Iterator[ForeignRun]:
        ids = [row["run_uuid"] for row in rows]
        params = self._group("params", "run_uuid", ids, "key, value")
        tags = self._group("tags", "run_uuid", ids, "key, value")
        step = self._field("metrics", "step", "0")
        nan = self._field("metrics", "is_nan", "0")
        metrics = self._group("metrics", "run_uuid", ids, f"key, value, timestamp, {step}, {nan}, rowid")
        inputs = self._inputs(ids)
        outputs = self._outputs(ids)
        for row in rows:
            run_id = row["run_uuid"]
            own = {r["key"]: text_of(r["value"]) for r in tags[run_id]}
            points = sorted(metrics[run_id], key=lambda r: r["rowid"])
            folder = self._folder(run_id, text_of(row["artifact_uri"]))
            found = ForeignRun(
                run_id,
                experiment.experiment_id,
                text_of(row["name"]) or own.get("mlflow.runName", ""),
                text_of(row["user_id"]),
                row["status"] or "RUNNING",
                row["start_time"] or 0,
                row["end_time"],
                DELETED if row["lifecycle_stage"] == DELETED else ACTIVE,
                {r["key"]: text_of(r["value"]) for r in params[run_id]},
                own,
                _giver(points),
                inputs[run_id],
                outputs[run_id],
                self._walker(folder),
            )
            found.fingerprint = _fingerprint(
                tuple(row),
                own,
                found.params,
                found.inputs,
                found.outputs,
                [tuple(r)[1:-1] for r in points],
                folder,
            )
            yield found

    def _folder(self, owner: str, uri: str) -> Path | None:
        return artifact_files.find_folder(owner, uri, self._places, self.losses) if uri else None

    def _walker(self, folder: Path | None) -> Any:
        return (lambda: artifact_files.walk(folder, self.losses)) if folder is not None else tuple

    def _inputs(self, ids: list[str]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        if "inputs" not in self._tables:
            return found
        marks = ",".join("?" * len(ids))
        rows = self._all(
            "SELECT i.input_uuid, i.destination_id, d.name, d.digest, d.dataset_source_type, "  # noqa: S608
            "d.dataset_source, d.dataset_schema, d.dataset_profile "
            "FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id "
            "WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN' "
            f"AND i.destination_id IN ({marks}) "
            "ORDER BY i.rowid",
            ids,
        )
        tags = self._group("input_tags", "input_uuid", [row["input_uuid"] for row in rows], "name, value")
        for row in rows:
            entry = {
                "name": row["name"], "digest": row["digest"], "source_type": row["dataset_source_type"],
                "source": row["dataset_source"], "schema": row["dataset_schema"],
                "profile": row["dataset_profile"],
            }  # fmt: skip
            entry = {key: value for key, value in entry.items() if value is not None}
            labels = {r["name"]: text_of(r["value"]) for r in tags[row["input_uuid"]]}
            found[row["destination_id"]].append({**entry, "tags": labels})
        return found

    def _outputs(self, ids: list[str]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        if "inputs" not in self._tables:
            return found
        step = self._field("inputs", "step", "0")
        marks = ",".join("?" * len(ids))
        # A run that reads a model is its source too, under another type.
        for row in self._all(
            f"SELECT source_type, source_id, destination_type, destination_id, {step} FROM inputs "  # noqa: S608
            f"WHERE source_id IN ({marks}) AND destination_type = 'MODEL_OUTPUT' ORDER BY rowid",
            ids,
        ):
            found[row["source_id"]].append({"model_id": row["destination_id"], "step": row["step"] or 0})
        for row in self._all(
            f"SELECT source_id, destination_id FROM inputs WHERE source_id IN ({marks}) "  # noqa: S608
            "AND source_type = 'RUN_INPUT' AND destination_type = 'MODEL_INPUT' ORDER BY rowid",
            ids,
        ):
            found[row["source_id"]].append({"model_id": row["destination_id"], "read": True})
        return found

    def _model(self, row: sqlite3.Row, experiment: ForeignExperiment) -> ForeignRun:
        model_id = row["model_id"]
        params = self._group("logged_model_params", "model_id", [model_id], "param_key, param_value")
        labels = self._group("logged_model_tags", "model_id", [model_id], "tag_key, tag_value")
        metrics = self._group(
            "logged_model_metrics", "model_id", [model_id],
            "metric_name, metric_value, metric_timestamp_ms, metric_step, run_id, dataset_name, "
            "dataset_digest",
        )[model_id]  # fmt: skip
        tags = {r["tag_key"]: text_of(r["tag_value"]) for r in labels[model_id]}
        model_tags(tags, dict(zip(row.keys(), row, strict=True)))
        folder = self._folder(model_id, text_of(row["artifact_location"]))
        found = ForeignRun(
            model_id,
            experiment.experiment_id,
            text_of(row["name"]),
            "",
            model_status(row["status"]),
            row["creation_timestamp_ms"],
            row["last_updated_timestamp_ms"],
            MODEL_DELETED if row["lifecycle_stage"] == DELETED else MODEL,
            {r["param_key"]: text_of(r["param_value"]) for r in params[model_id]},
            tags,
            lambda: [(r[1], unclip(r[2]), r[3], r[4]) for r in metrics],
            [],
            [model_outputs(r[1], unclip(r[2]), r[3], r[4], r[5], r[6], r[7]) for r in metrics],
            self._walker(folder),
        )
        found.fingerprint = _fingerprint(tuple(row), tags, found.params, [tuple(r) for r in metrics], folder)
        return found

    def models(self) -> list[ForeignModel]:
        """See `Source.models`."""
        if "registered_models" not in self._tables:
            return []
        names = [row["name"] for row in self._all("SELECT name FROM registered_models ORDER BY name")]
        tags = self._group("registered_model_tags", "name", names, "key, value")
        aliases = self._group("registered_model_aliases", "name", names, "alias, version")
        notes: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
        if "model_version_tags" in self._tables:
            for row in self._all("SELECT name, version, key, value FROM model_version_tags"):
                notes[row[0], row[1]][row[2]] = text_of(row[3])
        versions: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self._all("SELECT * FROM model_versions ORDER BY name, version"):
            facts = dict(zip(row.keys(), row, strict=True))
            facts["creation_timestamp"] = facts.get("creation_time")
            facts["last_updated_timestamp"] = facts.get("last_updated_time")
            source = text_of(facts.get("source"))
            if source.startswith("models:/m-"):
                facts["model_id"] = source.removeprefix("models:/").partition("/")[0]
            versions[facts["name"]].append(facts)
        said = {r["name"]: r for r in self._all("SELECT * FROM registered_models")}
        return [
            ForeignModel(
                name,
                text_of(said[name]["description"]),
                {r["key"]: text_of(r["value"]) for r in tags[name]},
                {r["alias"]: int(r["version"]) for r in aliases[name]},
                tuple(
                    read_version(facts, notes[name, facts["version"]])
                    for facts in versions[name]
                    if facts.get("current_stage") != "Deleted_Internal"
                ),
            )
            for name in names
        ]

    def count_rest(self) -> None:
        """See `Source.count_rest`."""
        for table, what in _NO_HOME.items():
            if table in self._tables:
                self.losses.add(what, "", self._all(f'SELECT count(*) FROM "{table}"')[0][0])  # noqa: S608


def _giver(rows: list[sqlite3.Row]) -> Any:
    def give() -> Iterator[Point]:
        for row in rows:
            yield row[1], math.nan if row[5] else unclip(row[2]), row[3], row[4] or 0

    return give


def _fingerprint(*facts: Any) -> str:
    parts = [artifact_files.fingerprint(each) if isinstance(each, Path) else each for each in facts]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
