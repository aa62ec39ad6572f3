"""A comparison as one page that works from disk: no script, no network, curves as SVG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from gml.domain.ids import short_id
from gml.tracking.report.curves import curve_keys
from gml.tracking.report.heads import TITLES, champion, equal_sections, file_change, patch_stat
from gml.tracking.report.patch import split
from gml.tracking.report.style import CSS
from gml.tracking.report.svg import COLOURS, chart
from gml.tracking.report.text import in_html, moment, shown, took

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.domain.run import Run
    from gml.tracking.report.patch import FileDiff
    from gml.tracking.report.sections import Report

MAX_RUNS: Final = 24
MAX_CHARTS: Final = 48
MAX_ROWS: Final = 2_000
MAX_PATCH_LINES: Final = 10_000
_LINE: Final = 2_000
# Curves are charts.
_TABLES: Final = tuple(name for name in TITLES if name != "curves")
# Nothing may be loaded or run, whatever slips through: the page is its own text and style.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(report: Report) -> str:
    """Return the comparison as a whole HTML page.

    Charts, rows, lines of code and runs beyond the limits of this module are left out, and the page
    says how many. All text of the user is escaped.

    Args:
        report: what to show.

    Raises:
        NotFoundError: metric points are not in the artifact store.
        CorruptError: a part of a run is damaged.

    Example:
        >>> pathlib.Path("report.html").write_text(gml.compare("@~1", "@").to_html())  # doctest: +SKIP
    """
    runs = list(report.runs[:MAX_RUNS])
    title = " · ".join(run.name or short_id(run.run_id) for run in runs[:4])
    parts = [_overview(report, runs)]
    if report.wants("curves"):
        parts.append(_charts(report, runs))
    parts += [
        f"<section><h2>{TITLES[name]}</h2>{table(report, name, runs)}</section>"
        for name in _TABLES
        if report.tables.get(name)
    ]
    same = equal_sections(report, _TABLES)
    if same:
        parts.append(f'<p class="dim">Equal: {same}</p>')
    if report.wants("code"):
        parts += _code(report, runs)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{in_html(title, 120)}</title><style>{CSS}</style></head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<footer>Made by gml; <code>{in_html(report.command)}</code></footer>\n</body></html>\n"
    )


def _key(at: int) -> str:
    dash = " dash" if at >= COLOURS else ""
    return f'<span class="c{at % COLOURS}"><span class="key{dash}"></span></span>'


def _name(run: Run) -> str:
    return in_html(run.name or short_id(run.run_id), 60)


def _overview(report: Report, runs: Sequence[Run]) -> str:
    out = [f"<h1>{len(report.runs)} runs compared</h1>"]
    first = champion(report)
    if first is not None:
        key = f"<code>{in_html(first.key)}</code>"
        out.append(f"<p>★ <b>{_name(runs[0])}</b> has the {first.what} {key}: {first.score}</p>")
    if len(report.runs) > len(runs):
        hidden = len(report.runs) - len(runs)
        out.append(f'<p class="dim">{hidden} of {len(report.runs)} runs are left out</p>')
    out.append('<div class="scroll"><table><thead><tr>')
    out += [f"<th>{head}</th>" for head in ("run", "id", "status", "started", "took", "user", "code")]
    out.append("</tr></thead><tbody>")
    for at, run in enumerate(runs):
        commit = str(run.source.get("commit") or "")[:12] or "-"
        branch = run.source.get("branch")
        code = commit + (f" {branch}" if branch else "") + (" + changes" if run.source.get("dirty") else "")
        cells = (short_id(run.run_id), run.status, moment(run.start_time), took(run.duration), run.user, code)
        star = "★ " if report.champion and at == 0 else ""
        best = ' class="best"' if star else ""
        out.append(f"<tr{best}><th{best}>{_key(at)}{star}{_name(run)}</th>")
        out += [f'<td class="f">{in_html(str(cell), 80)}</td>' for cell in cells]
        out.append("</tr>")
    return "".join(out) + "</tbody></table></div>"


def _charts(report: Report, runs: Sequence[Run]) -> str:
    keys = curve_keys(runs)
    if not keys:
        return ""
    out = ['<section><h2>Curves</h2><div class="legend">']
    out += [f"<span>{_key(at)}{_name(run)}</span>" for at, run in enumerate(runs)]
    out.append('</div><div class="charts">')
    for key in keys[:MAX_CHARTS]:
        curves = [
            (run.name or short_id(run.run_id), at, report.points(run)[key])
            for at, run in enumerate(runs)
            if key in report.points(run)
        ]
        out.append(f"<figure><figcaption>{in_html(key, 120)}</figcaption>{chart(key, curves)}</figure>")
    out.append("</div>")
    if len(keys) > MAX_CHARTS:
        out.append(
            f'<p class="dim">{len(keys) - MAX_CHARTS:,} of {len(keys):,} curves are left out '
            "(all are in the page of --only metrics as last values)</p>"
        )
    return "".join(out) + "</section>"


def table(report: Report, section: str, runs: Sequence[Run], limit: int = MAX_ROWS) -> str:
    """Return one section as an HTML table, with a line for rows that are left out."""
    rows = report.tables[section]
    kind = ' class="n"' if section == "metrics" else ""
    out = [f'<div class="scroll"><table><thead><tr><th>{in_html(section)}</th>']
    for at, run in enumerate(runs):
        star = "★ " if report.champion and at == 0 else ""
        out.append(f'<th{kind} title="{in_html(run.run_id)}">{_key(at)}{star}{_name(run)}</th>')
    out.append("</tr></thead><tbody>")
    for key, values in list(rows.items())[:limit]:
        out.append(f"<tr><th>{in_html(key, 200)}</th>")
        for at, value in enumerate(values[: len(runs)]):
            best = "best" if report.champion and at == 0 else ""
            classes = " ".join(filter(None, ("n" if section == "metrics" else "", best)))
            attribute = f' class="{classes}"' if classes else ""
            out.append(f"<td{attribute}>{_cell(section, value, values[0], at)}</td>")
        out.append("</tr>")
    out.append("</tbody></table></div>")
    if len(rows) > limit:
        out.append(f'<p class="dim">{len(rows) - limit:,} of {len(rows):,} rows are left out</p>')
    return "".join(out)


def _cell(section: str, value: Any, first: Any, at: int) -> str:
    if section == "files":
        return file_change(value)
    if section == "inputs" and value is not None:
        return f'<span title="{in_html(value["source"], 300)}">{in_html(shown(section, value))}</span>'
    text = in_html(shown(section, value))
    if section != "metrics" or not at or value is None or first is None:
        return text
    delta = value - first
    if not delta or not math.isfinite(delta):
        return text
    return f'{text} <span class="{"up" if delta > 0 else "dn"}">{delta:+.3g}</span>'


def _code(report: Report, runs: Sequence[Run]) -> list[str]:
    out = []
    room = MAX_PATCH_LINES
    for run, code in zip(runs[1:], report.codes, strict=False):
        if code.get("missing"):
            which = " and ".join(in_html(short_id(run_id)) for run_id in code["missing"])
            out.append(f'<p class="dim">The code of {which} is not in this repository</p>')
        elif code["patch"]:
            files = split(code["patch"])
            out.append(f"<section><h2>Code: {_name(runs[0])} → {_name(run)}</h2><p>{patch_stat(files)}</p>")
            for each in files if report.patches else ():
                shown_lines = each.lines[: max(0, room)]
                room -= len(shown_lines)
                out.append(_file(each, shown_lines, opened=len(each.lines) <= 400))
            out.append("</section>")
    return out


def _file(file: FileDiff, lines: Sequence[tuple[str, str]], *, opened: bool) -> str:
    counts = "binary" if file.binary else f"+{file.added} -{file.removed}"
    out = [
        f"<details{' open' if opened else ''}><summary><code>{in_html(file.path)}</code> {counts}</summary>"
    ]
    if lines:
        spans = (f'<span class="{kind}">{_source(text)}</span>' for kind, text in lines if kind != "head")
        out.append(f"<pre>{''.join(spans)}</pre>")
    if len(lines) < len(file.lines):
        gone = len(file.lines) - len(lines)
        out.append(f'<p class="dim">{gone:,} of {len(file.lines):,} lines are left out</p>')
    return "".join(out) + "</details>"


def _source(text: str) -> str:
    # Tabs are kept here, where columns matter.
    return "\t".join(in_html(part, _LINE) for part in text.removesuffix("\r").split("\t")) or " "
