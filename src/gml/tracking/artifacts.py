"""Files of a run: small ones travel beside the journal into git, large ones go to the artifact store."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError, InvalidValueError, NotFoundError, StorageError, UsageError
from gml.domain.names import check_artifact_path
from gml.fs import storage_error
from gml.git.selection import is_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gml.tracking.recorder import Recorder

log = logging.getLogger("gml")

DEFAULT_INLINE: Final = 64 * 1024
GIT_AT_ONCE: Final = 4 * 1024 * 1024
"""Bytes of small files put together above which all of them go to the artifact store instead of git."""


def log_bytes(recorder: Recorder, data: bytes, name: str) -> None:
    """Keep bytes as an artifact.

    Args:
        recorder: the run.
        data: content.
        name: path within the run.

    Raises:
        InvalidValueError: the path is not a plain relative one.
        StorageError: the bytes cannot be written.
    """
    check_artifact_path(name)
    digest = hashlib.sha256(data).hexdigest()
    if len(data) <= _inline_limit(recorder):
        _stage(recorder, data, digest)
        at = "stage"
    else:
        recorder.open_workspace().blobs.put_bytes(data)
        at = "cas"
    recorder.append(["a", name, {"at": at, "sha256": digest, "size": len(data)}])


def log_file(recorder: Recorder, path: str | os.PathLike[str], name: str) -> None:
    """Keep a file as an artifact.

    Raises:
        NotFoundError: it does not exist, or vanished while it was read.
        StorageError: it cannot be read or stored.
    """
    check_artifact_path(name)
    source = Path(path)
    try:
        size = source.stat().st_size
        if not source.is_file():
            raise UsageError(
                f"{source} is not a regular file", hint="pipes, sockets and devices cannot be artifacts"
            )
        if size <= _inline_limit(recorder):
            log_bytes(recorder, source.read_bytes(), name)
            return
    except FileNotFoundError:
        raise NotFoundError(f"artifact {source} does not exist (any more)") from None
    except OSError as error:
        raise storage_error(error, f"cannot read artifact {source}") from error
    blob = recorder.open_workspace().blobs.put_file(source)
    recorder.append(["a", name, {"at": "cas", "sha256": blob.digest, "size": blob.size}])


def log_folder(
    recorder: Recorder,
    folder: str | os.PathLike[str],
    prefix: str,
    failed: Callable[[Exception], None],
    progress: Callable[[int], object] | None = None,
) -> int:
    """Keep every file below a folder; what cannot be read is handed to `failed` and left out.

    Left out as well: git directories, and files that look like secrets, which are named in a warning.

    Symbolic links to files are followed, links to directories only once each, so that a directory
    that contains itself ends.

    Args:
        recorder: the run.
        folder: the folder.
        prefix: folder within the run, empty for its top.
        failed: called with each error.
        progress: called with the number of bytes that were read since the last call.

    Returns:
        The number of files kept.
    """
    top = Path(folder)
    if not top.is_dir():
        raise NotFoundError(f"artifact folder {top} does not exist")
    return log_files(recorder, files_below(top, prefix), failed, progress)


def files_below(top: Path, prefix: str) -> list[tuple[Path, str]]:
    """Return the files of a folder that may become artifacts, each with its name within the run.

    Whoever keeps a folder rarely means the key that lies in it; a file that is kept by its own name is kept.
    """
    files, left_out = [], []
    for path, relative in walk_files(top):
        if is_secret(relative):
            left_out.append(relative)
        else:
            files.append((path, f"{prefix}/{relative}" if prefix else relative))
    if left_out:
        named = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
        log.warning("gml: left out of %s: %s (look like secrets); keep one by its own name", top, named)
    return files


def log_files(
    recorder: Recorder,
    files: Sequence[tuple[Path, str]],
    failed: Callable[[Exception], None],
    progress: Callable[[int], object] | None = None,
) -> int:
    """Keep files; small ones that are too many for git go to the artifact store together.

    Args:
        recorder: the run.
        files: each with its name within the run.
        failed: called with each error; the other files are kept all the same.
        progress: called with the number of bytes that were read since the last call.

    Returns:
        The number of files kept.
    """
    small, large = _by_size(recorder, files, failed)
    kept = 0
    for path, name, size in small:
        try:
            log_file(recorder, path, name)
        except (NotFoundError, StorageError, UsageError) as error:
            failed(error)
            continue
        kept += 1
        if progress is not None:
            progress(size)
    if not large:
        return kept
    try:
        stored = recorder.open_workspace().blobs.put_files([path for path, _ in large], progress)
    except StorageError as error:
        failed(error)
        return kept
    events: list[list[Any]] = []
    for (_, name), blob in zip(large, stored, strict=True):
        if isinstance(blob, GmlError):
            failed(blob)
        else:
            events.append(["a", name, {"at": "cas", "sha256": blob.digest, "size": blob.size}])
    recorder.append(*events)
    return kept + len(events)


def _by_size(
    recorder: Recorder, files: Sequence[tuple[Path, str]], failed: Callable[[Exception], None]
) -> tuple[list[tuple[Path, str, int]], list[tuple[Path, str]]]:
    """Return the files that go into git, with their sizes, and those that go to the artifact store."""
    limit = _inline_limit(recorder)
    small: list[tuple[Path, str, int]] = []
    irregular: list[tuple[Path, str, int]] = []
    large: list[tuple[Path, str]] = []
    for path, name in files:
        try:
            check_artifact_path(name)
            facts = path.stat()
        except InvalidValueError as error:
            failed(error)
        except FileNotFoundError:
            failed(NotFoundError(f"artifact {path} does not exist (any more)"))
        except OSError as error:
            failed(storage_error(error, f"cannot read artifact {path}"))
        else:
            if not stat.S_ISREG(facts.st_mode):
                irregular.append((path, name, facts.st_size))
            elif facts.st_size > limit:
                large.append((path, name))
            else:
                small.append((path, name, facts.st_size))
    if sum(size for _, _, size in small) > GIT_AT_ONCE:
        return irregular, [*large, *((path, name) for path, name, _ in small)]
    return [*small, *irregular], large


def walk_files(top: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file below a directory with its relative path, in sorted order; link loops end.

    What is called `.git` is passed over: its configuration may hold passwords, and gml's journals are in it.
    """
    seen: set[tuple[int, int]] = set()
    stack = [(top, "")]
    while stack:
        directory, prefix = stack.pop()
        try:
            facts = directory.stat()
            key = (facts.st_dev, facts.st_ino)
            if key in seen:
                continue
            seen.add(key)
            with os.scandir(directory) as found:
                listed = sorted(found, key=lambda entry: entry.name)
        except OSError:
            continue
        below = []
        for entry in listed:
            name = f"{prefix}{entry.name}"
            if entry.name == ".git":
                continue
            if _is_folder(entry):
                below.append((directory / entry.name, f"{name}/"))
            else:
                yield directory / entry.name, name
        stack.extend(reversed(below))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads to itself


def _inline_limit(recorder: Recorder) -> int:
    return int(recorder.header.get("inline_limit", DEFAULT_INLINE))


def _stage(recorder: Recorder, data: bytes, digest: str) -> None:
    folder = recorder.stage_dir()
    target = folder / digest
    if target.exists():
        return
    temporary = folder / f".{digest[:16]}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(error, f"cannot keep artifact in {folder}") from error


def artifact_name(path: str | os.PathLike[str], artifact_path: str | None) -> str:
    """Return the name a file gets: its own, below `artifact_path` if one is given."""
    try:
        base = Path(path).name
    except TypeError:
        raise InvalidValueError(f"an artifact is the path of a file, not {type(path).__name__}") from None
    return f"{artifact_path.strip('/')}/{base}" if artifact_path else base


def json_bytes(value: Any, name: str) -> bytes:
    """Return a value as JSON or, where the name says so, YAML."""
    if name.endswith((".yaml", ".yml")):
        import yaml

        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode()
    import json

    return (json.dumps(value, indent=2, default=str, ensure_ascii=False) + "\n").encode()
