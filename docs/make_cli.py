"""Writes docs/cli.md from the commands themselves.

python docs/make_cli.py            # write it
python docs/make_cli.py --check    # say whether it is up to date
"""

# ruff: noqa: INP001, T201

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gml.cli.export_mlflow import mlflow_command
from gml.cli.main import COMMANDS, cli

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = Path(__file__).with_name("cli.md")
HEAD = """# The command line

This page is made from the commands by `docs/make_cli.py`; `gml COMMAND --help` says the same.

`RUN` is a run's id, its unique beginning or end (4 digits or more), its name, `@` for the latest run, or
`@~1` for the one before. On a terminal tables fit its width; in a pipe they are tab-separated lines with a
heading.
`--json` prints the shapes of [json.md](json.md). Warnings and errors are single lines on standard error;
[exit-codes.md](exit-codes.md) lists the codes. `GML_DEBUG=1` shows a traceback instead of the line.
"""
TAIL = """## Settings

Environment variables win over `git config`, which wins over the default.

| git config | environment | default | what |
|---|---|---|---|
| | `GML_REPO` | around the current directory | the repository |
| `gml.experiment` | `GML_EXPERIMENT`, `MLFLOW_EXPERIMENT_NAME` | `Default` | experiment by default |
| `gml.code` | `GML_CODE` | `snapshot` | what is kept of the code: `snapshot`, `patch`, `none` |
| `gml.checkpoint` | `GML_CHECKPOINT` | 600 | seconds between commits of a run that goes on; 0 for none |
| `gml.inlineLimit` | | 65536 | bytes up to which an artifact goes into git |
| `gml.artifacts.store` | | `gml/cas` in the git directory | folder or fsspec URL of the artifact store |
| `gml.namespace` | | `gml` | middle part of the refs |
| | `GML_JOURNAL_DIR` | `gml/journal` in the git directory | where live runs keep their journals |
| | `GML_CACHE_DIR` | `gml` in `~/.cache` or XDG_CACHE_HOME | environments and clones that can be made again |
| `gml.signingKey` | | git's, or `~/.ssh/id_*` | SSH key that signs: a file, or a public key in an agent |
| | `GML_HOOK_TIMEOUT` | 60 | seconds after which a hook refuses |
| | `GML_SERVE_TOKEN` | none | what clients of `gml models serve` must send |
| | `GML_USER` | the login name | who starts runs |
| | `GML_RUN_ID`, `MLFLOW_RUN_ID` | | the run that this process belongs to; `gml log` sets it |
| | `GML_ACTIVE_RUN`, `GML_JOURNAL` | | set for child processes: the run and its journal |
| | `GML_DEBUG` | | a traceback instead of one line, for reports of bugs |
"""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield the name and the command of every command and subcommand."""
    top = click.Context(cli, info_name="gml")
    for name in COMMANDS:
        command = cli.get_command(top, name)
        if command is None:
            raise LookupError(name)
        yield f"gml {name}", command
        if name == "export":
            yield "gml export mlflow", mlflow_command
        if isinstance(command, click.Group):
            yield from _below(f"gml {name}", command)


def _below(name: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group, info_name=name)
    for sub in group.list_commands(context) if type(group) is not click.Group else group.commands:
        inner = group.get_command(context, sub)
        if inner is not None:
            yield f"{name} {sub}", inner
            if isinstance(inner, click.Group):
                yield from _below(f"{name} {sub}", inner)


def text_and_examples(command: click.Command) -> tuple[str, list[str]]:
    """Return a command's help as paragraphs and its example lines."""
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    body, _, examples = text.partition("Example:\n")
    return body.strip(), [line.strip() for line in examples.splitlines() if line.strip()]


def section(name: str, command: click.Command) -> str:
    """Return the section of one command."""
    context = click.Context(command, info_name=name)
    body, examples = text_and_examples(command)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    out = [f"## {name}\n", body, "", "```text", usage, "```", ""]
    rows = []
    for parameter in command.get_params(context):
        if not isinstance(parameter, click.Option) or "--help" in parameter.opts:
            continue
        record = parameter.get_help_record(context)
        if record is not None:
            left, right = (re.sub(r"\s+", " ", part).replace("|", "\\|") for part in record)
            rows.append(f"| `{left}` | {right} |")
    if rows:
        out += ["| option | what |", "|---|---|", *rows, ""]
    out += ["```text", *examples, "```", ""]
    return "\n".join(out)


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    parts += [section(name, command) for name, command in commands()]
    return "\n".join([*parts, TAIL])


def main(args: list[str]) -> int:
    """Write the page, or compare it."""
    fresh = page()
    if "--check" in args:
        same = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == fresh
        print(f"{TARGET.name} is {'up to date' if same else 'not up to date: python docs/make_cli.py'}")
        return 0 if same else 1
    TARGET.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
