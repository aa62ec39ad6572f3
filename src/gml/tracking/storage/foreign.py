"""Files that DVC or git-LFS track, and where their bytes are."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gml.cas.adopt import adopt
from gml.cas.transfer import SourceError
from gml.domain.errors import CorruptError, GmlError, InvalidValueError, NotFoundError, UsageError
from gml.domain.names import check_artifact_path
from gml.fs import storage_error
from gml.git.log import CommitLog
from gml.git.trees import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gml.tracking.recorder import Recorder
    from gml.workspace import Workspace

_HINT: Final = "`dvc fetch` or `git lfs fetch` brings it"
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize (\d+)\n"
)
_FILES: Final = (0o100644, 0o100755)
_LONGEST_POINTER: Final = 1024


@dataclass(frozen=True, slots=True)
class Foreign:
    """A file that another tool tracks.

    Attributes:
        path: relative to the top of the work tree, with slashes.
        place: where its bytes are, whether they are there or not.
        md5: what they must have, of DVC.
        sha256: what they must have, of git-LFS.
    """

    path: str
    place: Path
    md5: str | None = None
    sha256: str | None = None


# --- DVC --------------------------------------------------------------------------------------------


def dvc_files(top: Path, given: Sequence[Path] = ()) -> list[Foreign]:
    """Return the files that `.dvc` files and `dvc.lock` name.

    Args:
        top: the work tree.
        given: these `.dvc` and `dvc.lock` files only; all below `top` if there is none.

    Raises:
        NotFoundError: there is none.
        CorruptError: one of them, or a listing of a folder in the cache, cannot be understood.
    """
    files = [path.resolve() for path in given] or sorted(_dvc_files_below(top))
    if not files:
        raise NotFoundError(f"there are no .dvc files in {top}", hint="is this a DVC repository?")
    found: dict[str, Foreign] = {}
    for file in files:
        for out in _outs(file):
            for foreign in _out(top, _dvc_cache(file.parent, top), file, out):
                found[foreign.path] = foreign
    return [found[path] for path in sorted(found)]


def _dvc_files_below(top: Path) -> Iterator[Path]:
    for pattern in ("*.dvc", "dvc.lock"):
        for path in top.rglob(pattern):
            if path.is_file() and ".git" not in path.parts and ".dvc" not in path.relative_to(top).parts[:-1]:
                yield path


def _dvc_cache(start: Path, top: Path) -> Path:
    """Return the cache of the DVC repository that a folder belongs to."""
    import configparser

    folder = next((one / ".dvc" for one in (start, *start.parents) if (one / ".dvc").is_dir()), top / ".dvc")
    for name in ("config.local", "config"):
        config = configparser.ConfigParser(interpolation=None)
        try:
            config.read(folder / name, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise CorruptError(f"{folder / name} cannot be read: {error}") from error
        told = config.get("cache", "dir", fallback=None)
        if told:
            return (folder / told).resolve()
    return folder / "cache"


def _outs(file: Path) -> list[dict[str, Any]]:
    import yaml

    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"{file} does not exist") from error
    except OSError as error:
        raise storage_error(error, f"cannot read {file}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CorruptError(f"{file} is no file of DVC: {' '.join(str(error).split())[:200]}") from error
    data = data if isinstance(data, dict) else {}
    stages = data.get("stages")
    parts = list(stages.values()) if isinstance(stages, dict) else [data]
    outs = [out for part in parts if isinstance(part, dict) for out in part.get("outs") or []]
    for out in outs:
        if not isinstance(out, dict) or not isinstance(out.get("path"), str):
            raise CorruptError(f"{file} has an output without a path")
    return outs


def _out(top: Path, cache: Path, file: Path, out: dict[str, Any]) -> Iterator[Foreign]:
    md5 = str(out.get("md5", ""))
    if not md5:
        return  # not cached by DVC, such as metrics in git
    at = (file.parent / str(out["path"])).resolve()
    if not at.is_relative_to(top):
        raise UsageError(f"{file} names {out['path']}, which is not in {top}")
    path = at.relative_to(top).as_posix()
    digest = md5.removesuffix(".dir")
    if not _MD5.fullmatch(digest):
        raise CorruptError(f"{file} names {md5!r}, which is no MD5")
    if not md5.endswith(".dir"):
        yield Foreign(path, _dvc_object(cache, digest), md5=digest)
        return
    listing = _dvc_object(cache, digest)
    listing = listing.with_name(f"{listing.name}.dir")
    try:
        entries = [(str(entry["relpath"]), str(entry["md5"])) for entry in json.loads(listing.read_bytes())]
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} is not in {cache}", hint="`dvc fetch` brings it") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{listing} is no listing of a folder") from error
    for name, one in entries:
        if not _MD5.fullmatch(one):
            raise CorruptError(f"{listing} names {one!r}, which is no MD5")
        yield Foreign(f"{path}/{name}", _dvc_object(cache, one), md5=one)


def _dvc_object(cache: Path, md5: str) -> Path:
    """Return where DVC 3 keeps an object, or where older ones did if it is only there."""
    new, old = cache / "files" / "md5" / md5[:2] / md5[2:], cache / md5[:2] / md5[2:]
    older = any(path.exists() for path in (old, old.with_name(f"{old.name}.dir")))
    newer = any(path.exists() for path in (new, new.with_name(f"{new.name}.dir")))
    return old if older and not newer else new


# --- git-LFS ----------------------------------------------------------------------------------------


def lfs_files(workspace: Workspace, below: Sequence[str] = ()) -> list[Foreign]:
    """Return the files of HEAD that are pointers of git-LFS.

    Args:
        workspace: the repository.
        below: files and folders to look at, relative to the top; everything if there is none.

    Raises:
        NotFoundError: there is none.
    """
    store = workspace.store
    head = store.resolve("HEAD")
    tree = CommitLog(store).tree(head) if head is not None else None
    objects = store.location.common_dir / "lfs" / "objects"
    wanted = [one.strip("/") for one in below]
    found = []
    for path, _, entry in walk(store, None, tree):
        if entry is None or entry.mode not in _FILES:
            continue
        if wanted and not any(path == one or path.startswith(f"{one}/") for one in wanted):
            continue
        data = store.read(entry.oid)[1]
        match = _POINTER.fullmatch(data) if len(data) <= _LONGEST_POINTER else None
        if match:
            digest = match[1].decode()
            found.append(Foreign(path, objects / digest[:2] / digest[2:4] / digest, sha256=digest))
    if not found:
        raise NotFoundError("HEAD has no files of git-LFS there", hint="`git lfs ls-files` lists them")
    return found


# --- taking them in ---------------------------------------------------------------------------------


def take_in(
    recorder: Recorder,
    files: Sequence[Foreign],
    failed: Callable[[GmlError], object],
    folder: str | None = None,
) -> Counter[str]:
    """Make files that another tool tracks artifacts of a run, without copying them where that is safe.

    Args:
        recorder: the run.
        files: the files.
        failed: called with each error; the other files are taken all the same.
        folder: folder within the run.

    Returns:
        How many were `known`, `cloned`, `linked` and `copied`; `bytes` is the size of all of them.
    """
    store = recorder.open_workspace().blobs
    done: Counter[str] = Counter()
    for foreign in files:
        name = f"{folder.strip('/')}/{foreign.path}" if folder else foreign.path
        try:
            check_artifact_path(name)
            blob, how = adopt(store, foreign.place, sha256=foreign.sha256, md5=foreign.md5)
        except NotFoundError:
            failed(NotFoundError(f"{foreign.path} is not in {foreign.place.parent}", hint=_HINT))
        except (InvalidValueError, CorruptError, SourceError, UsageError) as error:
            failed(error)
        else:
            recorder.append(["a", name, {"at": "cas", "sha256": blob.digest, "size": blob.size}])
            done[how] += 1
            done["bytes"] += blob.size
    return done
