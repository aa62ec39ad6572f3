"""One file with one run, or with several side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gml.tracking.reader import Reader
from gml.ui.pages import compare as compare_page
from gml.ui.pages import run as run_page
from gml.ui.pages.curves import POINTS, brief, keys_of
from gml.ui.render import render
from gml.ui.site.files import pictures_of
from gml.ui.site.links import FileLinks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.workspace import Workspace


def report(workspace: Workspace, wanted: Sequence[str], most: int = 10_000_000) -> bytes:
    """Return the page of a run, or of several side by side, with all that it needs inside.

    Args:
        workspace: the repository.
        wanted: runs as users name them.
        most: bytes of pictures and sounds at most; those that do not fit are left out.

    Raises:
        NotFoundError: there is no such run.
        UsageError: there are too many.

    Example:
        >>> report(Workspace.open(), ["@~1", "@"])  # doctest: +SKIP
        b'<!doctype html>...
    """
    reader = Reader(workspace)
    ids = list(dict.fromkeys(reader.resolve(each).run_id for each in wanted))
    compare_page.check(ids)
    runs = [reader.resolve(run_id) for run_id in ids]
    root = workspace.store.location
    title = (root.worktree or root.common_dir).name.removesuffix(".git") or "gml"
    to = FileLinks(pictures_of(reader, runs, most))
    problems: list[str] = []
    points = POINTS if len(runs) <= 40 else 400
    data = {run.run_id: brief(reader, run, keys_of([run]), problems, points) for run in runs}
    values: dict[str, Any] = {"repository": title, "here": "", "data": data}
    page: compare_page.Comparison | run_page.Page
    if len(runs) == 1:
        page, template = run_page.page(reader, runs[0]), "run.html"
    else:
        page, template = compare_page.comparison(reader, ids, to), "compare.html"
    page.problems += [text for text in dict.fromkeys(problems) if text not in page.problems]
    return render(template, to, page=page, **values).encode("utf-8", "replace")
