"""Where things are in the ledger tree. Specified in docs/format.md."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from gml.domain.ids import is_time_ordered

FORMAT_PATH: Final = "format"
FORMAT: Final = "gml-ledger 1"
# The whole content of the format file; the second line is what an older gml shows to its user.
FORMAT_FILE: Final = b"gml-ledger 1\nreadable by gitml 0.1 and newer\n"
FORMAT_VERSION: Final = 1

_HEX32 = re.compile(r"[0-9a-f]{32}")
_PLAIN_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 _.,+=@()\[\]-]{0,199}")
_RECORD = re.compile(
    r"(?:runs/[0-9a-f]{4}/[0-9a-f]{2}/[0-9a-f]{2}|runs-x/[0-9a-f]{2}/[0-9a-f]{2})/([^/]+)\.json"
)
_OF_RUN = re.compile(r"(?:runs/[0-9a-f]{4}/[0-9a-f]{2}/[0-9a-f]{2}|runs-x/[0-9a-f]{2}/[0-9a-f]{2})/([^/.]+)")
_FILE_OF_DOCUMENT = re.compile(
    r"((?:runs/[0-9a-f]{4}/[0-9a-f]{2}/[0-9a-f]{2}|runs-x/[0-9a-f]{2}/[0-9a-f]{2})/[^/.]+)"
    r"(?:(\.hist)|/artifacts/(.+)|(/edits/[^/.]+)(?:(\.hist)|\.files/(.+)))"
)


def run_base(run_id: str) -> str:
    """Return the path of a run without ending; `.json`, `.hist` and a directory stand beside each other.

    Example:
        >>> run_base("01983c1f2ab470008000000000000000")
        'runs/0198/3c/1f/01983c1f2ab470008000000000000000'
        >>> run_base("b3f1c0ffee0040008000000000000000")
        'runs-x/b3/f1/b3f1c0ffee0040008000000000000000'
    """
    if is_time_ordered(run_id):
        return f"runs/{run_id[:4]}/{run_id[4:6]}/{run_id[6:8]}/{run_id}"
    spread = run_id if _HEX32.fullmatch(run_id) else hashlib.sha256(run_id.encode()).hexdigest()
    return f"runs-x/{spread[:2]}/{spread[2:4]}/{run_id}"


def record_path(run_id: str) -> str:
    """Return the path of a run's record."""
    return run_base(run_id) + ".json"


def history_path(run_id: str) -> str:
    """Return the path of a record's history file."""
    return run_base(run_id) + ".hist"


def edits_dir(run_id: str) -> str:
    """Return the directory of a run's edits."""
    return run_base(run_id) + "/edits"


def edit_name(clock: int, session: str) -> str:
    """Return the name of an edit without ending: sorts by clock, then session."""
    return f"{clock:06d}-{session}"


def artifact_path(run_id: str, name: str, at: str = "git") -> str:
    """Return the path of an artifact whose bytes are in git.

    Args:
        run_id: the run.
        name: path of the artifact within the run.
        at: `git` for files of the record, `git:<edit>` for those that an edit brought; each session
            writes below its own path, so merges never meet.
    """
    _, _, edit = at.partition(":")
    folder = f"edits/{edit}.files" if edit else "artifacts"
    return f"{run_base(run_id)}/{folder}/{name}"


def fits_git(name: str) -> bool:
    """Whether every git tool on every system accepts this artifact path as tree path."""
    return all(
        _PLAIN_PART.fullmatch(part) and not part.lower().startswith("git~") and part[-1] not in ". "
        for part in name.split("/")
    )


def experiment_path(experiment_id: str) -> str:
    """Return the path of an experiment's document."""
    return f"experiments/{experiment_id}.json"


def experiment_edits_dir(experiment_id: str) -> str:
    """Return the directory of an experiment's edits."""
    return f"experiments/{experiment_id}/edits"


def environment_path(digest: str) -> str:
    """Return the path of a full environment description."""
    return f"environments/{digest[:2]}/{digest}.json"


def manifest_path(digest: str) -> str:
    """Return the path of a long artifact manifest."""
    return f"manifests/{digest[:2]}/{digest}.json"


def run_of_path(path: str) -> str | None:
    """Return the id of the run that a ledger path belongs to, None for other paths."""
    match = _OF_RUN.match(path)
    return match.group(1) if match else None


def owner_of_file(path: str) -> tuple[str, str | None] | None:
    """Return the document that a file belongs to, and the artifact it is (None for a history file).

    Documents and files that belong to no document give None.

    Example:
        >>> owner_of_file("runs/0198/3c/1f/01983c1f2ab470008000000000000000/artifacts/model/weights.bin")
        ('runs/0198/3c/1f/01983c1f2ab470008000000000000000.json', 'model/weights.bin')
        >>> owner_of_file("runs/0198/3c/1f/01983c1f2ab470008000000000000000.hist")
        ('runs/0198/3c/1f/01983c1f2ab470008000000000000000.json', None)
    """
    match = _FILE_OF_DOCUMENT.fullmatch(path)
    if match is None:
        return None
    base, _, artifact, edit, _, edit_artifact = match.groups()
    return f"{base}{edit or ''}.json", artifact or edit_artifact
