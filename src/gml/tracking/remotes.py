"""Artifacts of runs between this clone and its remotes: push, pull, and what is where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gml.cas.backed import BackedStore
from gml.domain.errors import NotFoundError
from gml.workspace.remotes import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gml.cas.exchange import Copied, Progress
    from gml.domain.run import Run
    from gml.tracking.reader import Reader
    from gml.workspace import Workspace
    from gml.workspace.remotes import ArtifactRemote


def blobs_of(run: Run) -> dict[str, tuple[str, int]]:
    """Return what a run keeps in the artifact store: digest -> (path, or `history`; bytes)."""
    found: dict[str, tuple[str, int]] = {}
    for path, facts in run.artifacts.items():
        if facts.at == "cas":
            found.setdefault(facts.sha256, (path, facts.size))
    for part in run.history:
        for segment in part.segments:
            if segment.get("at") == "cas":
                found.setdefault(str(segment["sha256"]), ("history", int(segment.get("size", 0))))
    return found


def digests_of(runs: Iterable[Run]) -> list[str]:
    """Return the digests of everything that runs keep in the artifact store, each once."""
    return list(dict.fromkeys(digest for run in runs for digest in blobs_of(run)))


def remote_of(workspace: Workspace, name: str | None = None) -> ArtifactRemote:
    """Return the artifact remote that is meant; see `gml.workspace.remotes.choose`."""
    return choose(workspace.artifact_remotes, name, workspace.settings.artifact_remote)


def backed_store(workspace: Workspace, remote: ArtifactRemote) -> BackedStore:
    """Return the local store with this remote behind it, also one that is not configured."""
    blobs = workspace.blobs
    if isinstance(blobs, BackedStore):
        return blobs
    return BackedStore(blobs.root, None, [remote])


def push_artifacts(
    workspace: Workspace,
    runs: Iterable[Run],
    remote: str | None = None,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Copied:
    """Copy what runs keep in the artifact store to a remote; what is there already is not sent.

    Call this before the ledger is pushed: whoever sees a manifest must find the bytes.

    Args:
        workspace: the repository.
        runs: whose artifacts.
        remote: name, URL or folder; None for the usual one.
        jobs: files at once.
        progress: is told how it goes.

    Returns:
        What was done. Blobs under `absent` are neither here nor in the remote.

    Raises:
        UsageError: there is no remote, or more than one to choose from.
        StorageError: the remote refuses or stays out of reach; what was sent is not sent again.
        CorruptError: something here is damaged and was not sent.
    """
    place = remote_of(workspace, remote)
    store = backed_store(workspace, place)
    jobs = jobs or workspace.settings.artifact_jobs
    done = store.send(digests_of(runs), place, jobs, progress)
    if done.absent:
        there = store.source(place, jobs).has(done.absent)
        done.absent = [digest for digest in done.absent if digest not in there]
    return done


def pull_artifacts(
    workspace: Workspace,
    digests: Iterable[str],
    remote: str | None = None,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Copied:
    """Fetch blobs from a remote, or from all of them in turn where none is named.

    Args:
        workspace: the repository.
        digests: of the blobs, such as `digests_of(runs)`.
        remote: name, URL or folder.
        jobs: files at once.
        progress: is told how it goes.

    Returns:
        What was done. Blobs under `absent` are nowhere.
    """
    known = workspace.artifact_remotes
    single = remote is not None or len(known) < 2
    places = [remote_of(workspace, remote)] if single else list(known.values())
    jobs = jobs or workspace.settings.artifact_jobs
    wanted = list(dict.fromkeys(digests))
    total: Copied | None = None
    for place in places:
        done = backed_store(workspace, place).fetch(wanted, place, jobs, progress)
        wanted = done.absent
        if total is not None:
            total.absent = []
            total.add(done)
        total = total or done
        if not wanted:
            break
    assert total is not None  # noqa: S101 - `remote_of` raises where there is no remote
    return total


def missing_on_remote(
    workspace: Workspace, runs: Iterable[Run], remote: str | None = None
) -> dict[str, list[str]]:
    """Return what a remote lacks: run id -> paths of artifacts (or `history`)."""
    chosen = list(runs)
    place = remote_of(workspace, remote)
    there = backed_store(workspace, place).source(place).has(digests_of(chosen))
    lacking = {
        run.run_id: sorted(path for digest, (path, _) in blobs_of(run).items() if digest not in there)
        for run in chosen
    }
    return {run_id: paths for run_id, paths in lacking.items() if paths}


@dataclass(slots=True)
class Part:
    """Some of the stored artifacts.

    Attributes:
        blobs: how many.
        size: bytes, as the manifests say.
        runs: ids of the runs that need them.
    """

    blobs: int = 0
    size: int = 0
    runs: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the form of `gml artifacts status --json`."""
        return {"blobs": self.blobs, "bytes": self.size, "runs": self.runs}


@dataclass(slots=True)
class Whereabouts:
    """What is where.

    Attributes:
        remote: the remote that was looked at.
        here: only in this clone.
        there: only in the remote.
        both: in both.
        nowhere: in neither.
    """

    remote: ArtifactRemote
    here: Part = field(default_factory=Part)
    there: Part = field(default_factory=Part)
    both: Part = field(default_factory=Part)
    nowhere: Part = field(default_factory=Part)


def whereabouts(workspace: Workspace, runs: Iterable[Run], remote: str | None = None) -> Whereabouts:
    """Return which artifacts of runs are here, in a remote, in both or in neither."""
    place = remote_of(workspace, remote)
    store = backed_store(workspace, place)
    chosen = list(runs)
    digests = digests_of(chosen)
    there = store.source(place).has(digests)
    here = set(digests) - set(_absent_here(store, digests))
    out = Whereabouts(place)
    seen: set[str] = set()
    for run in chosen:
        touched: set[int] = set()
        for digest, (_, size) in blobs_of(run).items():
            parts = {(True, False): out.here, (False, True): out.there, (True, True): out.both}
            part = parts.get((digest in here, digest in there), out.nowhere)
            if digest not in seen:
                seen.add(digest)
                part.blobs += 1
                part.size += size
            if id(part) not in touched:
                touched.add(id(part))
                part.runs.append(run.run_id)
    return out


def _absent_here(store: BackedStore, digests: Sequence[str]) -> list[str]:
    absent = []
    for digest in digests:
        try:
            store.names_of(digest)
        except NotFoundError:
            absent.append(digest)
    return absent


def select_runs(
    reader: Reader, words: Sequence[str], extra: Callable[[str], list[str]] | None = None
) -> tuple[list[Run], list[str]]:
    """Return the runs that words of a command line mean, and digests that others among them mean.

    Args:
        reader: the runs.
        words: ids, names or `@`; or queries; none for all runs.
        extra: gives the digests of something else, such as `models:/churn/Production`.

    Raises:
        NotFoundError: a word means nothing.
    """
    from gml.tracking.queries import ALL, select

    if not words:
        return select(reader, "", (), None, ALL), []
    runs: dict[str, Run] = {}
    digests: list[str] = []
    for word in words:
        if ":/" in word:
            if extra is None:
                raise NotFoundError(f"{word} cannot be pulled: there is no model registry here")
            digests += extra(word)
        elif _is_query(word):
            runs.update((run.run_id, run) for run in select(reader, word, (), None))
        else:
            found = reader.resolve(word)
            runs[found.run_id] = found
    return list(runs.values()), digests


def _is_query(word: str) -> bool:
    """Whether this is a query: those compare something, which no id and hardly any name does."""
    return any(sign in word for sign in ("=", "<", ">")) or " " in word.strip()
