"""Changed files of two runs on one page: text and images side by side; no script, no network."""

from __future__ import annotations

import base64
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Final

from gml.domain.errors import GmlError
from gml.domain.figures import size
from gml.domain.ids import short_id
from gml.domain.run import SHREDDED
from gml.tracking.contents import open_artifact
from gml.tracking.report.style import CSS
from gml.tracking.report.text import in_html

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gml.domain.run import Artifact, Run
    from gml.tracking.reader import Reader
    from gml.tracking.storage.changes import Change

MAX_TEXT: Final = 1 << 20
MAX_LINES: Final = 4_000
MAX_IMAGE: Final = 8 << 20
MAX_PAGE: Final = 64 << 20
"""Bytes of files on one page; what is beyond is named, not shown."""

_CONTEXT: Final = 3
_WIDTH: Final = 2_000
# Raster images only: what an SVG may contain is another question.
_IMAGES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
_MORE_CSS: Final = """
.pair{display:grid;grid-template-columns:1fr 1fr;gap:.9rem;padding:.7rem}
.pair img{max-width:100%;height:auto;display:block;image-rendering:auto}
.sides{table-layout:fixed}.sides td{white-space:pre-wrap;border-bottom:0;padding:0 .5rem;min-width:0}
.sides td.l{width:3.2rem;text-align:right;color:var(--dim);white-space:nowrap}
"""


def files_page(reader: Reader, a: Run, b: Run, found: Sequence[Change], same: int) -> str:
    """Return the changed files of two runs as a whole HTML page.

    Args:
        reader: the runs.
        a: the first run.
        b: the second run.
        found: what differs.
        same: how many files are equal.
    """
    heads = [f"{short_id(run.run_id)} {run.name}" for run in (a, b)]
    room = [MAX_PAGE]
    rows = "".join(
        f'<tr><th>{in_html(change.path)}</th><td class="f">{in_html(_kind(change))}</td>'
        f'<td class="n">{_size(change.before)}</td><td class="n">{_size(change.after)}</td></tr>'
        for change in found
    )
    parts = [
        f"<h1>{in_html(heads[0])} · {in_html(heads[1])}</h1>",
        f'<p class="dim">{len(found)} files differ, {same} are equal</p>',
        (
            '<div class="scroll"><table><thead><tr><th>path</th><th>change</th>'
            f'<th class="n">{in_html(heads[0])}</th><th class="n">{in_html(heads[1])}</th></tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        ),
    ]
    parts += [_file(reader, a, b, change, room) for change in found if change.old_path is None]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{in_html(' · '.join(heads), 120)}</title><style>{CSS}{_MORE_CSS}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n<footer>Made by gml</footer>\n</body></html>\n"
    )


def _kind(change: Change) -> str:
    return f"moved from {change.old_path}" if change.old_path is not None else change.kind


def _size(facts: Artifact | None) -> str:
    return "-" if facts is None else size(facts.size)


def _file(reader: Reader, a: Run, b: Run, change: Change, room: list[int]) -> str:
    sides = [(a, change.before), (b, change.after)]
    try:
        body = _content(reader, change.path, sides, room)
    except GmlError as error:
        body = f'<p class="dim">{in_html(error.message)}</p>'
    return (
        f"<details open><summary><code>{in_html(change.path)}</code> {change.kind}</summary>{body}</details>"
    )


def _content(reader: Reader, path: str, sides: Sequence[tuple[Run, Artifact | None]], room: list[int]) -> str:
    total = sum(facts.size for _, facts in sides if facts is not None)
    longest = max(facts.size for _, facts in sides if facts is not None)
    if longest > MAX_IMAGE or total > room[0]:
        return f'<p class="dim">too large to show here: {size(total)}</p>'
    if any(facts is not None and facts.at == SHREDDED for _, facts in sides):
        return '<p class="dim">shredded</p>'
    data: list[bytes | None] = []
    for run, facts in sides:
        if facts is None:
            data.append(None)
        else:
            with open_artifact(reader, run, path) as file:
                data.append(file.read())
    shown = _images(path, data)
    if shown is None and longest <= MAX_TEXT:
        shown = _texts(data)
    if shown is None:
        return '<p class="dim">neither text nor an image</p>'
    room[0] -= total
    return shown


def _images(path: str, data: Sequence[bytes | None]) -> str | None:
    kinds = [None if one is None else _image_kind(one) for one in data]
    if any(one is not None and kind is None for one, kind in zip(data, kinds, strict=True)):
        return None
    cells = []
    for one, kind, side in zip(data, kinds, ("before", "after"), strict=True):
        if one is None:
            cells.append('<figure><p class="dim">not there</p></figure>')
        else:
            encoded = base64.b64encode(one).decode()
            cells.append(
                f'<figure><img alt="{in_html(path)}, {side}" src="data:{kind};base64,{encoded}">'
                f"<figcaption>{side}, {size(len(one))}</figcaption></figure>"
            )
    return f'<div class="pair">{"".join(cells)}</div>'


def _image_kind(data: bytes) -> str | None:
    for magic, kind in _IMAGES:
        if data.startswith(magic) and (kind != "image/webp" or data[8:12] == b"WEBP"):
            return kind
    return None


def _texts(data: Sequence[bytes | None]) -> str | None:
    sides: list[list[str]] = []
    for one in data:
        try:
            text = (one or b"").decode()
        except UnicodeDecodeError:
            return None
        if "\0" in text:
            return None
        sides.append(text.splitlines())
    if max(map(len, sides)) > MAX_LINES:
        longest = max(map(len, sides))
        return f'<p class="dim">too long to show side by side: {longest:,} lines</p>'
    rows = "".join(_rows(*sides))
    return f'<div class="scroll"><table class="sides"><tbody>{rows}</tbody></table></div>'


def _rows(old: list[str], new: list[str]) -> Iterator[str]:
    for group in SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(_CONTEXT):
        first = group[0]
        yield f'<tr class="hunk"><td colspan="4">line {first[1] + 1} · line {first[3] + 1}</td></tr>'
        for tag, i1, i2, j1, j2 in group:
            for at in range(max(i2 - i1, j2 - j1)):
                left = i1 + at if i1 + at < i2 else None
                right = j1 + at if j1 + at < j2 else None
                changed = tag != "equal"
                yield f"<tr>{_side(old, left, changed, 'del')}{_side(new, right, changed, 'add')}</tr>"


def _side(lines: list[str], at: int | None, changed: bool, mark: str) -> str:
    if at is None:
        return '<td class="l"></td><td></td>'
    style = f' class="{mark}"' if changed else ""
    return f'<td class="l">{at + 1}</td><td{style}>{in_html(lines[at], _WIDTH)}</td>'
