"""One file of a run: shown as text, table or tree where that is harmless, else only offered."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gml.tracking.contents import artifact, open_artifact
from gml.ui.pages.run import TEXT_PREVIEW, kind_of

if TYPE_CHECKING:
    from gml.domain.run import Run
    from gml.tracking.reader import Reader

ROWS: Final = 500
# What a browser may be told of a file; everything else is offered for download as bytes.
MEDIA: Final = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "bmp": "image/bmp", "svg": "image/svg+xml", "wav": "audio/wav", "mp3": "audio/mpeg", "ogg": "audio/ogg",
    "flac": "audio/flac", "html": "text/html; charset=utf-8", "htm": "text/html; charset=utf-8",
}  # fmt: skip
# A file that may hold script is shown in a place of its own, without script and without our cookies.
SANDBOX: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; media-src data:"
)


@dataclass
class Preview:
    """A file as the page shows it."""

    path: str
    kind: str
    size: int
    sha256: str
    text: str = ""
    rows: list[list[str]] = field(default_factory=list)
    tree: Any = None
    cut: bool = False


def preview(reader: Reader, run: Run, path: str, *, frames: bool = True) -> Preview:
    """Return what can be shown of a file.

    Args:
        reader: where the run was read.
        run: the run.
        path: of the file.
        frames: whether HTML can be shown in a frame of its own; otherwise its source is.

    Raises:
        NotFoundError: the run has no such file, or its bytes are not here.
        CorruptError: the bytes do not match their digest.
    """
    facts = artifact(run, path)
    out = Preview(path, kind_of(path, facts), facts.size, facts.sha256)
    if out.kind == "html" and not frames:
        out.kind = "text"
    if out.kind not in {"text", "json", "table"}:
        return out
    with open_artifact(reader, run, path) as file:
        data = file.read()
    out.cut = len(data) > TEXT_PREVIEW
    text = data[:TEXT_PREVIEW].decode("utf-8", "replace")
    if out.kind == "json" and not out.cut:
        try:
            out.tree = json.loads(text)
        except (ValueError, RecursionError):
            out.kind = "text"
    if out.kind == "table":
        delimiter = "\t" if path.lower().endswith(".tsv") else ","
        out.rows = _rows(text, delimiter)
        out.cut = out.cut or len(out.rows) > ROWS
        out.rows = out.rows[:ROWS]
    out.text = text if out.kind != "table" else ""
    return out


def _rows(text: str, delimiter: str) -> list[list[str]]:
    rows = []
    try:
        for row in csv.reader(io.StringIO(text), delimiter=delimiter):
            rows.append(row[:100])
            if len(rows) > ROWS:
                break
    except csv.Error:
        pass  # what could be read is shown; the file itself can be downloaded
    return rows


def media_type(path: str) -> str:
    """Return what the browser is told of a file."""
    return MEDIA.get(path.rpartition(".")[2].lower(), "application/octet-stream")
