"""What ran: code, command, environment of a new run."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError
from gml.tracking.capture.keys import clean_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.git.port import Snapshot
    from gml.workspace import Workspace

log = logging.getLogger("gml")

# A process that starts many runs looks at the work tree at most this often: its own code is loaded.
SNAPSHOT_EVERY: Final = 10.0
MAX_LISTED: Final = 200
MAX_PATCH: Final = 4 * 1024 * 1024
_CREDENTIALS = re.compile(r"(?<=://)[^/@]+@")


@dataclass(slots=True)
class Source:
    """The facts about a run's code and what is to be kept beside them."""

    facts: dict[str, Any]
    patch: str | None = None


_captured: dict[Path, tuple[float, str, Source]] = {}


def capture_source(
    workspace: Workspace, command: Sequence[str] | None, *, kind: str = "LOCAL", cwd: Path | None = None
) -> Source:
    """Return what the `source` section of a run says, keeping the exact code alive on the code ref.

    Never raises because of the repository: what could not be captured is named under `error`.

    Args:
        workspace: the repository.
        command: the command line that is tracked; None for the running interpreter's own.
        kind: LOCAL, NOTEBOOK, PROJECT or JOB.
        cwd: where the command runs, None for the current directory.
    """
    code = _code(workspace)
    argv = list(command) if command is not None else [sys.argv[0] if sys.argv else "", *sys.argv[1:]]
    facts: dict[str, Any] = {"type": kind, "name": _name(argv), "argv": _without_secrets(argv[:200])}
    facts["cwd"] = _relative(cwd or Path.cwd(), workspace.store.location.worktree)
    identity = workspace.store.identity()
    if identity is not None:
        facts["author"] = f"{identity.name} <{identity.email}>"
    return Source(facts | code.facts, code.patch)


def look_again(workspace: Workspace) -> None:
    """Capture the work tree anew for the next run of this process: a command may have changed it."""
    _captured.pop(workspace.store.location.git_dir, None)


def _without_secrets(argv: list[str]) -> list[str]:
    """Return a command line with the values masked that are masked as params."""
    out: list[str] = []
    option = ""
    for arg in argv:
        name, equals, value = arg.partition("=")
        if option:
            out.append(clean_value(option, arg)[:2_000])
        elif equals:
            out.append(f"{name}={clean_value(name.lstrip('-'), value)}"[:2_000])
        else:
            out.append(clean_value("", arg)[:2_000])
        option = name.lstrip("-") if arg.startswith("-") and not equals else ""
    return out


def _name(argv: list[str]) -> str:
    for arg in argv:
        if arg.endswith((".py", ".sh", ".R", ".ipynb")):
            return arg
    return argv[0] if argv else ""


def _relative(cwd: Path, top: Path | None) -> str:
    if top is not None and cwd.is_relative_to(top):
        return cwd.relative_to(top).as_posix()
    return str(cwd)


def _code(workspace: Workspace) -> Source:
    key = workspace.store.location.git_dir
    mode = workspace.settings.code
    known = _captured.get(key)
    if known is not None and known[1] == mode and time.monotonic() - known[0] < SNAPSHOT_EVERY:
        return known[2]
    try:
        source = _look(workspace, mode)
    except (GmlError, OSError) as error:
        log.warning("gml: the code of this run could not be captured (%s)", error)
        return Source({"code": "none", "error": str(error)})
    _captured[key] = (time.monotonic(), mode, source)
    return source


def _look(workspace: Workspace, mode: str) -> Source:
    from gml.git.port import SnapshotRules
    from gml.git.worktree import snapshot_commit

    tree = workspace.worktree
    snapshot = tree.snapshot(SnapshotRules(), write=mode != "none")
    facts: dict[str, Any] = {
        "code": mode,
        "commit": snapshot.commit,
        "branch": snapshot.branch,
        "dirty": snapshot.dirty,
        "tree": snapshot.tree,
    }
    remotes = workspace.store.remotes()
    if remotes:
        url = remotes.get("origin") or next(iter(remotes.values()))
        facts["remote"] = _CREDENTIALS.sub("", url)
    _list(facts, snapshot)
    if mode == "none":
        facts["tree"] = None
        return Source({k: v for k, v in facts.items() if v not in (None, [], {})})
    patch = None
    if mode == "patch":
        facts["tree"] = None
        head = _head_tree(workspace, snapshot.commit)
        patch = tree.diff(head, snapshot.tree, max_bytes=MAX_PATCH) if snapshot.dirty else None
    else:
        keep = snapshot.commit
        if snapshot.dirty and snapshot.tree is not None:
            keep = snapshot_commit(
                workspace.store, snapshot, workspace.identity, int(time.time()), "work tree of a gml run\n"
            )
            facts["snapshot"] = keep
        if keep is not None:
            workspace.ledger.keep_code(keep)
    return Source({k: v for k, v in facts.items() if v not in (None, [], {})}, patch)


def _head_tree(workspace: Workspace, commit: str | None) -> str | None:
    from gml.git.objects import parse_commit

    return None if commit is None else parse_commit(workspace.store.read(commit)[1]).tree


def _list(facts: dict[str, Any], snapshot: Snapshot) -> None:
    for key, paths in (("changed", snapshot.changed), ("untracked", snapshot.untracked)):
        if paths:
            facts[key] = [_text(path) for path in paths[:MAX_LISTED]]
            if len(paths) > MAX_LISTED:
                facts[f"{key}_count"] = len(paths)
    if snapshot.left_out:
        listed = sorted(snapshot.left_out.items())
        facts["left_out"] = {_text(path): reason for path, reason in listed[:MAX_LISTED]}
        if len(listed) > MAX_LISTED:
            facts["left_out_count"] = len(listed)


def _text(path: str) -> str:
    """Return a path as JSON can carry it: bytes that are not UTF-8 become replacement characters."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


_environment: dict[str, dict[str, Any]] = {}


def capture_own_environment() -> dict[str, Any]:
    """Return the environment of this interpreter; looked at once a process."""
    from gml.tracking.capture.environment import capture_environment

    cwd = str(Path.cwd())
    if cwd not in _environment:
        try:
            _environment[cwd] = capture_environment(os.environ, Path(cwd))
        except (GmlError, OSError, ValueError) as error:
            log.warning("gml: the environment could not be captured (%s)", error)
            return {}
    return _environment[cwd]
