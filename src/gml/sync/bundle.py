"""Bundles for machines without a network: commits, tags and bytes in one verified file (docs/format.md)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml import fs
from gml.domain.errors import CorruptError, FormatError, GmlError, NotFoundError, RefMovedError, UsageError
from gml.git.bundle import BundleTransport, write_bundle
from gml.sync.moved import changed_runs
from gml.sync.names import REGISTRY, TAGS, Names
from gml.sync.pull import Report, pull
from gml.sync.remotes import Remote, choose, names_of
from gml.sync.seen import read_seen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gml.workspace import Workspace

MANIFEST: Final = "gml-bundle.json"
COMMITS: Final = "commits.bundle"
FORMAT: Final = "gml-bundle 1"
_BLOB: Final = re.compile(r"sha256/[0-9a-f]{2}/([0-9a-f]{64})")
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Made:
    """What a bundle holds: `refs` name -> id, runs, artifacts and the bytes of the file."""

    refs: dict[str, str]
    runs: int
    blobs: int
    left_out: int
    size: int


def create(workspace: Workspace, target: Path, *, since: str | None = None, with_bytes: bool = True) -> Made:
    """Write everything, or what is new, to one file that appears only when it is whole.

    Args:
        workspace: the repository.
        target: the file.
        since: `last` for what the latest bundle had, or the name of a remote for what that one has.
        with_bytes: include artifacts of the artifact store.

    Raises:
        UsageError: there is nothing to write, or the file exists.
        StorageError: it could not be written.
    """
    if target.exists():
        raise UsageError(f"{target} exists", hint="name another file")
    known = _known(workspace, since)
    here = _own_refs(workspace)
    fresh = {name: oid for name, oid in here.items() if known.get(name) != oid}
    if not fresh:
        raise UsageError(
            "there is nothing to put into a bundle" if since is None else f"nothing is new since {since}"
        )
    old = [oid for oid in known.values() if workspace.store.contains(oid)]
    runs, _ = changed_runs(workspace.store, known.get(workspace.ledger.ref), workspace.ledger.tip())
    digests = sorted(_digests(workspace, runs)) if with_bytes else []
    there = [digest for digest in digests if workspace.blobs.contains(digest)]
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent or ".", prefix=".gml-bundle-") as place:
            commits = Path(place) / COMMITS
            write_bundle(workspace.store, commits, fresh, old)
            _pack(workspace, temporary, commits, fresh, known, there)
        temporary.replace(target)
        fs.fsync_directory(target.parent)
    except OSError as error:
        raise fs.storage_error(error, f"cannot write {target}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    _remember(workspace, here)
    return Made(fresh, len(runs), len(there), len(digests) - len(there), target.stat().st_size)


def _pack(
    workspace: Workspace,
    target: Path,
    commits: Path,
    refs: dict[str, str],
    since: dict[str, str],
    digests: Iterable[str],
) -> None:
    listed = list(digests)
    manifest = {
        "format": FORMAT,
        "writer": workspace.writer_id,
        "namespace": workspace.settings.namespace,
        "refs": refs,
        "since": {name: oid for name, oid in since.items() if name in refs},
        "blobs": listed,
        "files": {COMMITS: {"sha256": _sha256(commits), "size": commits.stat().st_size}},
    }
    with target.open("xb") as raw:
        with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            archive.writestr(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
            archive.write(commits, COMMITS)
            for digest in listed:
                name = f"sha256/{digest[:2]}/{digest}"
                with (
                    workspace.blobs.open(digest) as blob,
                    archive.open(name, "w", force_zip64=True) as member,
                ):
                    shutil.copyfileobj(blob, member, _CHUNK)
        raw.flush()
        os.fsync(raw.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_refs(workspace: Workspace) -> dict[str, str]:
    store, ledger = workspace.store, workspace.ledger
    found = {name: oid for name in (ledger.ref, ledger.code_ref, REGISTRY) if (oid := store.ref(name))}
    return found | store.refs(TAGS)


def _bundled(workspace: Workspace) -> str:
    return f"refs/{workspace.settings.namespace}/bundled/"


def _known(workspace: Workspace, since: str | None) -> dict[str, str]:
    """Return what the receiver is known to have: local ref name -> id."""
    if since is None:
        return {}
    store, ledger = workspace.store, workspace.ledger
    if since == "last":
        stem = _bundled(workspace)
        return {f"refs/{name[len(stem) :]}": oid for name, oid in store.refs(stem).items()}
    seen = read_seen(store, names_of(workspace, choose(workspace, since)))
    pairs = {ledger.ref: seen.ledger, ledger.code_ref: seen.code, REGISTRY: seen.registry}
    return {name: oid for name, oid in pairs.items() if oid} | {TAGS + n: o for n, o in seen.tags.items()}


def _remember(workspace: Workspace, refs: dict[str, str]) -> None:
    store = workspace.store
    for name, oid in refs.items():
        ref = _bundled(workspace) + name.removeprefix("refs/")
        before = store.ref(ref)
        if before != oid:
            with suppress(RefMovedError):
                store.update_ref(ref, oid, expected=before, message="bundle")


def _digests(workspace: Workspace, runs: Iterable[str]) -> set[str]:
    """Return the digests of everything that runs keep in the artifact store."""
    view = workspace.ledger.view()
    found: set[str] = set()
    for run_id in runs:
        with suppress(CorruptError, NotFoundError):
            run = view.run(run_id)
            if run is None:
                continue
            found |= {facts.sha256 for facts in run.artifacts.values() if facts.at == "cas"}
            for part in run.history:
                found |= {str(s["sha256"]) for s in part.segments if s.get("at") == "cas"}
    return found


def apply(workspace: Workspace, source: Path) -> Report:
    """Take in a bundle: everything is checked first, then the bytes, then the refs. Twice does no harm.

    Raises:
        CorruptError: it is cut, edited or no bundle; nothing was changed.
        FormatError: a newer gml made it.
        RemoteError: it builds on commits that are not here.
        NotFoundError: there is no such file.
    """
    if not source.is_file():
        raise NotFoundError(f"there is no file {source}", hint="check the path")
    try:
        with zipfile.ZipFile(source) as archive, tempfile.TemporaryDirectory(prefix="gml-bundle-") as place:
            manifest = _manifest(archive, source)
            commits = Path(place) / COMMITS
            _check(archive, manifest, source, commits)
            names = Names(f"bundle-{manifest['writer']}", workspace.settings.namespace, manifest["namespace"])
            transport = BundleTransport(workspace.store, commits)
            if transport.refs(["refs/"]) != dict(sorted(manifest["refs"].items())):
                raise CorruptError(f"{source.name} was edited: its refs are not those that it lists")
            report = Report("bundle", str(source))
            _store(workspace, archive, manifest["blobs"], report)
            try:
                return pull(workspace, Remote(names.remote, names, transport), report)
            finally:
                _forget(workspace, names)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise CorruptError(f"{source.name} is cut or damaged: {error}", hint="copy it again") from error
    except OSError as error:
        raise fs.storage_error(error, f"cannot read {source}") from error


def _manifest(archive: zipfile.ZipFile, source: Path) -> dict[str, Any]:
    try:
        found = json.loads(archive.read(MANIFEST))
        stated = found["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{source.name} is not a bundle of gml") from error
    if stated != FORMAT:
        family, _, number = str(stated).rpartition(" ")
        if family == "gml-bundle" and number.isdigit() and int(number) > 1:
            raise FormatError(
                f"{source.name} was made by a newer gml ({stated})", hint="upgrade: pip install -U gitml"
            )
        raise CorruptError(f"{source.name} is not a bundle of gml")
    good = (
        isinstance(found.get("refs"), dict)
        and isinstance(found.get("blobs"), list)
        and isinstance(found.get("files"), dict)
        and re.fullmatch(r"[0-9a-f]{16}", str(found.get("writer")))
        and re.fullmatch(r"[\w/.-]+", str(found.get("namespace")))
    )
    if not good:
        raise CorruptError(f"{source.name} has a damaged list of contents")
    return dict(found)


def _check(archive: zipfile.ZipFile, manifest: dict[str, Any], source: Path, commits: Path) -> None:
    """Read every member and compare its digest; copy the commits out."""
    facts = manifest["files"].get(COMMITS) or {}
    digest = hashlib.sha256()
    try:
        with archive.open(COMMITS) as member, commits.open("wb") as out:
            while chunk := member.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
    except KeyError as error:
        raise CorruptError(f"{source.name} has no {COMMITS}") from error
    if digest.hexdigest() != facts.get("sha256"):
        raise CorruptError(f"{source.name} was damaged or edited: {COMMITS} does not match its digest")
    there = {match[1]: name for name in archive.namelist() if (match := _BLOB.fullmatch(name))}
    for wanted in manifest["blobs"]:
        name = there.get(str(wanted))
        if name is None:
            raise CorruptError(f"{source.name} lacks the artifact {str(wanted)[:12]}")
        with archive.open(name) as member:
            if hashlib.file_digest(member, "sha256").hexdigest() != wanted:  # type: ignore[arg-type]
                raise CorruptError(
                    f"{source.name} is damaged: artifact {wanted[:12]} does not match its digest"
                )


def _store(workspace: Workspace, archive: zipfile.ZipFile, digests: list[str], report: Report) -> None:
    for digest in digests:
        if workspace.blobs.contains(digest):
            continue
        with archive.open(f"sha256/{digest[:2]}/{digest}") as member:
            blob = workspace.blobs.put_stream(member)  # type: ignore[arg-type]
        report.pulled.artifacts += 1
        report.pulled.artifact_bytes += blob.size


def _forget(workspace: Workspace, names: Names) -> None:
    """Remove the refs that mirrored the bundle; what it brought is in the ledger or under conflicts."""
    store = workspace.store
    for prefix in (names.seen, f"refs/remotes/{names.remote}/"):
        for name, oid in store.refs(prefix).items():
            with suppress(GmlError):
                store.delete_ref(name, expected=oid)
