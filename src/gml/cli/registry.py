"""`gml registry`: models, versions, stages, approvals. Subcommands are imported when they are used."""

from __future__ import annotations

import importlib
from typing import Final

import click

# name -> (module, function, one line of help)
_COMMANDS: Final = {
    "register": ("registry_write", "Register files of a run as the next version."),
    "ls": ("registry_read", "List models."),
    "show": ("registry_read", "Show a model or one of its versions."),
    "history": ("registry_read", "Show what happened to a model."),
    "at": ("registry_read", "Show what the stages held at a time."),
    "blame": ("registry_read", "Show who put a version into a stage, and who approved."),
    "promote": ("registry_stages", "Put a version into a stage, or propose it."),
    "approve": ("registry_stages", "Approve a proposal with your SSH key."),
    "reject": ("registry_stages", "Reject a proposal, with a reason."),
    "pending": ("registry_stages", "List proposals and what they wait for."),
    "merge": ("registry_stages", "Bring a complete proposal onto the branch."),
    "revert": ("registry_stages", "Go back to the version before."),
    "alias": ("registry_write", "Point an alias at a version."),
    "tag": ("registry_write", "Set or remove tags of a model or version."),
    "describe": ("registry_write", "Set the description of a model or version."),
    "rename": ("registry_write", "Give a model another name."),
    "archive": ("registry_write", "Mark a version as not to be used any more."),
    "delete-version": ("registry_write", "Mark a version as deleted; its record stays."),
    "restore-version": ("registry_write", "Take back an archive or delete-version."),
    "protect": ("registry_policy", "Ask for approvals before a stage changes."),
    "policy": ("registry_policy", "Show the policy, or propose another."),
    "check": ("registry_check", "Judge a pull request against the policy."),
    "verify": ("registry_check", "Prove what a stage holds, offline."),
    "audit": ("registry_check", "List every change of every stage with its evidence."),
    "tags": ("registry_check", "Make the tags that merged changes lack."),
    "watch": ("registry_watch", "Run a command for each change of a stage."),
    "setup": ("registry_forge", "Write what a forge needs to judge pull requests."),
    "judge": ("registry_forge", "Judge the pull requests of a forge, in its CI."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"gml.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_") + "_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group("registry", cls=_Lazy)
def registry_command() -> None:
    """Register models, promote them, and prove who approved what.

    The registry is the branch `gml/registry` of your repository; docs/registry.md explains it.

    \b
    Example:
      gml registry register churn --run @ --path model
      gml registry promote churn 1 --to Production
      gml registry show churn
    """
