"""The class of a version's formats by what its files hold: a pickle stays code whatever it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gml.domain.errors import GmlError
from gml.ledger import layout
from gml.policy.records import CODE, DATA, UNKNOWN
from gml.registry.manifest import class_of_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.domain.run import Artifact, Run
    from gml.ledger.view import LedgerView
    from gml.workspace import Workspace

MAX_WHOLE: Final = 256 << 20
_HEAD: Final = 1 << 20
# What a loader of that format unpickles, or would have to unpack before anybody can tell.
_CODE: Final = frozenset(
    ("pickle", "torch", "zip with pickles", "npy with objects", "npz with objects", "hdf5", "zip",
     "skops with object arrays", "zip behind other bytes", "zip bomb", "zip that leaves its folder",
     "damaged zip", "zip with repeated or too many names")
)  # fmt: skip
_PACKED: Final = frozenset(("gzip", "bzip2", "xz", "lzma", "zstd", "lz4", "zlib", "joblib"))
_WORST: Final = {DATA: 0, UNKNOWN: 1, CODE: 2}


def class_of_content(data: bytes) -> str | None:
    r"""Return `code` for bytes that run code when they are loaded, None where they do not say.

    Example:
        >>> class_of_content(b"\x80\x04N."), class_of_content(b"plain text")
        ('code', None)
    """
    from gml.models.formats import sniff

    found = sniff(data)
    if found in _CODE:
        return CODE
    # Text may begin with the letters of a compressed file.
    return CODE if found in _PACKED and not _is_text(data[:4_096]) else None


def _is_text(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and error.reason == "unexpected end of data"
    return b"\0" not in head


def judge_formats(workspace: Workspace, run: Run, path: str) -> str:
    """Return the worst class among a version's files, by names and by what those hold that are here.

    Of files above 256 MiB only the beginning is looked at.
    """
    classes = {DATA}
    for name, artifact in _files(run, path):
        named = class_of_name(name)
        data = None if named == CODE else _bytes(workspace, run, name, artifact)
        classes.add((class_of_content(data) if data else None) or named)
    return max(classes, key=_WORST.__getitem__) if run.artifacts else UNKNOWN


def judge_in_git(view: LedgerView, run: Run, path: str) -> str:
    """Return the class by what is in the ledger itself: small files, which a server sees as well."""
    for name, artifact in _files(run, path):
        if artifact.at.startswith("git"):
            data = view.read(layout.artifact_path(run.run_id, name, artifact.at))
            if data and class_of_content(data) == CODE:
                return CODE
    return DATA


def _files(run: Run, path: str) -> Iterator[tuple[str, Artifact]]:
    wanted = path.strip("/")
    for name, artifact in run.artifacts.items():
        if not wanted or name == wanted or name.startswith(f"{wanted}/"):
            yield name, artifact


def _bytes(workspace: Workspace, run: Run, name: str, artifact: Artifact) -> bytes | None:
    """Return a file, the beginning of a large one, or None where it is not here."""
    if artifact.at.startswith("git"):
        return workspace.ledger.view().read(layout.artifact_path(run.run_id, name, artifact.at))
    try:
        with workspace.blobs.open(artifact.sha256) as file:
            return file.read(artifact.size if artifact.size <= MAX_WHOLE else _HEAD)
    except (GmlError, OSError):
        return None
