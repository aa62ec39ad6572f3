"""`gml registry ls | show | history | at | blame`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from gml.cli.common import json_option
from gml.cli.output import emit_json, size, table, timestamp
from gml.cli.registry_common import VERSION, open_registry, version_json
from gml.domain.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from gml.registry.branch import View


def _stages(view: View, model: str) -> dict[str, int]:
    return {s: r.version for s, r in view.stages(model).items() if r.version is not None}


@click.command("ls")
@json_option
def ls_command(as_json: bool) -> None:
    """List models with their newest version, stages and aliases.

    \b
    Example:
      gml registry ls
    """
    view = open_registry().view()
    rows: list[dict[str, Any]] = []
    for name in view.models():
        model = view.model(name)
        numbers = view.numbers(name)
        rows.append({
            "model": name, "alias_of": model.alias_of, "versions": len(numbers),
            "latest": numbers[-1] if numbers else None, "stages": _stages(view, name),
            "aliases": dict(model.aliases), "description": model.description, "tags": dict(model.tags),
        })  # fmt: skip
    if as_json:
        emit_json(rows)
        return
    table(
        ["model", "latest", "stages", "aliases", "description"],
        [
            [
                row["model"],
                f"-> {row['alias_of']}" if row["alias_of"] else f"v{row['latest']}" if row["latest"] else "",
                " ".join(f"{s}=v{n}" for s, n in row["stages"].items()),
                " ".join(f"@{a}=v{n}" for a, n in sorted(row["aliases"].items())),
                row["description"],
            ]
            for row in rows
        ],
        keep=["model"],
    )


@click.command("show")
@click.argument("model")
@click.argument("version", type=VERSION, required=False)
@json_option
def show_command(model: str, version: int | None, as_json: bool) -> None:
    """Show MODEL with its versions, or one VERSION.

    \b
    Example:
      gml registry show churn
      gml registry show churn v4
    """
    view = open_registry().view()
    key = view.key(model)
    if version is not None:
        _show_version(view, key, version, as_json)
        return
    record = view.model(key)
    versions = [version_json(view, each) for each in view.versions(key)]
    if as_json:
        stages = {
            s: {"seq": r.seq, "version": r.version, "digest": r.digest} for s, r in view.stages(key).items()
        }
        emit_json({
            "model": key, "description": record.description, "tags": dict(record.tags),
            "aliases": dict(record.aliases), "stages": stages, "versions": versions,
        })  # fmt: skip
        return
    click.echo(f"model        {key}")
    for label, text in (
        ("description", record.description),
        ("tags", " ".join(f"{k}={v}" for k, v in sorted(record.tags.items()))),
        ("stages", " ".join(f"{s}=v{n}" for s, n in _stages(view, key).items())),
        ("aliases", " ".join(f"@{a}=v{n}" for a, n in sorted(record.aliases.items()))),
    ):
        if text:
            click.echo(f"{label:12} {text}")
    click.echo()
    table(
        ["version", "stages", "run", "format", "size", "creator", "description"],
        [
            [
                f"v{v['version']}",
                " ".join([*v["stages"], *(f"@{a}" for a in v["aliases"])])
                + ("" if v["status"] == "active" else f"({v['status']})"),
                (v["run"] or "imported")[-8:],
                v["format"],
                size(v["size"]),
                v["creator"],
                v["description"],
            ]
            for v in versions
        ],
        right=["size"],
        keep=["version"],
    )


def _show_version(view: View, model: str, number: int, as_json: bool) -> None:
    facts = version_json(view, view.version(model, number))
    facts["trained"] = _lineage(facts["run"], facts["path"])
    if as_json:
        emit_json(facts)
        return
    click.echo(f"version      {model} v{number}")
    for key, value in facts.items():
        if key in {"model", "version"} or value in (None, "", [], {}):
            continue
        shown = value
        if key == "created":
            shown = timestamp(value or None)
        elif key == "size":
            shown = size(value)
        elif isinstance(value, bool):
            shown = "yes" if value else "no"
        elif isinstance(value, list):
            shown = " ".join(value)
        elif key == "trained":
            for name, text in value.items():
                click.echo(f"{name:12} {text}")
            shown = ""
        elif isinstance(value, dict):
            shown = " ".join(f"{k}={v}" for k, v in sorted(value.items()))
        if shown:
            click.echo(f"{key:12} {shown}")


def _lineage(run_id: str | None, path: str) -> dict[str, Any]:
    """Return where a version comes from, as far as its run is here."""
    from gml.cli.common import open_workspace
    from gml.tracking.models.lineage import lineage
    from gml.tracking.reader import Reader

    run = Reader(open_workspace()).run(run_id) if run_id else None
    found = lineage(run, path) if run is not None else {}
    return {key: value for key, value in found.items() if key != "run"}


@click.command("history")
@click.argument("model")
@json_option
def history_command(model: str, as_json: bool) -> None:
    """Show everything that happened to MODEL, newest first.

    \b
    Example:
      gml registry history churn
    """
    from gml.registry.history import events

    registry = open_registry()
    view = registry.view()
    found = events(registry, view, view.key(model))
    if as_json:
        emit_json([
            {"time": e.time, "author": e.author, "commit": e.commit, "what": e.what, "text": e.text,
             "version": e.version, "stage": e.stage or None}
            for e in found
        ])  # fmt: skip
        return
    table(
        ["time", "what", "by", "commit"],
        [[timestamp(e.time * 1000), e.text, e.author, e.commit[:10]] for e in found],
        keep=["what"],
    )


def parse_time(text: str) -> int:
    """Return seconds since the epoch of a date or time, with the words that queries know.

    Raises:
        UsageError: it is none.
    """
    from gml.domain.errors import GmlError
    from gml.index.query import ast, parse
    from gml.index.query.times import resolve

    bad, hint = f"{text!r:.60} is not a time", "such as 2026-06-01, 2026-06-01T12:00, yesterday"
    try:
        quoted = text.replace("'", "")
        node = parse(f"start_time < '{quoted}'").expression
    except GmlError:
        raise UsageError(bad, hint=hint) from None
    now = int(time.time() * 1000)
    if not isinstance(node, ast.Comparison) or not isinstance(node.value, (ast.Span, ast.Relative, ast.Day)):
        raise UsageError(bad, hint=hint)
    return resolve(node.value, now)[0] // 1000


@click.command("at")
@click.argument("time_", metavar="TIME")
@json_option
def at_command(time_: str, as_json: bool) -> None:
    """Show what the stages of all models held at TIME (dates in UTC).

    Times are those that commits state: information, not proof.

    \b
    Example:
      gml registry at 2026-06-01
    """
    from gml.registry.history import view_at

    view = view_at(open_registry(), parse_time(time_))
    rows = [
        (name, stage, record)
        for name in view.models()
        for stage, record in view.stages(name).items()
        if record.version is not None
    ]
    if as_json:
        keys = ("version", "seq", "digest")
        emit_json([{"model": n, "stage": s} | {k: getattr(r, k) for k in keys} for n, s, r in rows])
        return
    table(
        ["model", "stage", "version", "digest"],
        [[name, stage, f"v{r.version}", (r.digest or "")[:16]] for name, stage, r in rows],
    )


@click.command("blame")
@click.argument("model")
@click.argument("stage")
@json_option
def blame_command(model: str, stage: str, as_json: bool) -> None:
    """Show who put the version into STAGE that it holds, who approved, and by which commit.

    \b
    Example:
      gml registry blame churn Production
    """
    from gml.registry.audit import last_change

    registry = open_registry()
    view = registry.view()
    key = view.key(model)
    row = last_change(registry, view, key, stage)
    if row is None:
        raise NotFoundError(f"{stage} of {key} never held anything")
    if as_json:
        emit_json(row)
        return
    held = f"v{row['version']}" if row["version"] else "nothing"
    click.echo(f"{key} {stage} holds {held} (turn {row['seq']})")
    for label, value in (
        ("changed", timestamp(row["time"] * 1000)),
        ("commit", row["commit"]),
        ("author", row["author"]),
        ("requested", row["requester"]),
        ("approved", ", ".join(row["approvers"])),
        ("before", f"v{row['before']}" if row["before"] else ""),
    ):
        if value:
            click.echo(f"{label:10} {value}")
