"""Reading one state of the ledger: runs, experiments, artifacts kept in git."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gml.domain.errors import AmbiguousError, CorruptError, GmlError, NotFoundError
from gml.domain.experiment import DEFAULT, Experiment, fold_experiment
from gml.domain.ids import DEFAULT_EXPERIMENT_ID, experiment_id
from gml.domain.run import Run, fold
from gml.git import trees
from gml.git.objects import parse_commit
from gml.ledger import layout
from gml.ledger.codec import check_format, decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.domain.run import Document
    from gml.git.port import GitStore

MAX_CANDIDATES: Final = 5
_HEX = re.compile(r"[0-9a-f]{4,32}")


@dataclass(frozen=True, slots=True)
class RunEntry:
    """Where the documents of one run are: object ids, None for what it does not have."""

    run_id: str
    record: str | None
    folder: str | None


class LedgerView:
    """The ledger as it was at one commit. Immutable; reads only what is asked for.

    Args:
        store: the repository.
        commit: a commit of the ledger, None for an empty ledger.

    Raises:
        FormatError: the ledger was written by a newer gml.
    """

    def __init__(self, store: GitStore, commit: str | None) -> None:
        self.store = store
        self.commit = commit
        self.tree: str | None = None
        if commit is not None:
            self.tree = parse_commit(self._read(commit)).tree
            stated = self.read(layout.FORMAT_PATH)
            check_format(
                (stated or b"").decode("utf-8", "replace").strip(),
                "the ledger",
                "gml-ledger",
                layout.FORMAT_VERSION,
            )

    def _read(self, oid: str) -> bytes:
        return self.store.read(oid)[1]

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a file in the ledger tree, None where there is none."""
        if self.tree is None:
            return None
        entry = trees.lookup(self.store, self.tree, path)
        return None if entry is None or entry.is_tree else self._read(entry.oid)

    def names(self, path: str) -> list[str]:
        """Return the names in a directory of the ledger tree, sorted; empty where there is none."""
        if self.tree is None:
            return []
        entry = trees.lookup(self.store, self.tree, path)
        return (
            []
            if entry is None or not entry.is_tree
            else [e.name for e in trees.entries(self.store, entry.oid)]
        )

    # --- runs ---------------------------------------------------------------------------------

    def entry(self, run_id: str) -> RunEntry | None:
        """Return where a run's documents are, None when the ledger does not have it."""
        if self.tree is None:
            return None
        directory, _, name = layout.run_base(run_id).rpartition("/")
        parent = trees.lookup(self.store, self.tree, directory)
        if parent is None or not parent.is_tree:
            return None
        # Two look-ups by name: making an entry of each of a thousand neighbours would take far longer.
        record = trees.lookup(self.store, parent.oid, f"{name}.json")
        folder = trees.lookup(self.store, parent.oid, name)
        if record is None and folder is None:
            return None
        return RunEntry(run_id, record.oid if record else None, folder.oid if folder else None)

    def entries(self, *, oldest_first: bool = False) -> Iterator[RunEntry]:
        """Yield every run, newest id first, imported runs with foreign ids last.

        Args:
            oldest_first: the other way round.
        """
        if self.tree is None:
            return
        tops = [("runs", 3), ("runs-x", 2)]
        for top, depth in reversed(tops) if oldest_first else tops:
            root = trees.lookup(self.store, self.tree, top)
            if root is not None:
                yield from self._descend(root.oid, depth, newest_first=not oldest_first)

    def _descend(self, tree: str, depth: int, *, newest_first: bool) -> Iterator[RunEntry]:
        listed = trees.entries(self.store, tree)
        if depth:
            for entry in reversed(listed) if newest_first else listed:
                yield from self._descend(entry.oid, depth - 1, newest_first=newest_first)
            return
        records = {e.name[:-5]: e.oid for e in listed if e.name.endswith(".json")}
        folders = {e.name: e.oid for e in listed if e.is_tree}
        for run_id in sorted(records.keys() | folders.keys(), reverse=newest_first):
            yield RunEntry(run_id, records.get(run_id), folders.get(run_id))

    def newest_id(self) -> str | None:
        """Return the greatest time-ordered run id."""
        return next((entry.run_id for entry in self.entries()), None)

    def documents(self, entry: RunEntry) -> tuple[Document | None, dict[str, Document]]:
        """Return a run's record and its edits by name.

        Raises:
            CorruptError: a document is damaged.
            FormatError: one was written by a newer gml.
        """
        base = layout.run_base(entry.run_id)
        record = None
        if entry.record is not None:
            record = decode(self._object(entry.record, f"{base}.json"), f"{base}.json", "gml-run", 1)
            self._add_manifest(record)
        edits: dict[str, Document] = {}
        if entry.folder is not None:
            folder = trees.lookup(self.store, entry.folder, "edits")
            for item in trees.entries(self.store, folder.oid) if folder is not None else ():
                if item.name.endswith(".json"):
                    where = f"{base}/edits/{item.name}"
                    edit = decode(self._object(item.oid, where), where, "gml-edit", 1)
                    self._add_manifest(edit)
                    edits[item.name[:-5]] = edit
        return record, edits

    def _add_manifest(self, document: Document) -> None:
        digest = document.get("artifact_manifest")
        if digest is None:
            return
        path = layout.manifest_path(str(digest))
        data = self.read(path)
        if data is None:
            raise CorruptError(f"{path} is missing from the ledger", hint="`gml doctor` names all damage")
        document["artifacts"] = decode(data, path) | document.get("artifacts", {})

    def _object(self, oid: str, where: str) -> bytes:
        try:
            return self._read(oid)
        except NotFoundError:
            raise CorruptError(
                f"{where} is missing from the repository (object {oid})", hint="`gml doctor` names all damage"
            ) from None
        except CorruptError as error:
            raise CorruptError(f"{where} cannot be read: {error.message}", hint=error.hint) from None

    def load(self, entry: RunEntry) -> Run:
        """Return the folded run of an entry; raises as `documents`."""
        record, edits = self.documents(entry)
        return fold(entry.run_id, record, edits.values())

    def run(self, run_id: str) -> Run | None:
        """Return a run by its whole id, None when the ledger does not have it; raises as `documents`."""
        entry = self.entry(run_id)
        return None if entry is None else self.load(entry)

    def runs(self, damaged: list[GmlError] | None = None) -> Iterator[Run]:
        """Yield every run, newest id first.

        Args:
            damaged: collects the errors of runs that cannot be read, which are then left out;
                without it the first one is raised.
        """
        for entry in self.entries():
            try:
                run = self.load(entry)
            except GmlError as error:
                if damaged is None:
                    raise
                damaged.append(error)
            else:
                yield run

    def match(self, text: str) -> list[str]:
        """Return the ids of runs that begin or end with these hexadecimal digits, newest first."""
        if self.entry(text) is not None:
            return [text]
        if not _HEX.fullmatch(text):
            return []
        return [e.run_id for e in self.entries() if e.run_id.startswith(text) or e.run_id.endswith(text)]

    # --- experiments --------------------------------------------------------------------------

    def experiment(self, wanted: str) -> Experiment | None:
        """Return an experiment by id; Default exists from the start."""
        created = self.read(layout.experiment_path(wanted))
        edits = self.experiment_edits(wanted)
        if created is None and not edits:
            return DEFAULT if wanted == DEFAULT_EXPERIMENT_ID else None
        document = None
        if created is not None:
            document = decode(created, layout.experiment_path(wanted), "gml-experiment", 1)
        return fold_experiment(wanted, document, edits.values())

    def experiment_edits(self, wanted: str) -> dict[str, Document]:
        """Return the edits of an experiment by name."""
        directory = layout.experiment_edits_dir(wanted)
        out = {}
        for name in self.names(directory):
            data = self.read(f"{directory}/{name}")
            if data is not None:
                out[name.removesuffix(".json")] = decode(data, f"{directory}/{name}", "gml-edit", 1)
        return out

    def experiments(self) -> list[Experiment]:
        """Return all experiments, Default first, then by name."""
        ids = {name.removesuffix(".json") for name in self.names("experiments")} | {DEFAULT_EXPERIMENT_ID}
        found = [e for e in (self.experiment(wanted) for wanted in ids) if e is not None]
        return sorted(found, key=lambda e: (e.experiment_id != DEFAULT_EXPERIMENT_ID, e.name))

    def experiment_named(self, name: str) -> Experiment | None:
        """Return the experiment that has this name now, deleted ones included."""
        likely = self.experiment(experiment_id(name))
        if likely is not None and likely.name == name:
            return likely
        return next((e for e in self.experiments() if e.name == name), None)

    def id_for_name(self, name: str) -> str:
        """Return the id of the experiment of this name, or the one it gets when it is created."""
        known = self.experiment_named(name)
        if known is not None:
            return known.experiment_id
        attempt = 0
        while self.experiment(experiment_id(name, attempt)) is not None:
            attempt += 1
        return experiment_id(name, attempt)


def only(matches: list[str], text: str) -> str:
    """Return the single match.

    Raises:
        NotFoundError: there is none.
        AmbiguousError: there are several; names a few.
    """
    if not matches:
        raise NotFoundError(f"no run matches {text!r}", hint="`gml ls` shows the runs of this repository")
    if len(matches) > 1:
        some = ", ".join(matches[:MAX_CANDIDATES])
        more = f" and {len(matches) - MAX_CANDIDATES} more" if len(matches) > MAX_CANDIDATES else ""
        raise AmbiguousError(f"{text!r} fits {len(matches)} runs: {some}{more}", hint="give more of the id")
    return matches[0]
