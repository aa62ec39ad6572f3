"""`gml sql`: read-only SQL over documented views."""

from __future__ import annotations

import sys
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click

from gml.cli.common import open_reader, report_damage
from gml.cli.output import is_terminal, number, table
from gml.domain.errors import GmlError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gml.index.sql import SqlSession
    from gml.tracking.reader import Reader

# A table is laid out as a whole; more rows than this nobody reads on a terminal.
ON_TERMINAL = 1000


@click.command("sql")
@click.argument("query")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of objects.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True,
    metavar="SECONDS", help="Stop a query that takes longer.",
)  # fmt: skip
def sql_command(query: str, as_json: bool, as_csv: bool, timeout: float) -> None:
    """Answer QUERY, one SELECT in SQL.

    The views are runs, params, metrics, metric_points, tags, artifacts, inputs and commits; docs/sql.md
    describes their columns. `-` reads the query from standard input.

    \b
    Example:
      gml sql "SELECT experiment, count(*) FROM runs GROUP BY 1"
      gml sql "SELECT run_id, value FROM metrics WHERE key = 'auc' ORDER BY value DESC LIMIT 10" --csv
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")
    if query == "-":
        query = sys.stdin.read()
    reader = open_reader()
    columns, rows = _session(reader, timeout).query(query)
    if as_json:
        _print_json(columns, rows)
    elif as_csv:
        _print_csv(columns, rows)
    else:
        _print_table(columns, rows)


def _session(reader: Reader, timeout: float) -> SqlSession:
    from gml.index.sql import Sources, SqlSession

    live = []
    for run_id in reader.live:
        try:
            found = reader.run(run_id)
        except GmlError as error:
            reader.damaged.append(error)
        else:
            live += [found] if found is not None else []
    reader.damaged += reader.index.damaged()
    report_damage(reader)
    return SqlSession(
        reader.index,
        Sources(
            lambda run_id, key: reader.history(_run(reader, run_id), key),
            lambda run_id: (
                (path, a.size, a.sha256, a.at.partition(":")[0])
                for path, a in sorted(_run(reader, run_id).artifacts.items())
            ),
            lambda commit: _commit(reader, commit),
        ),
        live=live,
        experiments={e.experiment_id: e.name for e in reader.experiments()},
        timeout=timeout,
    )


def _run(reader: Reader, run_id: str) -> Any:
    from gml.domain.errors import NotFoundError

    found = reader.run(run_id)
    if found is None:
        raise NotFoundError(f"run {run_id} has gone", hint="ask again")
    return found


def _commit(reader: Reader, commit: str) -> tuple[int, str, str, str, str] | None:
    """Return time, author, e-mail, subject and parents of a code commit, None where it is not here."""
    from gml.domain.errors import CorruptError, NotFoundError
    from gml.git.objects import parse_commit

    try:
        kind, data = reader.workspace.store.read(commit)
        if kind != "commit":
            return None
        found = parse_commit(data)
    except (NotFoundError, CorruptError, ValueError):
        return None
    subject = found.message.lstrip().partition("\n")[0]
    who = found.author
    return found.author_time * 1000, who.name, who.email, subject, " ".join(found.parents)


def _print_json(columns: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
    import json

    from gml.cli.output import _plain as finite
    from gml.index.sql import plain

    names = _distinct(columns)
    ahead = "[\n"
    for row in rows:
        value = finite(dict(zip(names, map(plain, row), strict=True)))
        click.echo(f"{ahead}  {json.dumps(value, ensure_ascii=False, allow_nan=False)}", nl=False)
        ahead = ",\n"
    click.echo("[]" if ahead == "[\n" else "\n]")


def _distinct(columns: Iterable[str]) -> list[str]:
    """Return column names of which no two are equal."""
    names: list[str] = []
    for column in columns:
        name, count = column, 2
        while name in names:
            name, count = f"{column}_{count}", count + 1
        names.append(name)
    return names


def _print_csv(columns: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
    import csv

    from gml.index.sql import plain

    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(columns)
    for row in rows:
        out.writerow([repr(v) if isinstance(v, float) else plain(v) for v in row])


def _print_table(columns: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
    from gml.index.sql import plain

    terminal = is_terminal()

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return number(value) if terminal else repr(value)
        return "" if value is None else str(plain(value))

    shown = list(islice(rows, ON_TERMINAL)) if terminal else []
    numeric = [
        name
        for place, name in enumerate(columns)
        if shown and all(isinstance(row[place], (int, float, type(None))) for row in shown)
    ]
    lines = ([cell(value) for value in row] for row in chain(shown, () if terminal else rows))
    table(_distinct(columns), lines, right=numeric)
    if terminal and next(rows, None) is not None:
        click.echo(f"  the first {ON_TERMINAL} rows are shown; --csv prints all", err=True)
