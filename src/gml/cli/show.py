"""`gml show`: everything about a run."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from gml.cli.common import json_option
from gml.cli.output import duration, emit_json, heading, number, run_json, size, table, timestamp
from gml.cli.watch import at_option, open_at
from gml.domain.ids import short_id
from gml.domain.names import TAG_NOTE, TAG_PARENT

if TYPE_CHECKING:
    from gml.domain.run import Run
    from gml.tracking.reader import Reader


@click.command("show")
@click.argument("run", default="@")
@at_option
@json_option
def show_command(run: str, at: str | None, as_json: bool) -> None:
    """Show everything about RUN (the latest one by default).

    \b
    Example:
      gml show @
      gml show 6f86c4d4 --json
      gml show forest --at 2026-06-01
    """
    reader = open_at(at)
    found = reader.resolve(run)
    experiment = next(
        (e.name for e in reader.experiments() if e.experiment_id == found.experiment_id), found.experiment_id
    )
    if as_json:
        emit_json(_full_json(reader, found, experiment))
    else:
        _print(reader, found, experiment)


def _full_json(reader: Reader, run: Run, experiment: str) -> dict[str, Any]:
    from gml.tracking.contents import environment

    summaries = {
        key: {
            "last": m.last,
            "step": m.step,
            "timestamp": m.timestamp,
            "min": m.min,
            "max": m.max,
            "count": m.count,
        }
        for key, m in sorted(run.metrics.items())
    }
    return run_json(run, experiment) | {
        "metric_summary": summaries,
        "inputs": [dict(entry) for entry in run.inputs],
        "outputs": [dict(entry) for entry in run.outputs],
        "environment": environment(reader, run) or dict(run.environment),
        "children": [child.run_id for child in reader.children(run.run_id)],
        "artifacts": {
            name: {"sha256": a.sha256, "size": a.size} for name, a in sorted(run.artifacts.items())
        },
        "process": dict(run.process),
        "live": run.live,
    }


def _print(reader: Reader, run: Run, experiment: str) -> None:
    facts = [
        ("run", run.run_id),
        ("name", run.name),
        ("experiment", experiment),
        ("status", run.status + (f" ({run.lifecycle_stage})" if run.lifecycle_stage != "active" else "")),
        ("user", run.user),
        ("started", timestamp(run.start_time)),
        ("took", duration(run.duration)),
        ("parent", run.parent_run_id or ""),
        ("command", shlex.join(map(str, run.source.get("argv", ())))),
        *_code_facts(run),
        *_process_facts(run),
        *_environment_facts(reader, run),
    ]
    for name, value in facts:
        if value:
            click.echo(f"{name:<12} {value}")
    if run.description:
        heading("\nnote")
        click.echo(run.description)
    _print_map("params", run.params)
    if run.metrics:
        heading("\nmetrics")
        table(
            ["key", "last", "step", "min", "max", "points"],
            [
                [key, number(m.last), str(m.step), number(m.min), number(m.max), str(m.count)]
                for key, m in sorted(run.metrics.items())
            ],
            right=["last", "step", "min", "max", "points"],
        )
    _print_map("tags", {k: v for k, v in run.tags.items() if k not in {TAG_NOTE, TAG_PARENT}})
    if run.inputs:
        heading("\ninputs")
        for entry in run.inputs:
            context = entry.get("tags", {}).get("mlflow.data.context", "")
            click.echo(f"  {entry.get('name')}  {entry.get('digest')}  {context}".rstrip())
    if run.artifacts:
        heading("\nartifacts")
        table(
            ["path", "size", "sha256"],
            [[name, size(a.size), a.sha256[:12]] for name, a in sorted(run.artifacts.items())],
            right=["size"],
        )
    children = reader.children(run.run_id)
    if children:
        heading("\nchildren")
        for child in children:
            click.echo(f"  {short_id(child.run_id)}  {child.name}  {child.status}")


def _print_map(title: str, values: Any) -> None:
    if values:
        heading(f"\n{title}")
        width = min(40, max(len(key) for key in values))
        for key, value in sorted(values.items()):
            click.echo(f"  {key:<{width}}  {value}")


def _code_facts(run: Run) -> list[tuple[str, str]]:
    source = run.source
    commit = str(source.get("commit") or "")
    state = " with uncommitted changes" if source.get("dirty") else ""
    branch = f" on {source['branch']}" if source.get("branch") else ""
    facts = [("code", f"{commit[:12] or 'no commit'}{branch}{state}" if source.get("code") else "")]
    if source.get("snapshot"):
        facts.append(("snapshot", str(source["snapshot"])[:12]))
    if source.get("remote"):
        facts.append(("remote", str(source["remote"])))
    left_out = source.get("left_out") or {}
    if left_out:
        named = ", ".join(f"{path} ({why})" for path, why in sorted(left_out.items())[:5])
        facts.append(("left out", named + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")))
    if source.get("error"):
        facts.append(("code error", str(source["error"])))
    return facts


def _process_facts(run: Run) -> list[tuple[str, str]]:
    process = run.process
    facts = []
    if "exit_code" in process:
        facts.append(("exit code", str(process["exit_code"])))
    if "signal" in process:
        facts.append(("signal", str(process["signal"])))
    if process.get("max_memory_bytes"):
        used = f"{size(int(process['max_memory_bytes']))} memory, {process.get('cpu_seconds', 0)} s CPU"
        facts.append(("used", used))
    return facts


def _environment_facts(reader: Reader, run: Run) -> list[tuple[str, str]]:
    from gml.tracking.contents import environment

    full = environment(reader, run)
    if not full:
        return []
    python = full.get("python") or {}
    cpu = full.get("cpu") or {}
    facts = [("python", f"{python.get('version', '')} {len(full.get('packages') or {})} packages")]
    facts.append(("host", f"{full.get('host', '')} {cpu.get('count', '')} x {cpu.get('model') or 'CPU'}"))
    gpus = full.get("gpus") or []
    if gpus and isinstance(gpus, list):
        facts.append(("gpus", ", ".join(str(gpu.get("name")) for gpu in gpus)))
    return facts
