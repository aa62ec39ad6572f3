"""A site of files: every page once, and again only when what it shows has changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from gml._version import __version__
from gml.domain.errors import GmlError
from gml.domain.run import ACTIVE
from gml.index.query import parse
from gml.index.store.rows import position
from gml.tracking.reader import Reader
from gml.ui.links import file_name
from gml.ui.pages import artifact as artifact_page
from gml.ui.pages import compare as compare_page
from gml.ui.pages import others, registry
from gml.ui.pages import run as run_page
from gml.ui.pages.curves import brief
from gml.ui.pages.runs import table_of
from gml.ui.render import render
from gml.ui.site import bundle
from gml.ui.site.files import Copies
from gml.ui.site.folder import Folder, Known, State, key_of, paged
from gml.ui.site.links import (
    ASSETS,
    FolderLinks,
    data_script,
    file_page,
    history_page,
    model_page,
)
from gml.ui.source import now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gml.domain.run import Run
    from gml.ledger.view import RunEntry
    from gml.workspace import Workspace

ROWS: Final = 100
METRICS: Final = 8


@dataclass(frozen=True)
class Options:
    """What a site is made of.

    Attributes:
        query: which runs, as `gml ls` takes it; empty for all.
        limit: at most so many, the newest.
        largest: bytes of the largest file that is copied.
        total: bytes of all copied files together.
    """

    query: str = ""
    limit: int = 2_000
    largest: int = 1 << 20
    total: int = 200 << 20


@dataclass
class Built:
    """What was done.

    Attributes:
        runs: in the site.
        rendered: runs whose page was made now.
        written: files that were written.
        removed: files that were removed.
        left_out: files of runs that are named only, because they are too large or not here.
        damaged: what could not be read.
    """

    runs: int = 0
    rendered: int = 0
    written: int = 0
    removed: int = 0
    left_out: int = 0
    damaged: tuple[str, ...] = ()


class Builder:
    """One build.

    Args:
        workspace: the repository.
        path: of the folder.
        options: what is wanted.
        told: called with how many of the run pages that have to be made are made.

    Raises:
        UsageError: the folder holds something else.
        QueryError: the query is wrong.
    """

    def __init__(
        self, workspace: Workspace, path: Path, options: Options, told: Callable[[int, int], object]
    ) -> None:
        self._options = options
        self._told = told
        # What the ledger has: a site shows nothing that moves.
        self._reader = Reader(workspace, live={})
        self._folder = Folder(path)
        self._old = self._folder.old
        self._new = State(made=_made(options))
        self._fresh = self._old.made != self._new.made
        self._names = {e.experiment_id: e.name for e in self._reader.experiments()}
        root = workspace.store.location
        self._title = (root.worktree or root.common_dir).name.removesuffix(".git") or "gml"
        self._files: set[tuple[str, str]] = set()
        self._metrics: list[str] = []
        self._models = registry.open_registry(workspace).tip() is not None
        self._damaged: list[str] = []
        self._changed = 0

    def build(self) -> Built:
        """Make what has to be made."""
        entries = self._select()
        known = {} if self._fresh else self._old.copies
        limits = {"largest": self._options.largest, "total": self._options.total}
        self._copies = Copies(self._reader, self._folder, known, **limits)
        self._metrics = [m for m in others.known_metrics(self._reader) if not m.startswith("system/")][
            :METRICS
        ]
        self._entries = {entry.run_id: entry for entry in entries}
        self._ids = set(self._entries)
        self._runs(entries)
        self._tables()
        self._others()
        self._registry()
        self._assets()
        return self._finish()

    def _select(self) -> list[RunEntry]:
        text, limit = self._options.query, self._options.limit
        query = parse(text) if text.strip() else None
        stages = {ACTIVE}
        if query is None or not query.needs_history:
            from gml.index.store.compile import NotCompilableError

            try:
                return self._reader.index.search(query, (), now_ms=now_ms(), stages=stages, limit=limit)
            except NotCompilableError:
                pass
        found = self._reader.search(query, (), now_ms=now_ms(), stages=stages, limit=limit)
        entries = (self._reader.view.entry(run.run_id) for run in found)
        return [entry for entry in entries if entry is not None]

    def _links(self, here: str, **more: Any) -> FolderLinks:
        more.setdefault("runs", self._ids)
        return FolderLinks(here, models=self._models, metrics=self._metrics, **more)

    def _page(self, path: str, template: str, key: str, here: str = "", **values: Any) -> None:
        links = values.pop("links", None) or self._links(path)
        self._new.pages[path] = key
        self._folder.write(path, render(template, links, repository=self._title, here=here, **values))

    def _same(self, path: str, key: str) -> bool:
        """Whether a page is there and made of the same; it is then kept."""
        if self._fresh or self._old.pages.get(path) != key:
            return False
        self._new.pages[path] = key
        return True

    # --- runs ---------------------------------------------------------------------------------

    def _runs(self, entries: Sequence[RunEntry]) -> None:
        keys = {}
        for entry in entries:
            old = self._old.runs.get(entry.run_id)
            name = self._names.get(old.experiment, old.experiment) if old else ""
            keys[entry.run_id] = key_of(entry.record, entry.folder, name)
        old_runs = {} if self._fresh else self._old.runs
        gone = {run_id: known for run_id, known in old_runs.items() if run_id not in keys}
        changed = {i for i, key in keys.items() if i not in old_runs or old_runs[i].key != key}
        near = {old_runs[i].parent for i in changed & old_runs.keys()} | {k.parent for k in gone.values()}
        near |= {i for i, known in old_runs.items() if known.parent in changed or known.parent in gone}
        loaded: dict[str, Run] = {}
        for entry in entries:
            if entry.run_id in changed:
                run = self._load(entry)
                if run is not None:
                    loaded[entry.run_id] = run
                    near.add(run.parent_run_id or "")
        wanted = changed | (near & keys.keys())
        for entry in entries:
            if entry.run_id not in wanted:
                known = old_runs[entry.run_id]
                self._new.runs[entry.run_id] = known
                self._keep(known)
                continue
            found = loaded.get(entry.run_id) or self._load(entry)
            if found is not None:
                self._run(entry, found)
                self._changed += 1
                self._told(self._changed, len(wanted))
            else:
                self._ids.discard(entry.run_id)

    def _load(self, entry: RunEntry) -> Run | None:
        try:
            return self._reader.load(entry)
        except GmlError as error:
            self._damaged.append(str(error))
            return None

    def _keep(self, known: Known) -> None:
        for page in known.pages:
            self._new.pages[page] = self._old.pages.get(page, "")
        for name in known.copies:
            self._new.copies[name] = self._copies.known.get(name, 0)

    def _run(self, entry: RunEntry, run: Run) -> None:
        name = self._names.get(run.experiment_id, run.experiment_id)
        key = key_of(entry.record, entry.folder, name)
        there, pictures, names = self._copies.add(run)
        place = f"runs/{file_name(run.run_id)}"
        shown = run_page.page(self._reader, run)
        paths = [
            file["path"]
            for file in shown.artifacts
            if file["kind"] and (file["sha256"] in there or file["sha256"] in pictures)
        ]
        files_ = {(run.run_id, path) for path in paths}
        facts = {"files": files_, "copied": there, "pictures": pictures}
        pages = [f"{place}.html", f"{place}.js"]
        for path in paths:
            at = file_page(run.run_id, path)
            try:
                preview = artifact_page.preview(self._reader, run, path, frames=False)
            except GmlError as error:
                self._damaged.append(str(error))
                continue
            self._page(at, "file.html", key, run=run, file=preview, links=self._links(at, **facts))
            pages.append(at)
        links = self._links(pages[0], **facts)
        self._page(pages[0], "run.html", key, page=shown, links=links)
        self._new.pages[pages[1]] = key
        data = {"to": pages[0], **brief(self._reader, run, shown.curve_keys, self._damaged)}
        self._folder.write(pages[1], data_script(run.run_id, data))
        where = position(run.run_id, run.start_time)
        known = Known(key, run.name, run.status, run.experiment_id, where, run.parent_run_id or "")
        known.pages, known.copies = pages, names
        self._new.runs[run.run_id] = known
        self._new.copies |= {each: self._copies.known[each] for each in names}

    # --- tables -------------------------------------------------------------------------------

    def _tables(self) -> None:
        ordered = sorted((known.position, run_id) for run_id, known in self._new.runs.items())
        self._table("", "", ordered)
        by_experiment: dict[str, list[tuple[str, str]]] = {}
        for where, run_id in ordered:
            by_experiment.setdefault(self._new.runs[run_id].experiment, []).append((where, run_id))
        for experiment, runs in by_experiment.items():
            self._table(experiment, self._names.get(experiment, experiment), runs)

    def _table(self, experiment: str, title: str, runs: Sequence[tuple[str, str]]) -> None:
        """Make the pages of a table; the last of them, with the newest runs, has the name without number."""
        bounds = [] if self._fresh else self._old.bounds.get(experiment, [])
        pages, self._new.bounds[experiment] = paged(runs, bounds, ROWS)
        base = f"experiments/{file_name(experiment)}" if experiment else "index"
        names = [f"{base}-{number}.html" for number in range(len(pages) - 1)] + [f"{base}.html"]
        up = "../" * base.count("/")
        for at, path in enumerate(names):
            ids = pages[at][::-1] if pages else []
            newer = up + names[at + 1] if at + 1 < len(names) else ""
            older = up + names[at - 1] if at else ""
            parts = [(i, self._new.runs[i].key) for i in ids]
            key = key_of(parts, newer, older, title, [self._names.get(i) for i in sorted(self._names)])
            if self._same(path, key):
                continue
            found = (self._load(self._entries[run_id]) for run_id in ids)
            table = table_of([run for run in found if run is not None], self._names)
            table.title, table.newer, table.older = title, newer, older
            here = "" if experiment else "runs"
            self._page(path, "runs.html", key, here, table=table, wanted=table.wanted)

    # --- the rest -----------------------------------------------------------------------------

    def _others(self) -> None:
        counts = Counter(known.experiment for known in self._new.runs.values())
        rows = [(e, counts[e.experiment_id]) for e in self._reader.experiments() if counts[e.experiment_id]]
        rows.sort(key=lambda row: row[0].name)
        self._page("experiments.html", "experiments.html", "", "experiments", rows=rows)
        self._page("help.html", "help.html", "", "help")
        empty = compare_page.Comparison([], values={"runs": [], "params": {}, "metrics": {}})
        self._page("compare.html", "compare.html", "", page=empty)
        store = self._reader.workspace.store
        for metric in self._metrics:
            path = history_page(metric)
            key = key_of(self._reader.view.commit, store.resolve("HEAD"), metric, self._metrics)
            names = [path, "history.html"] if metric == self._metrics[0] else [path]
            kept = [self._same(name, key) for name in names]
            if all(kept):
                continue
            page = others.along_the_code(self._reader, metric, "", known=self._metrics)
            for name in names:
                self._page(name, "history.html", key, "history", page=page)
        self._search(rows)

    def _search(self, rows: Sequence[tuple[Any, int]]) -> None:
        links = self._links("")
        found = [["page", name, "", address, ""] for _, address, name in links.pages()]
        for e, count in rows:
            to = links.experiment(e.experiment_id, e.name)
            found.append(["experiment", e.name, f"{count} runs", to, ""])
        runs = sorted(self._new.runs.items(), key=lambda pair: pair[1].position, reverse=True)
        for run_id, known in runs:
            note = f"{run_id[-8:]} {known.status}"
            found.append(["run", known.name, note, known.pages[0], run_id])
        self._new.pages["search.js"] = ""
        self._folder.write("search.js", data_script("search", found))

    def _registry(self) -> None:
        if not self._models:
            return
        found = registry.open_registry(self._reader.workspace)
        key = key_of(self._reader.workspace.store.refs("refs/heads/"), sorted(self._ids))
        if self._same("registry.html", key):
            for path in (p for p in self._old.pages if p.startswith("registry/")):
                self._new.pages[path] = key
            return
        board = registry.board(found)
        self._page("registry.html", "registry.html", key, "registry", page=board)
        for model in board.models:
            page = registry.model_page(found, model["name"])
            self._page(model_page(page.name), "model.html", key, page=page)
            for row in page.versions:
                number = row["version"].version
                try:
                    version = registry.version_page(found, page.name, number)
                except GmlError as error:
                    self._damaged.append(str(error))
                    continue
                self._page(model_page(page.name, number), "version.html", key, page=version)

    def _assets(self) -> None:
        assets = {"gml.css": bundle.static("gml.css"), "icon.svg": bundle.static("icon.svg")}
        assets["gml.js"] = bundle.script()
        for name, text in assets.items():
            self._new.pages[f"{ASSETS}/{name}"] = ""
            self._folder.write(f"{ASSETS}/{name}", text)
        # GitHub would leave out files that it takes for parts of a Jekyll site.
        self._new.pages[".nojekyll"] = ""
        self._folder.write(".nojekyll", "")

    def _finish(self) -> Built:
        before = self._old.pages.keys() | self._old.copies.keys()
        removed = self._folder.remove(sorted(before - self._new.pages.keys() - self._new.copies.keys()))
        self._folder.keep(self._new)
        damaged = tuple(dict.fromkeys(self._damaged))
        left = self._copies.left_out
        return Built(len(self._new.runs), self._changed, self._folder.written, removed, left, damaged)


def _made(options: Options) -> str:
    """Return what tells this gml and these options from others."""
    parts = [
        path.read_text("utf-8")
        for folder in ("templates", "static")
        for path in sorted((files("gml.ui") / folder).iterdir(), key=lambda path: path.name)
    ]
    return key_of(__version__, vars(options), parts)


def build(
    workspace: Workspace,
    path: Path,
    options: Options | None = None,
    told: Callable[[int, int], object] = lambda done, of: None,  # noqa: ARG005
) -> Built:
    """Build a site into a folder, or bring one up to date; see `Builder`.

    Example:
        >>> build(Workspace.open(), Path("public")).runs  # doctest: +SKIP
        12
    """
    return Builder(workspace, path, options or Options(), told).build()
