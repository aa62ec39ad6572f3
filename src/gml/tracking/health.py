"""What is going on in a repository, and whether everything in it is sound."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gml._version import __version__
from gml.domain.errors import FormatError, GmlError
from gml.domain.run import LINKED, SHREDDED
from gml.ledger.history import read_blocks
from gml.tracking.contents import open_artifact, segment
from gml.tracking.journal import session as journal
from gml.tracking.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.domain.run import Run
    from gml.workspace import Workspace


@dataclass(slots=True)
class Finding:
    """One result of the doctor.

    Attributes:
        level: `ok`, `note` or `damage`.
        subject: what was looked at.
        text: what was found, and what to do where something can be done.
    """

    level: str
    subject: str
    text: str


@dataclass(slots=True)
class Status:
    """What runs here and what is waiting."""

    running: list[Run] = field(default_factory=list)
    interrupted: list[str] = field(default_factory=list)
    latest: Run | None = None


def status(workspace: Workspace) -> Status:
    """Return what runs here and what is waiting."""
    from gml.tracking.commit import unfinished

    reader = Reader(workspace)
    out = Status(interrupted=[path.name for path in unfinished(workspace)])
    for run_id, session in reader.live.items():
        if session.alive:
            run = reader.run(run_id)
            if run is not None:
                out.running.append(run)
    out.latest = next(reader.runs(), None)
    return out


def examine(workspace: Workspace, *, deep: bool = True) -> Iterator[Finding]:
    """Yield what there is to say about a repository.

    Args:
        workspace: the repository.
        deep: also read every run, history and inline artifact, and look for every stored artifact.
    """
    where = workspace.store.location
    yield Finding("ok", "gml", f"{__version__} on Python {sys.version.split()[0]}")
    yield Finding("ok", "engine", f"{where.engine}: {where.engine_reason}")
    git = shutil.which("git", path=workspace.environ.get("PATH"))
    yield Finding(
        "ok" if git else "note", "git", git or "no git command on PATH; libgit2 is used for everything"
    )
    yield Finding("ok", "repository", f"{where.common_dir} ({where.object_format})")
    known = workspace.store.identity()
    if known is None:
        text = f"none configured; commits say {workspace.identity.name} <{workspace.identity.email}>"
        yield Finding("note", "identity", text)
    yield _writable(workspace)
    try:
        tip = workspace.ledger.tip()
        reader = Reader(workspace)
    except FormatError:
        raise
    except GmlError as error:
        yield Finding("damage", "ledger", str(error))
        return
    yield Finding("ok", "ledger", f"{workspace.ledger.ref} at {tip[:12]}" if tip else "empty: no run yet")
    yield from _journals(workspace)
    if deep:
        yield from _runs(reader)


def _writable(workspace: Workspace) -> Finding:
    for path in (workspace.store.location.common_dir, workspace.state_dir, workspace.journal_root):
        if path.exists() and not os.access(path, os.W_OK):
            return Finding("note", "access", f"{path} cannot be written: runs can be read, not logged")
    return Finding("ok", "access", "writable")


def _journals(workspace: Workspace) -> Iterator[Finding]:
    for path in journal.sessions(workspace.journal_root):
        if journal.alive_processes(path):
            yield Finding("ok", f"run {path.name}", "is running")
        else:
            yield Finding("note", f"run {path.name}", "was interrupted; `gml recover` commits it")


def _runs(reader: Reader) -> Iterator[Finding]:
    count = 0
    sound = True
    for entry in reader.entries():
        count += 1
        try:
            run = reader.run(entry.run_id)
            if run is not None:
                _check_run(reader, run)
        except GmlError as error:
            sound = False
            yield Finding("damage", f"run {entry.run_id}", str(error))
    yield Finding("ok" if sound else "note", "runs", f"{count} read")


def _check_run(reader: Reader, run: Run) -> None:
    for part in run.history:
        for described in part.segments:
            data = segment(reader, run, part.session, dict(described))
            for _ in read_blocks(data, f"history of {run.run_id}"):
                pass
    for name, facts in run.artifacts.items():
        if facts.at == "cas":
            if not reader.workspace.blobs.contains(facts.sha256):
                raise GmlError(f"artifact {name} ({facts.sha256[:12]}) is not in the artifact store")
        elif facts.at not in {SHREDDED, LINKED}:
            with open_artifact(reader, run, name):
                pass


def summary(findings: list[Finding]) -> dict[str, Any]:
    """Return findings as JSON for `gml doctor --json`."""
    return {
        "sound": all(f.level != "damage" for f in findings),
        "findings": [{"level": f.level, "subject": f.subject, "text": f.text} for f in findings],
    }
