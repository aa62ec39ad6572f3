"""Templates with everything escaped: whatever a name, param or file holds, it shows as text."""

from __future__ import annotations

import shlex
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from gml._version import __version__
from gml.domain.ids import short_id
from gml.tracking.report.text import line, number, size, took, visible
from gml.ui.pages.runs import next_sort

if TYPE_CHECKING:
    from jinja2 import Environment

COLOURS: Final = 10


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the templates, compiled once."""
    import jinja2
    from markupsafe import Markup

    def plain(value: Any) -> Any:
        """Make characters that turn or hide the text around them visible."""
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("gml.ui"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=plain,
    )
    templates.filters |= {
        "short": short_id,
        "size": size,
        "took": took,
        "number": number,
        "line": line,
        "iso": iso,
        "ago": ago,
        "quote": shlex.quote,
        "colour": lambda at: f"c{at % COLOURS}",
    }
    templates.globals |= {"gml_version": __version__, "next_sort": next_sort}
    return templates


def render(template: str, **values: Any) -> str:
    """Return a page."""
    return environment().get_template(template).render(**values)


def iso(ms: int | None) -> str:
    """Return a time for `<time datetime>`; what the calendar cannot say is empty."""
    if ms is None:
        return ""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms / 1000))
    except (ValueError, OverflowError, OSError):
        return ""


def ago(ms: int, now: float | None = None) -> str:
    """Return how long ago something was, as people say it.

    Example:
        >>> ago(0, now=7_300_000)
        '2h ago'
    """
    seconds = max(0.0, ((time.time() * 1000 if now is None else now) - ms) / 1000)
    for unit, name in ((86_400 * 365, "y"), (86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)}{name} ago"
    return f"{int(seconds)}s ago"
