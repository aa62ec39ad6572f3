"""`gml doctor`: check everything."""

from __future__ import annotations

import click

from gml.cli.common import json_option, open_workspace
from gml.cli.output import emit_json, is_terminal
from gml.domain.errors import CorruptError

_COLOURS = {"ok": "green", "note": "yellow", "damage": "red"}


@click.command("doctor")
@click.option("--quick", is_flag=True, help="Do not read every run and artifact.")
@click.option("--online", is_flag=True, help="Ask the remotes too.")
@click.option("--repair", is_flag=True, help="Set broken objects aside and fetch them from the remotes.")
@json_option
def doctor_command(quick: bool, online: bool, repair: bool, as_json: bool) -> int:
    """Check repository, ledger, journals, artifacts and remotes; name every damage.

    Changes nothing without `--repair`, which may be interrupted and repeated. What it sets aside goes to
    `gml/quarantine` in the git directory.

    \b
    Example:
      gml doctor
      gml doctor --json
      gml doctor --repair
    """
    from itertools import chain

    from gml.sync import doctor
    from gml.tracking.health import examine, summary

    workspace = open_workspace()
    looked = chain(
        examine(workspace, deep=not quick), doctor.examine(workspace, online=online, deep=not quick)
    )
    findings = []
    for finding in doctor.repair(workspace) if repair else looked:
        findings.append(finding)
        if not as_json:
            level = f"{finding.level:<6}"
            mark = click.style(level, fg=_COLOURS[finding.level]) if is_terminal() else level
            click.echo(f"{mark} {finding.subject}: {finding.text}")
    if as_json:
        emit_json(summary(findings))
    return CorruptError.exit_code if any(f.level == "damage" for f in findings) else 0
