"""Where each page is: behind a server, in a folder of files, or all in one file.

Templates and pages ask a `Links` for every address, and leave out the link where the answer is empty: this
site has no such page.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gml.domain.run import Artifact
    from gml.ui.pages.runs import Wanted

PAGES: Final = {
    "runs": "Runs",
    "experiments": "Experiments",
    "history": "History",
    "registry": "Registry",
    "help": "Help",
}
_SAFE: Final = re.compile(r"[0-9a-z][0-9a-z_-]{0,63}")


class Links:
    """Addresses of pages that a server renders when they are asked for.

    Args:
        prefix: path below which the pages are, without a slash at its end.

    Example:
        >>> Links("/ui").run("0198aa")
        '/ui/runs/0198aa'
    """

    kind = "live"
    policy = ""

    def __init__(self, prefix: str = "") -> None:
        self.root = f"{prefix}/"

    @property
    def live(self) -> bool:
        """Whether a server answers: then tables sort and filter, and running trainings move."""
        return self.kind == "live"

    def head(self, script: str) -> Markup:
        """Return the tags that load the style and the scripts of a page."""
        root = escape(self.root)
        tags = [
            Markup('<link rel="icon" href="{}static/icon.svg" type="image/svg+xml">').format(root),
            Markup('<link rel="stylesheet" href="{}static/gml.css">').format(root),
        ]
        module = Markup('<script type="module" src="{}static/{}.js"></script>')
        tags += [module.format(root, name) for name in ("page", script) if name]
        return Markup("\n").join(tags)

    def foot(self) -> Markup:
        """Return what stands at the end of a page."""
        return Markup()

    def pages(self) -> list[tuple[str, str, str]]:
        """Return key, address and name of the pages that every page leads to."""
        return [(key, self.page(key), name) for key, name in PAGES.items() if self.page(key)]

    def page(self, name: str) -> str:
        """Return the address of one of `PAGES`."""
        return self.root if name == "runs" else f"{self.root}{name}"

    def view(self, wanted: Wanted, **changes: Any) -> str:
        """Return the address of a table like this one with some parts changed."""
        text = urlencode(wanted.pairs(**changes))
        return f"{self.root}?{text}" if text else self.root

    def csv(self, wanted: Wanted) -> str:
        """Return the address of a table as CSV."""
        text = urlencode(wanted.pairs())
        return f"{self.root}runs.csv{'?' if text else ''}{text}"

    def experiment(self, experiment_id: str, name: str) -> str:  # noqa: ARG002 - others need the id
        """Return the address of an experiment's runs."""
        return f"{self.root}?{urlencode({'x': name})}"

    def run(self, run_id: str) -> str:
        """Return the address of a run's page."""
        return f"{self.root}runs/{quote(run_id, safe='')}"

    def file(self, run_id: str, path: str) -> str:
        """Return the address of the page of a file."""
        return f"{self.run(run_id)}/files/{quote(path)}"

    def raw(self, run_id: str, path: str, facts: Artifact) -> str:  # noqa: ARG002 - others need the digest
        """Return the address of a file's bytes, to be shown."""
        return f"{self.run(run_id)}/raw/{quote(path)}"

    def download(self, run_id: str, path: str, facts: Artifact) -> str:
        """Return the address of a file's bytes, to be saved."""
        return f"{self.raw(run_id, path, facts)}?download=1"

    def compare(self, run_ids: Iterable[str]) -> str:
        """Return the address of runs side by side."""
        return f"{self.root}compare?runs={','.join(quote(each, safe='') for each in run_ids)}"

    def history(self, metric: str) -> str:
        """Return the address of a metric along the code."""
        return f"{self.root}history?{urlencode({'metric': metric})}"

    def model(self, name: str, version: int | None = None) -> str:
        """Return the address of a model's page, or of one of its versions."""
        return f"{self.root}registry/{quote(name, safe='')}{'' if version is None else f'/{version}'}"


def file_name(text: str) -> str:
    """Return a name for a file that any file system takes, the same for the same text only.

    Example:
        >>> file_name("0198aabb"), len(file_name("../Churn"))
        ('0198aabb', 32)
    """
    if _SAFE.fullmatch(text):
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
