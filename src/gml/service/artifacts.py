"""Files of runs and logged models by name. No name ever becomes a path of the file system here.

A file is found by id and name in the run's manifest, whose digest names the bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple
from urllib.parse import unquote

from gml.cas.streams import continued
from gml.domain.errors import InvalidValueError
from gml.domain.names import check_artifact_path
from gml.service.errors import MISSING, ServiceError
from gml.service.live import check_active
from gml.service.models import STAGE

if TYPE_CHECKING:
    from gml.domain.run import Artifact, Run
    from gml.service.store import Store
    from gml.tracking.reader import Reader

_DRIVE = re.compile(r"[A-Za-z]:")
MAX_PATH: Final = 4_000


class Entry(NamedTuple):
    """A file, or a folder, whose size is None."""

    path: str
    size: int | None


def check_path(path: str) -> str:
    """Return a legal path below a run's files.

    Raises:
        ServiceError: it leads elsewhere, in whatever encoding.

    Example:
        >>> check_path("model/MLmodel")
        'model/MLmodel'
    """
    seen = path
    for _ in range(4):
        parts = re.split(r"[/\\]", seen)
        if (
            any(part in {"..", "."} for part in parts)
            or seen.startswith(("/", "\\", "~"))
            or _DRIVE.match(seen)
            or "\x00" in seen
            or "://" in seen
        ):
            raise ServiceError("Invalid path")
        plain = unquote(seen)
        if plain == seen:
            break
        seen = plain
    else:
        raise ServiceError("Invalid path")
    path = path.strip("/")
    try:
        return check_artifact_path(path) if path else ""
    except InvalidValueError:
        raise ServiceError("Invalid path") from None


def listing(run: Run, path: str = "") -> list[Entry]:
    """Return what is in a folder of a run, sorted; nothing for a file or what is not there."""
    prefix = f"{path}/" if path else ""
    files: list[Entry] = []
    folders: set[str] = set()
    for name, artifact in run.artifacts.items():
        if name.startswith(prefix):
            head, slash, _ = name[len(prefix) :].partition("/")
            if slash:
                folders.add(head)
            else:
                files.append(Entry(prefix + head, artifact.size))
    return sorted([*files, *(Entry(prefix + folder, None) for folder in folders)])


def find(run: Run, path: str) -> Artifact:
    """Return a file's facts.

    Raises:
        ServiceError: there is none; a folder is none.
    """
    found = run.artifacts.get(path)
    if found is None:
        if any(name.startswith(f"{path}/") for name in run.artifacts):
            raise ServiceError(f"'{path}' is a directory, not a file")
        raise ServiceError(f"No such artifact: '{path}'", MISSING)
    return found


def open_file(store: Store, run_id: str, path: str) -> tuple[BinaryIO, int]:
    """Return a file of a run, to be read and closed, and its size; what is read matches its digest.

    Raises:
        ServiceError: there is no such run or file, or its bytes are not here.
    """
    from gml.tracking.contents import open_artifact

    run = store.run(run_id)
    facts = find(run, path)
    if facts.at == "cas":
        # Not under the lock: the store may be far away, and needs nothing of the repository.
        return store.workspace.blobs.open(facts.sha256), facts.size

    def question(reader: Reader, found: Run) -> Any:
        return open_artifact(reader, found, path)

    return store.with_points(run_id, question), facts.size


def put(store: Store, run_id: str, path: str, stream: BinaryIO) -> int:
    """Keep everything that a stream gives as a file of a run, replacing one of that name; returns its size.

    Small files wait beside the run's journal for git, large ones go to the artifact store as they come.

    Raises:
        ServiceError: there is no such run, it is deleted, or the bytes cannot be kept.
    """
    from gml.domain.errors import GmlError
    from gml.service.errors import translate
    from gml.tracking.artifacts import log_bytes

    if not path:
        raise ServiceError("Invalid path")
    writable(store, run_id)
    limit = store.workspace.settings.inline_limit
    head = _read(stream, limit + 1)
    if len(head) <= limit:
        with store.live.writing(run_id) as recorder:
            log_bytes(recorder, head, path)
        return len(head)
    try:
        blob = store.workspace.blobs.put_stream(continued(head, stream))
    except GmlError as error:
        raise translate(error) from error
    with store.live.writing(run_id) as recorder:
        recorder.append(["a", path, {"at": "cas", "sha256": blob.digest, "size": blob.size}])
    return blob.size


def remove(store: Store, run_id: str, path: str) -> None:
    """Take a file, or everything in a folder, out of a run."""
    run = store.run(run_id)
    names = [name for name in run.artifacts if not path or name == path or name.startswith(f"{path}/")]
    if not names:
        raise ServiceError(f"No such artifact: '{path}'", MISSING)
    with store.live.writing(run_id) as recorder:
        recorder.append(*(["A", name] for name in names))


def writable(store: Store, run_id: str) -> Run:
    """Return a run, or logged model, that files can be added to."""
    run = store.run(run_id)
    if run.lifecycle_stage != STAGE:
        check_active(run.lifecycle_stage, "run", run_id)
    return run


def _read(stream: BinaryIO, count: int) -> bytes:
    parts: list[bytes] = []
    while count > 0:
        chunk = stream.read(count)
        if not chunk:
            break
        parts.append(chunk)
        count -= len(chunk)
    return b"".join(parts)


def locate(store: Store, path: str) -> tuple[str, str]:
    """Return run id and file name that a path below the root of all artifacts means.

    Clients compose such paths from a run's artifact URI: `<experiment>/<run>/artifacts/<file>`, or
    `<experiment>/models/<model>/artifacts/<file>`.

    Raises:
        ServiceError: no run, or logged model, has files there.

    Example:
        >>> split("0/01983c1f2ab470008000000000000000/artifacts/model/MLmodel")
        [('01983c1f2ab470008000000000000000', 'model/MLmodel')]
    """
    for run_id, name in split(path):
        try:
            store.run(run_id)
        except ServiceError as error:
            if error.code != MISSING:
                raise
        else:
            return run_id, check_path(name)
    raise ServiceError(f"No such artifact: '{path}'", MISSING)


def split(path: str) -> list[tuple[str, str]]:
    """Return every reading of a path as an id, the word `artifacts`, and a name."""
    parts = path.split("/")
    return [(parts[i - 1], "/".join(parts[i + 1 :])) for i in range(1, len(parts)) if parts[i] == "artifacts"]
