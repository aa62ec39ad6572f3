"""`gml doctor`: check everything."""

from __future__ import annotations

import click

from gml.cli.common import json_option, open_workspace
from gml.cli.output import emit_json, is_terminal
from gml.domain.errors import CorruptError

_COLOURS = {"ok": "green", "note": "yellow", "damage": "red"}


@click.command("doctor")
@click.option("--quick", is_flag=True, help="Do not read every run and artifact.")
@json_option
def doctor_command(quick: bool, as_json: bool) -> int:
    """Check repository, ledger, journals and artifacts; name every damage. Changes nothing.

    \b
    Example:
      gml doctor
      gml doctor --json
    """
    from gml.tracking.health import examine, summary

    findings = []
    for finding in examine(open_workspace(), deep=not quick):
        findings.append(finding)
        if not as_json:
            level = f"{finding.level:<6}"
            mark = click.style(level, fg=_COLOURS[finding.level]) if is_terminal() else level
            click.echo(f"{mark} {finding.subject}: {finding.text}")
    if as_json:
        emit_json(summary(findings))
    return CorruptError.exit_code if any(f.level == "damage" for f in findings) else 0
