"""The views of `gml sql`: what docs/sql.md promises, over the tables of the index.

They are made for one connection only. Where runs are live their rows stand in tables of the same shape
with `live_` before the name, every view reads both, and leaves out what the index says about those runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gml.index.store import schema
from gml.index.store.rows import Rows, inserts
from gml.ledger.view import RunEntry

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from gml.domain.run import Run

TABLES: Final = ("keys", "run_rows", "details", "metric_rows", "text_rows")

INNER: Final = frozenset([*TABLES, *(f"live_{table}" for table in TABLES), "experiment_names"])

# All runs' values under all keys. The planner takes what it can use of the redundant conditions: the rows of
# a key side by side, or one row of a run under a key.
_VALUES: Final = """
FROM {keys} k
JOIN {rows} v ON v.id BETWEEN (k.key_id << 32) AND (k.key_id << 32) + 4294967295
JOIN {run_rows} r ON r.rid = v.id & 4294967295 AND v.id = (k.key_id << 32) + r.rid
WHERE k.section = {section}"""

# name -> (columns, what to select, whether each of the two kinds of tables is read)
VIEWS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "runs": (
        (
            "run_id",
            "name",
            "experiment",
            "experiment_id",
            "status",
            "user",
            "start_time",
            "end_time",
            "duration",
            "lifecycle_stage",
            "dirty",
            "parent_run_id",
            "code_commit",
            "code_branch",
            "source",
            "environment",
            "live",
        ),
        """
SELECT r.run_id, r.run_name,
  (SELECT e.name FROM experiment_names e WHERE e.experiment_id = r.experiment_id), r.experiment_id,
  r.status, r.user_id, r.start_time, r.end_time, max(0, r.end_time - r.start_time), r.lifecycle_stage,
  r.dirty, r.parent, json_extract(d.source, '$.commit'), json_extract(d.source, '$.branch'), d.source,
  d.environment, {live}
FROM {run_rows} r LEFT JOIN {details} d ON d.rid = r.rid
WHERE 1""",
    ),
    "params": (
        ("run_id", "key", "value", "number"),
        "SELECT r.run_id, k.key, v.value, v.num " + _VALUES.replace("{section}", str(schema.PARAM)),
    ),
    "tags": (
        ("run_id", "key", "value"),
        "SELECT r.run_id, k.key, v.value " + _VALUES.replace("{section}", str(schema.TAG)),
    ),
    "metrics": (
        ("run_id", "key", "value", "step", "min", "max", "count"),
        "SELECT r.run_id, k.key, v.last, v.step, iif(v.count IS NULL, v.last, v.min), "
        "iif(v.count IS NULL, v.last, v.max), coalesce(v.count, 1) "
        + _VALUES.replace("{section}", str(schema.METRIC)),
    ),
    "inputs": (
        ("run_id", "name", "digest", "context", "source_type", "source"),
        """
SELECT r.run_id, json_extract(i.value, '$.name'), json_extract(i.value, '$.digest'),
  json_extract(i.value, '$.tags."mlflow.data.context"'), json_extract(i.value, '$.source_type'),
  json_extract(i.value, '$.source')
FROM {run_rows} r JOIN {details} d ON d.rid = r.rid JOIN json_each(d.inputs) i
WHERE 1""",
    ),
}
# Read run by run when a query gets to them. Points come in chunks so that no metric is in memory as text.
ON_DEMAND: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "metric_points": (
        ("run_id", "key", "step", "timestamp", "value"),
        """
SELECT m.run_id, m.key, gml_point(m.run_id, m.key, c.value + p.key, 0),
  gml_point(m.run_id, m.key, c.value + p.key, 1), gml_point(m.run_id, m.key, c.value + p.key, 2)
FROM metrics m CROSS JOIN json_each(gml_chunks(m.run_id, m.key)) c
CROSS JOIN json_each(gml_chunk(m.run_id, m.key, c.value)) p""",
    ),
    "artifacts": (
        ("run_id", "path", "size", "sha256", "place"),
        """
SELECT r.run_id, a.key, json_extract(a.value, '$[0]'), json_extract(a.value, '$[1]'),
  json_extract(a.value, '$[2]')
FROM runs r CROSS JOIN json_each(gml_artifacts(r.run_id)) a""",
    ),
    "commits": (
        ("code_commit", "time", "author", "email", "subject", "parents", "runs"),
        """
SELECT c.code_commit, json_extract(c.facts, '$[0]'), json_extract(c.facts, '$[1]'),
  json_extract(c.facts, '$[2]'), json_extract(c.facts, '$[3]'), json_extract(c.facts, '$[4]'), c.runs
FROM (SELECT code_commit, gml_commit(code_commit) AS facts, count(*) AS runs FROM runs
      WHERE code_commit IS NOT NULL GROUP BY code_commit) c""",
    ),
}
COLUMNS: Final = {name: columns for name, (columns, _) in {**VIEWS, **ON_DEMAND}.items()}


def create(
    connection: sqlite3.Connection, live: Iterable[Run] = (), experiments: dict[str, str] | None = None
) -> None:
    """Make the views, for this connection only.

    Args:
        connection: an open index.
        live: runs that are not, or not as they are now, in the ledger.
        experiments: names by id.
    """
    connection.execute("CREATE TEMP TABLE experiment_names (experiment_id TEXT PRIMARY KEY, name TEXT)")
    connection.executemany("INSERT INTO experiment_names VALUES (?, ?)", list((experiments or {}).items()))
    overlaid = _overlay(connection, list(live))
    for name, (columns, select) in VIEWS.items():
        arms = [_arm(select, "main.", "0")]
        if overlaid:
            arms = [
                f"{arms[0]} AND r.run_id NOT IN (SELECT run_id FROM temp.live_run_rows)",  # noqa: S608
                _arm(select, "temp.live_", "1"),
            ]
        _view(connection, name, columns, " UNION ALL ".join(arms))
    for name, (columns, select) in ON_DEMAND.items():
        _view(connection, name, columns, select)


def _arm(select: str, prefix: str, live: str) -> str:
    rows = "metric_rows" if "v.last" in select else "text_rows"
    places = {table: f"{prefix}{table}" for table in TABLES}
    return select.format(**places, rows=f"{prefix}{rows}", live=live)


def _view(connection: sqlite3.Connection, name: str, columns: tuple[str, ...], select: str) -> None:
    named = ", ".join(f'"{column}"' for column in columns)
    connection.execute(f"CREATE TEMP VIEW {name} ({named}) AS {select}")


def _overlay(connection: sqlite3.Connection, live: list[Run]) -> bool:
    """Fill tables of the index's shape with live runs; False where there are none."""
    if not live:
        return False
    for statement in schema.statements(schema.TABLES):
        table = statement.removeprefix("CREATE TABLE ").partition(" ")[0]
        if table in TABLES:
            connection.execute(statement.replace("CREATE TABLE ", "CREATE TEMP TABLE live_", 1))

    def key_id(section: int, key: str) -> int:
        connection.execute("INSERT OR IGNORE INTO live_keys (section, key) VALUES (?, ?)", (section, key))
        found = connection.execute(
            "SELECT key_id FROM live_keys WHERE section = ? AND key = ?", (section, key)
        ).fetchone()
        return int(found[0])

    rows = Rows(key_id)
    for rid, run in enumerate(live, start=1):
        rows.add_run(rid, RunEntry(run.run_id, None, None), run)
    for where, values in inserts(rows.waiting()):
        connection.executemany(f"INSERT INTO live_{where}", values)
    return True
