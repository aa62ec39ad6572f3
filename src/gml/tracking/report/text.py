"""User text made harmless: whatever a name, param or patch holds, it shows as text and does nothing."""

from __future__ import annotations

import html
import re
import time
from typing import Any, Final

from gml.domain.figures import duration as took
from gml.domain.figures import number, size

__all__ = ["in_html", "in_markdown", "line", "moment", "number", "shown", "size", "took", "visible"]

# Controls, lone surrogates, and characters that turn or hide the text around them.
_HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
# What Markdown could take for a mark, or turn into a link, mention, emoji or formula.
_MARKS: Final = re.compile(r"[&<>\"'`|\\*_\[\]{}()#!~$@:^=]|(?<=[wW]{3})\.")


def visible(text: str) -> str:
    r"""Return text with invisible characters escaped; tabs and newlines stay.

    Example:
        >>> visible("a\x1b[31m\u202eb")
        'a\\x1b[31m\\u202eb'
    """
    return _HIDDEN.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def line(text: str, limit: int) -> str:
    r"""Return text as one line of at most `limit` characters.

    Example:
        >>> line("one\ntwo", 100), line("abcdef", 4)
        ('one⏎two', 'abc…')
    """
    # Cut before the work, as a value may have megabytes, and again where escapes made it longer.
    short = visible(text[: limit + 1]).replace("\r", "").replace("\n", "⏎").replace("\t", " ")
    return short if len(short) <= limit and len(text) <= limit else f"{short[: limit - 1]}…"


def in_markdown(text: str, limit: int = 120) -> str:
    r"""Return text as code in a line or table cell of Markdown.

    It is HTML `<code>`, in which every mark is a character reference: backticks and pipes cannot leave
    it, and hosts make no mentions or links of what is in it.

    Example:
        >>> in_markdown("a|b `@team`")
        '<code>a&#124;b &#96;&#64;team&#96;</code>'
    """
    if not text:
        return "<em>empty</em>"
    return f"<code>{_MARKS.sub(lambda match: f'&#{ord(match[0])};', line(text, limit))}</code>"


def in_html(text: str, limit: int = 1_000) -> str:
    """Return text for an HTML element or a quoted attribute.

    Example:
        >>> in_html("<img onerror='x'>")
        '&lt;img onerror=&#x27;x&#x27;&gt;'
    """
    return html.escape(line(text, limit), quote=True)


def shown(section: str, value: Any) -> str:
    """Return a value of a section (see `gml.tracking.report.sections`) as text for people."""
    if value is None:
        return "-"
    if section == "metrics":
        return number(float(value))
    if section == "curves":
        span = f"[{number(value['min'])}, {number(value['max'])}]"
        return f"{number(value['last'])} {span} {value['count']} points"
    if section == "inputs":
        return str(value["digest"])
    if section == "artifacts":
        return f"{value['sha256'][:12]} {size(int(value['size']))}"
    if section == "code":
        return str(value)[:12]
    return str(value)


def moment(ms: int) -> str:
    """Return a time as UTC text; what the calendar cannot say as milliseconds."""
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(ms / 1000))
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"
