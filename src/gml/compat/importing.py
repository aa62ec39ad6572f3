"""From a source into the ledger: a commit for many runs, each a pack written at once.

What is in the ledger already stays: a run whose fingerprint is known is passed over, one that has changed in
the source since its import gets its record written again, and one that gml itself wrote is left alone. So
an import that was interrupted, or that is repeated every night, goes on where it is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gml.compat.documents import Prepared, prepare
from gml.compat.foreign import MODEL, MODEL_DELETED
from gml.domain.errors import CorruptError, GmlError, NotFoundError, RemoteError, StorageError
from gml.domain.experiment import EXPERIMENT_FORMAT
from gml.domain.ids import DEFAULT_EXPERIMENT_ID, RUN_ID
from gml.domain.names import check_experiment_name
from gml.domain.run import ACTIVE, DELETED, EDIT_FORMAT
from gml.ledger import layout
from gml.ledger.codec import decode, encode
from gml.ledger.ledger import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from gml.compat.foreign import ForeignExperiment, ForeignRun, Source
    from gml.domain.run import Document
    from gml.ledger.view import LedgerView
    from gml.workspace import Workspace

RUNS_A_COMMIT: Final = 2_000
BYTES_A_COMMIT: Final = 64 << 20
ORIGIN_TAG: Final = "gml.imported.experimentId"


@dataclass(slots=True)
class Counts:
    """What an import did. `models` are logged models."""

    experiments: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    kept: int = 0
    models: int = 0
    points: int = 0
    files: int = 0
    size: int = 0
    versions: int = 0
    stages: int = 0
    aliases: int = 0


@dataclass(slots=True)
class Report:
    """The outcome of an import.

    Attributes:
        source: where it came from.
        counts: how much.
        lost: a line for each kind of thing that had no home.
        notes: what is different from the source, and why.
        commits: how many were made.
    """

    source: str
    counts: Counts = field(default_factory=Counts)
    lost: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    commits: int = 0


class Importer:
    """Brings a source into a repository.

    Args:
        workspace: the repository.
        source: what is read.
        kind: `mlflow` and so on: what the records say they come from.
        files: also take over artifacts.
        progress: called with the number of runs that were read so far.
    """

    def __init__(
        self,
        workspace: Workspace,
        source: Source,
        kind: str,
        *,
        files: bool = True,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self.workspace = workspace
        self.source = source
        self.report = Report(source.name)
        self._kind = kind
        self._files = files
        self._progress = progress
        self._pending: list[Prepared] = []
        self._documents: dict[str, bytes] = {}
        self._bytes = 0
        self._seen = 0
        self._names: dict[str, str] = {}

    def run(self, experiments: Collection[str] = (), since: int | None = None) -> Report:
        """Import experiments with all their runs.

        Args:
            experiments: only those with these names or ids; empty for all.
            since: only runs that ended at or after this moment or go on, milliseconds since the epoch.

        Raises:
            NotFoundError: the source has no such experiment.
            StorageError: something could not be written; what was committed before stays.
        """
        for experiment in self._chosen(experiments):
            wanted = self._experiment(experiment)
            deleted = []
            for run in self.source.runs(experiment, since):
                self._seen += 1
                if run.stage == DELETED:
                    deleted.append(run.run_id)
                self._take(run, wanted)
                if self._progress is not None:
                    self._progress(self._seen)
            if experiment.deleted:
                self._delete(experiment, wanted, deleted)
        self._flush()
        self.source.count_rest()
        self.report.lost = self.source.losses.lines()
        return self.report

    def _chosen(self, wanted: Collection[str]) -> list[ForeignExperiment]:
        known = self.source.experiments()
        missing = set(wanted) - {e.name for e in known} - {e.experiment_id for e in known}
        if missing:
            some = ", ".join(repr(e.name) for e in known[:8])
            raise NotFoundError(
                f"{self.source.name} has no experiment {min(missing)!r}",
                hint=f"it has {some or 'none'}",
            )
        return [e for e in known if not wanted or e.name in wanted or e.experiment_id in wanted]

    # --- experiments --------------------------------------------------------------------------

    def _experiment(self, experiment: ForeignExperiment) -> str:
        """Return the id that an experiment has here; what has to be written is added to the next commit."""
        view = self.workspace.ledger.view()
        name = _legal_name(experiment.name)
        if name in self._names.values():
            name = f"{name} ({experiment.experiment_id})"
        if name != experiment.name:
            self.report.notes.append(f"experiment {experiment.name!r} is called {name!r} here")
        self._names[experiment.experiment_id] = name
        wanted = view.id_for_name(name)
        if wanted == DEFAULT_EXPERIMENT_ID:
            if experiment.tags and view.experiment(wanted).tags != experiment.tags:  # type: ignore[union-attr]
                self._edit(view, wanted, {"tags": dict(experiment.tags)}, experiment)
            return wanted
        if view.experiment(wanted) is None:
            tags = dict(experiment.tags)
            if experiment.experiment_id not in {wanted, experiment.name}:
                tags.setdefault(ORIGIN_TAG, experiment.experiment_id)
            document: Document = {
                "format": EXPERIMENT_FORMAT,
                "experiment_id": wanted,
                "name": name,
                "creation_time": experiment.created,
            }
            self._documents[layout.experiment_path(wanted)] = encode(
                document | ({"tags": tags} if tags else {})
            )
            self.report.counts.experiments += 1
        return wanted

    def _delete(self, experiment: ForeignExperiment, wanted: str, runs: Sequence[str]) -> None:
        view = self.workspace.ledger.view()
        known = view.experiment(wanted)
        if wanted == DEFAULT_EXPERIMENT_ID:
            self.source.losses.add("Default experiments that were deleted, which gml always has")
        elif known is None or (known.lifecycle_stage == ACTIVE and not view.experiment_edits(wanted)):
            self._edit(view, wanted, {"lifecycle_stage": DELETED, "runs": list(runs)}, experiment)

    def _edit(self, view: LedgerView, wanted: str, changes: Document, experiment: ForeignExperiment) -> None:
        clock = max((int(e.get("clock", 0)) for e in view.experiment_edits(wanted).values()), default=0) + 1
        session = session_of(self._kind, f"experiment {wanted} {clock}")
        path = f"{layout.experiment_edits_dir(wanted)}/{layout.edit_name(clock, session)}.json"
        self._documents[path] = encode(
            {
                "format": EDIT_FORMAT,
                "experiment_id": wanted,
                "clock": clock,
                "session": session,
                "writer": self.workspace.writer_id,
                "revision": 1,
                "time": experiment.updated,
            }
            | changes
        )

    # --- runs ---------------------------------------------------------------------------------

    def _take(self, run: ForeignRun, wanted: str) -> None:
        if not RUN_ID.fullmatch(run.run_id):
            self.source.losses.add("runs whose id is none", run.run_id)
            return
        session = session_of(self._kind, run.run_id)
        known = self._known(run.run_id)
        if known is not None and known.get("session") != session:
            self.report.counts.kept += 1
            return
        if known is not None and run.fingerprint and _fingerprint(known) == run.fingerprint:
            self.report.counts.unchanged += 1
            return
        try:
            made = prepare(self.workspace, self.source, run, wanted, files=self._files)
        except (StorageError, RemoteError):
            raise  # what fails for one run fails for the next ones too
        except (GmlError, OSError, ValueError) as error:
            self.source.losses.add("runs that cannot be read", f"{run.run_id} ({error})")
            return
        made.document |= {
            "session": session,
            "writer": self.workspace.writer_id,
            "revision": int(known.get("revision", 0)) + 1 if known else 1,
            "imported": {"from": self._kind, "fingerprint": run.fingerprint},
        }
        if known is not None:
            made.drop_old(known)
        self._count(run, made, again=known is not None)
        self._pending.append(made)
        self._bytes += made.size
        if len(self._pending) >= RUNS_A_COMMIT or self._bytes >= BYTES_A_COMMIT:
            self._flush()

    def _known(self, run_id: str) -> Document | None:
        view = self.workspace.ledger.view()
        entry = view.entry(run_id)
        if entry is None or entry.record is None:
            return None
        path = layout.record_path(run_id)
        try:
            return decode(view.read(path) or b"", path, "gml-run", 1)
        except CorruptError:
            return None

    def _count(self, run: ForeignRun, made: Prepared, *, again: bool) -> None:
        counts = self.report.counts
        if run.stage in {MODEL, MODEL_DELETED}:
            counts.models += 1
        elif again:
            counts.changed += 1
        else:
            counts.new += 1
        counts.points += made.points
        counts.files += made.files
        counts.size += made.file_bytes

    def _flush(self) -> None:
        pending, self._pending, self._bytes = self._pending, [], 0
        documents, self._documents = self._documents, {}
        if not pending and not documents:
            return
        runs = len(pending)
        names = ", ".join(sorted(set(self._names.values()))[:5])
        what = f"{runs} run{'s' * (runs != 1)}" if runs else "experiments"
        message = f"import {what} from {self._kind}\n\nfrom {self.source.name}\nexperiments: {names}\n"
        changes: dict[str, bytes | None] = dict(documents)
        for made in pending:
            changes |= made.changes()
        batch = Batch(changes, "".join(c if c.isprintable() or c == "\n" else " " for c in message))
        self.workspace.ledger.append(lambda _: batch)
        self.report.commits += 1


def session_of(kind: str, what: str) -> str:
    """Return the session that the importer writes as: the same in every clone that imports the same thing."""
    return hashlib.sha256(f"import {kind} {what}".encode()).hexdigest()[:16]


def _fingerprint(document: Document) -> Any:
    imported = document.get("imported")
    return imported.get("fingerprint") if isinstance(imported, dict) else None


def _legal_name(name: str) -> str:
    """Return a name that gml takes for an experiment."""
    plain = "".join(c if c.isprintable() else " " for c in name)[:400].strip() or "unnamed"
    return check_experiment_name(plain)
