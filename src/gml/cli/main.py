"""The command line's entry: finds the command, runs it, turns errors into one line and an exit code.

Commands are imported when they are used, so that `gml --version` and shell completion start at once.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Any, Final

import click

from gml._version import __version__
from gml.domain.errors import GmlError

# name -> (module, one line of help): listing commands must not import them.
COMMANDS: Final = {
    "init": ("init", "Prepare a repository (optional: the first `gml log` does it)."),
    "log": ("log", "Run a command as a tracked run."),
    "run": ("run", "Run a project: a folder or git repository with an MLproject file."),
    "sweep": ("sweep", "Run a command many times with other values and find the best."),
    "queue": ("queue", "Let commands wait for their turn on this machine."),
    "rerun": ("rerun", "Run a recorded run again and say whether it came out the same."),
    "env": ("env", "Show or restore the environment of a run."),
    "ls": ("ls", "List runs."),
    "show": ("show", "Show everything about a run."),
    "ui": ("ui", "Look at the runs in a browser."),
    "site": ("site", "Write the pages as files, for Pages, a share or a mail."),
    "diff": ("diff", "Compare two runs."),
    "history": ("history", "Show a metric along the history of the code."),
    "bisect": ("bisect", "Find the commit that broke a metric."),
    "blame": ("blame", "Show since when the best run has a value."),
    "tag": ("edit", "Set or remove tags of runs."),
    "note": ("edit", "Write a note about a run."),
    "rename": ("edit", "Give a run another name."),
    "rm": ("edit", "Delete runs (they can be restored)."),
    "restore": ("edit", "Bring deleted runs back."),
    "exp": ("exp", "List and manage experiments."),
    "config": ("config", "Show and change settings."),
    "artifacts": ("artifacts", "List, read and add files of runs."),
    "registry": ("registry", "Models: versions, stages, approvals."),
    "hooks": ("hooks", "Install and run git hooks that guard the registry."),
    "trust": ("trust", "Show or pin the first policy that is trusted."),
    "models": ("models", "Look at models, predict with them, serve them."),
    "sql": ("sql", "Ask in SQL, read-only, over runs, params, metrics and the rest."),
    "import": ("imports", "Bring runs of MLflow and other tools in."),
    "export": ("export", "Write runs or metric points as CSV, JSON or Parquet."),
    "clone": ("clone", "Clone a repository with its runs, or only the runs."),
    "push": ("sync", "Bring runs, code and registry to a remote."),
    "pull": ("sync", "Take in what a remote has."),
    "sync": ("sync", "Pull, then push; once, or again and again."),
    "fold": ("sync", "Unite the inboxes of a fleet with the ledger."),
    "bundle": ("bundle", "Carry runs in a file."),
    "server": ("server", "Serve the repository to MLflow's clients over HTTP."),
    "status": ("status", "What runs here, and what is waiting."),
    "recover": ("status", "Commit runs whose process died."),
    "doctor": ("doctor", "Check the repository, the ledger and the store; repair it."),
    "gc": ("gc", "Pack the repository tightly."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return all command names in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gml.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for a misspelt one."""
        name = args[0]
        if name not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, 1)
            hint = f"did you mean `gml {near[0]}`?" if near else "see `gml --help`"
            raise click.UsageError(f"there is no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="RUN is an id, its unique beginning or end, a name, `@` (latest) or `@~1` (the one before).",
)
@click.version_option(__version__, "--version", prog_name="gml", message="%(prog)s %(version)s")
@click.option("-C", "repo", metavar="PATH", help="Use the git repository at PATH instead of the current one.")
@click.pass_context
def cli(ctx: click.Context, repo: str | None) -> None:
    """Git-native experiment tracking: your repository is the tracking server.

    \b
    Example:
      gml log -x churn -- python train.py --lr 0.1
      gml ls
      gml diff @~1 @
    """
    ctx.obj = repo
    if os.environ.get("NO_COLOR"):
        ctx.color = False


class _Lines(logging.Handler):
    """Warnings as single lines on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(" ".join(record.getMessage().split()), err=True)


def _point(error: GmlError) -> None:
    """Show where in a query the error is, to somebody who looks; programs get the position in the line."""
    caret = getattr(error, "caret", None)
    if caret is not None and sys.stderr.isatty():
        click.echo("\n".join(f"  {line}" for line in caret().splitlines()), err=True)


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with the code of what happened."""
    handler = _Lines()
    logger = logging.getLogger("gml")
    logger.addHandler(handler)
    logger.propagate = False
    sys.exit(run(args))


def run(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        # Not `cli.main`: it turns a reader that has left into exit code 1.
        with cli.make_context("gml", list(sys.argv[1:] if args is None else args)) as context:
            result: Any = cli.invoke(context)
        sys.stdout.flush()
    except GmlError as error:
        if os.environ.get("GML_DEBUG"):
            raise
        click.echo(f"gml: {' '.join(str(error).split())}", err=True)
        _point(error)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        asked = getattr(error, "ctx", None)
        where = f" (see `{asked.command_path} --help`)" if asked is not None else ""
        said = error.format_message().rstrip(".")
        click.echo(f"gml: {said}{'' if '--help' in said else where}", err=True)
        return 2
    except click.exceptions.Exit as leave:
        return int(leave.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("gml: interrupted", err=True)
        return 130
    except BrokenPipeError:
        # Whoever read our output has left; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    return int(result or 0) if not isinstance(result, str) else 0
