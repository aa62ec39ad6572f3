"""A comparison as Markdown that fits a comment of a pull request."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import InvalidValueError
from gml.domain.ids import short_id
from gml.tracking.report.curves import sparkline
from gml.tracking.report.heads import TITLES, champion, equal_sections, file_change, patch_stat
from gml.tracking.report.patch import split
from gml.tracking.report.text import in_markdown, moment, number, shown, took, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.domain.run import Run
    from gml.tracking.report.sections import Report

# GitHub takes 65,536 characters, GitLab and Gitea more.
LIMIT: Final = 65_000
MIN_LIMIT: Final = 1_000
MAX_COLUMNS: Final = 8
_CELL: Final = 80
_LINE: Final = 500
_NOTE: Final = 200


def length(text: str) -> int:
    """Return the characters of a text as hosts count them, which is in UTF-16 units."""
    return len(text) + sum(1 for character in text if character > "\uffff")


@dataclass
class _Part:
    """A piece that is shown whole, or cut between two of its lines with a line that says so.

    Attributes:
        head: what comes before the lines, such as a title and the head of a table.
        lines: what may be left out from the end.
        foot: what closes the piece, such as a fence.
        unit: what a line is.
        where: how to see what was left out.
    """

    head: str
    lines: list[str]
    foot: str = ""
    unit: str = "rows"
    where: str = ""
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = length(self.head) + sum(length(each) + 1 for each in self.lines) + length(self.foot)

    def text(self, room: int) -> str:
        if self.size <= room:
            return self.head + "".join(f"{each}\n" for each in self.lines) + self.foot
        left = room - length(self.head) - length(self.foot) - _NOTE
        kept = 0
        for each in self.lines:
            left -= length(each) + 1
            if left < 0:
                break
            kept += 1
        out = len(self.lines) - kept
        note = f"_{out:,} of {len(self.lines):,} {self.unit} are left out{self.where}_\n"[:_NOTE]
        if not kept:
            # Nothing but the title, which is the first line of the head, or what it summarises.
            title = self.head.lstrip("\n").split("\n", 1)[0]
            alone = f"\n{title}\n\n{note}" if title.startswith("#") else f"\n{note}"
            return alone if length(alone) <= room else ""
        return self.head + "".join(f"{each}\n" for each in self.lines[:kept]) + f"{self.foot}\n{note}"


def markdown(report: Report, limit: int = LIMIT) -> str:
    """Return the comparison as Markdown of at most `limit` characters.

    The champion comes first, then metrics, curves, params, data, environment and code. Where all of it
    is too long, the longest parts are cut, between two rows and with a line that says how many are
    missing; runs beyond the eighth are left out. All text of the user is shown as code.

    Args:
        report: what to show.
        limit: characters, counted as UTF-16 units; at least 1,000.

    Raises:
        InvalidValueError: the limit is too small for anything.

    Example:
        >>> print(gml.compare("@~1", "@").to_markdown())  # doctest: +SKIP
    """
    if limit < MIN_LIMIT:
        raise InvalidValueError(f"a report of {limit} characters says nothing", hint=f"at least {MIN_LIMIT}")
    runs = list(report.runs[:MAX_COLUMNS])
    parts = [_overview(report, runs)]
    parts += [_table(report, name, runs) for name in TITLES if report.wants(name) and report.tables.get(name)]
    same = equal_sections(report)
    tail = f"\nEqual: {same}\n" if same else ""
    if report.wants("code"):
        parts += _patches(report, runs)
    room = _shares([part.size for part in parts], limit - length(tail) - _NOTE)
    texts = [part.text(share) for part, share in zip(parts, room, strict=True)]
    gone = texts.count("")
    more = f"\n_{gone} more parts are left out_\n" if gone else ""
    return "".join(texts) + more + tail


def _shares(sizes: Sequence[int], room: int) -> list[int]:
    """Share the room out: what is small is whole, what is left is the same for all the others."""
    out = [0] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda at: sizes[at])
    for done, at in enumerate(order):
        out[at] = min(sizes[at], room // (len(sizes) - done))
        room -= out[at]
    return out


def _name(run: Run) -> str:
    return in_markdown(run.name or short_id(run.run_id), 40)


def _heads(runs: Sequence[Run], report: Report) -> list[str]:
    star = "★ " if report.champion else ""
    return [f"{star if at == 0 else ''}{_name(run)}" for at, run in enumerate(runs)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _overview(report: Report, runs: Sequence[Run]) -> _Part:
    best = ""
    first = champion(report)
    if first is not None:
        best = f"★ {_name(runs[0])} has the {first.what} {in_markdown(first.key)}: {first.score}\n\n"
    elif len(report.runs) > 1:
        best = f"Compared with {_name(runs[0])}\n\n"
    hidden = len(report.runs) - len(runs)
    if hidden:
        best += f"_{hidden:,} of {len(report.runs):,} runs are left out_\n\n"
    head = f"### {len(report.runs)} runs compared\n\n{best}"
    head += (
        f"{_row(['run', 'id', 'status', 'started', 'took', 'code'])}\n| --- | --- | --- | --- | --- | --- |\n"
    )
    lines = []
    for title, run in zip(_heads(runs, report), runs, strict=True):
        commit = str(run.source.get("commit") or "")[:12]
        code = (in_markdown(commit) if commit else "-") + (" + changes" if run.source.get("dirty") else "")
        cells = [title, in_markdown(short_id(run.run_id)), in_markdown(run.status, 12)]
        lines.append(_row([*cells, moment(run.start_time), took(run.duration) or "-", code]))
    return _Part(head, lines, unit="runs")


def _table(report: Report, section: str, runs: Sequence[Run]) -> _Part:
    numbers = section in {"metrics", "curves"}
    head = f"\n#### {TITLES[section]}\n\n{_row(['', *_heads(runs, report)])}\n"
    head += f"{_row(['---', *(['---:' if numbers else '---'] * len(runs))])}\n"
    lines = []
    for key, values in report.tables[section].items():
        some = values[: len(runs)]
        if section == "curves":
            cells = _curve_cells(report, key, runs)
        elif section == "metrics":
            cells = [_score(value, some[0], at) for at, value in enumerate(some)]
        elif section == "files":
            cells = [file_change(v) for v in some]
        else:
            cells = ["-" if v is None else in_markdown(shown(section, v), _CELL) for v in some]
        lines.append(_row([in_markdown(key, _CELL), *cells]))
    section = "code" if section == "files" else section
    return _Part(head, lines, where=f"; `{report.command} --only {section}` shows all")


def _score(value: float | None, first: float | None, at: int) -> str:
    if value is None:
        return "-"
    text = number(value)
    delta = value - first if at and first is not None else 0.0
    return f"{text} ({delta:+.3g})" if delta and abs(delta) < float("inf") else text


def _curve_cells(report: Report, key: str, runs: Sequence[Run]) -> list[str]:
    """Return a line of blocks a run; all runs have the same scale, so that heights can be compared."""
    import numpy as np

    columns = [report.points(run).get(key) for run in runs]
    finite = [c[2][np.isfinite(c[2])] for c in columns if c is not None]
    span = None
    if any(len(values) for values in finite):
        span = (
            float(min(v.min() for v in finite if len(v))),
            float(max(v.max() for v in finite if len(v))),
        )
    cells = []
    for run, each in zip(runs, columns, strict=True):
        if each is None:
            cells.append(number(run.metrics[key].last) if key in run.metrics else "-")
        else:
            cells.append(f"{sparkline(each[2], span=span)} {number(run.metrics[key].last)}")
    return cells


def _patches(report: Report, runs: Sequence[Run]) -> list[_Part]:
    parts = []
    for run, code in zip(runs[1:], report.codes, strict=False):
        if code.get("missing"):
            which = " and ".join(in_markdown(short_id(run_id)) for run_id in code["missing"])
            parts.append(_Part(f"\nThe code of {which} is not in this repository\n", []))
        elif code["patch"]:
            parts.append(_patch(report, run, code["patch"]))
    return parts


def _patch(report: Report, run: Run, patch: str) -> _Part:
    files = split(patch)
    stat = patch_stat(files)
    if not report.patches:
        return _Part(f"\nCode of {_name(run)}: {stat}\n", [])
    lines = []
    for each in files:
        lines += [f"diff --git {each.title}"] if each.title else []
        lines += [text for _, text in each.lines]
    lines = [_plain(text) for text in lines]
    # A fence longer than any run of backticks inside cannot be closed by the user's text.
    longest = max((len(run) for text in lines for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    head = f"\n<details><summary>Code of {_name(run)}: {stat}</summary>\n\n{fence}diff\n"
    return _Part(
        head,
        lines,
        f"{fence}\n\n</details>\n",
        "lines of the code's diff",
        f"; `{report.command} --only code` shows all",
    )


def _plain(text: str) -> str:
    short: Any = text.removesuffix("\r")
    return visible(short if len(short) <= _LINE else f"{short[: _LINE - 1]}…")
