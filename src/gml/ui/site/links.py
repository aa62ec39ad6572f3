"""Addresses within a folder of files, and within one file."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from gml.ui.links import PAGES, Links, file_name
from gml.ui.site.bundle import script, static

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from gml.domain.run import Artifact
    from gml.ui.pages.runs import Wanted

ASSETS: Final = "assets"
FILES: Final = "files"
# What a host may serve under its own type: nothing of this can hold script. All else gets `.txt` after it.
HARMLESS: Final = frozenset(
    {"png", "jpg", "jpeg", "gif", "webp", "bmp", "wav", "mp3", "ogg", "flac", "txt", "csv", "json"}
)
# For pages of files `'self'` is their folder or nothing, as the browser sees it; `file:` then names the rest.
POLICY: Final = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file: data:; "
    "media-src 'self' file:; frame-src 'none'; form-action 'none'; base-uri 'none'"
)


class FolderLinks(Links):
    """Addresses of files beside each other, relative to one of them: they work under any prefix.

    Args:
        here: path of the page that has the links, from the top of the site.
        runs: ids of the runs that have a page.
        files: (run id, path) of the files that have a page.
        copied: SHA-256 of the files whose bytes are in the site.
        pictures: SHA-256 -> data address of pictures that may hold script, shown in the page itself.
        models: whether the registry has pages.
        metrics: those that have a page along the code.
    """

    kind = "static"
    policy = POLICY

    def __init__(
        self,
        here: str,
        *,
        runs: Collection[str] = (),
        files: Collection[tuple[str, str]] = (),
        copied: Collection[str] = (),
        pictures: Mapping[str, str] | None = None,
        models: bool = False,
        metrics: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.root = "../" * here.count("/")
        self._runs, self._files, self._copied = runs, files, copied
        self._pictures = pictures or {}
        self._models, self._metrics = models, metrics

    def head(self, script: str) -> Markup:  # noqa: ARG002 - <html> says it
        """Return the tags that load the style and the one script; which part of it a page wants."""
        tags = (
            '<link rel="icon" href="{0}{1}/icon.svg" type="image/svg+xml">\n'
            '<link rel="stylesheet" href="{0}{1}/gml.css">\n'
            '<script defer src="{0}{1}/gml.js"></script>'
        )
        return Markup(tags).format(self.root, ASSETS)  # noqa: S704 - ours

    def page(self, name: str) -> str:
        """Return the address of one of `PAGES` that the site has."""
        if (name == "registry" and not self._models) or (name == "history" and not self._metrics):
            return ""
        return f"{self.root}{'index' if name == 'runs' else name}.html"

    def view(self, wanted: Wanted, **changes: Any) -> str:  # noqa: ARG002
        """Return nothing: no server sorts and filters."""
        return ""

    csv = view

    def experiment(self, experiment_id: str, name: str) -> str:  # noqa: ARG002
        """Return the address of an experiment's newest runs."""
        return f"{self.root}experiments/{file_name(experiment_id)}.html"

    def run(self, run_id: str) -> str:
        """Return the address of a run's page."""
        return f"{self.root}runs/{file_name(run_id)}.html" if run_id in self._runs else ""

    def file(self, run_id: str, path: str) -> str:
        """Return the address of the page of a file."""
        return f"{self.root}{file_page(run_id, path)}" if (run_id, path) in self._files else ""

    def raw(self, run_id: str, path: str, facts: Artifact) -> str:  # noqa: ARG002
        """Return the address of a picture's or a sound's bytes, to be shown."""
        if facts.sha256 in self._pictures:
            return self._pictures[facts.sha256]
        name = copy_name(path, facts.sha256)
        shown = facts.sha256 in self._copied and not name.endswith(".txt")
        return f"{self.root}{name}" if shown else ""

    def download(self, run_id: str, path: str, facts: Artifact) -> str:  # noqa: ARG002
        """Return the address of a file's bytes."""
        return f"{self.root}{copy_name(path, facts.sha256)}" if facts.sha256 in self._copied else ""

    def compare(self, run_ids: Iterable[str]) -> str:
        """Return the address of runs side by side."""
        ids = [run_id for run_id in run_ids if run_id in self._runs]
        return f"{self.root}compare.html?runs={','.join(ids)}" if len(ids) > 1 else ""

    def history(self, metric: str) -> str:
        """Return the address of a metric along the code."""
        return f"{self.root}{history_page(metric)}" if metric in self._metrics else ""

    def model(self, name: str, version: int | None = None) -> str:
        """Return the address of a model's page, or of one of its versions."""
        return f"{self.root}{model_page(name, version)}" if self._models else ""


def file_page(run_id: str, path: str) -> str:
    """Return where the page of a file is; no path of a run becomes a path of the site."""
    return f"runs/{file_name(run_id)}/{hashlib.sha256(path.encode()).hexdigest()[:16]}.html"


def copy_name(path: str, sha256: str) -> str:
    """Return where the bytes of a file are: by their digest, with an ending that is harmless where they are.

    Example:
        >>> copy_name("a/page.html", "ab" * 32).rpartition(".")[2], copy_name("b.png", "cd" * 32)[:9]
        ('txt', 'files/cd/')
    """
    ending = path.rpartition(".")[2].lower()
    return f"{FILES}/{sha256[:2]}/{sha256}.{ending if ending in HARMLESS else 'txt'}"


def history_page(metric: str) -> str:
    """Return where the page of a metric along the code is."""
    return f"history/{hashlib.sha256(metric.encode()).hexdigest()[:16]}.html"


def model_page(name: str, version: int | None = None) -> str:
    """Return where the page of a model, or of a version, is."""
    return f"registry/{file_name(name)}{'' if version is None else f'/{version}'}.html"


class FileLinks(Links):
    """Addresses within one file: there is nothing but what is in it.

    Args:
        files: SHA-256 -> data address of pictures and sounds.
        anchors: run id -> name of its part of the page.
    """

    kind = "file"

    def __init__(self, files: Mapping[str, str], anchors: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.root = ""
        self._files = files
        self._anchors = anchors or {}

    @property
    def policy(self) -> str:  # type: ignore[override]
        """Only the script and the style that are in the page, known by their digests."""
        return (
            f"default-src 'none'; script-src {digest(script())}; style-src {digest(style())}; "
            "img-src data:; media-src data:; form-action 'none'; base-uri 'none'"
        )

    def head(self, script_: str) -> Markup:  # noqa: ARG002
        """Return the style itself."""
        return Markup("<style>{}</style>").format(Markup(style()))  # noqa: S704 - ours

    def foot(self) -> Markup:
        """Return the script itself."""
        return Markup("<script>{}</script>").format(Markup(script()))  # noqa: S704 - ours

    def pages(self) -> list[tuple[str, str, str]]:
        """Return nothing."""
        return []

    def page(self, name: str) -> str:  # noqa: ARG002
        """Return nothing."""
        return ""

    def view(self, wanted: Wanted, **changes: Any) -> str:  # noqa: ARG002
        """Return nothing."""
        return ""

    csv = view

    def experiment(self, experiment_id: str, name: str) -> str:  # noqa: ARG002
        """Return nothing."""
        return ""

    def run(self, run_id: str) -> str:
        """Return where the run is on this page."""
        return f"#{self._anchors[run_id]}" if run_id in self._anchors else ""

    def file(self, run_id: str, path: str) -> str:  # noqa: ARG002
        """Return nothing."""
        return ""

    def raw(self, run_id: str, path: str, facts: Artifact) -> str:  # noqa: ARG002
        """Return the bytes of a picture or a sound as an address."""
        return self._files.get(facts.sha256, "")

    def download(self, run_id: str, path: str, facts: Artifact) -> str:  # noqa: ARG002
        """Return nothing."""
        return ""

    def compare(self, run_ids: Iterable[str]) -> str:  # noqa: ARG002
        """Return nothing."""
        return ""

    def history(self, metric: str) -> str:  # noqa: ARG002
        """Return nothing."""
        return ""

    def model(self, name: str, version: int | None = None) -> str:  # noqa: ARG002
        """Return nothing."""
        return ""


@lru_cache(maxsize=1)
def style() -> str:
    """Return the style of all pages."""
    return static("gml.css")


def digest(text: str) -> str:
    """Return how a policy names a script or a style that is in the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def data_script(key: str, value: object) -> str:
    """Return data as a script that a page of files can load."""
    return f"(globalThis.gmlData ??= {{}})[{json.dumps(key)}] = {compact(value)};\n"


def compact(value: object) -> str:
    """Return JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


__all__ = ["PAGES", "FileLinks", "FolderLinks", "compact", "data_script"]
