"""Templates with everything escaped: whatever a name, param or file holds, it shows as text."""

from __future__ import annotations

import shlex
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from gml._version import __version__
from gml.domain.ids import short_id
from gml.tracking.report.text import line, number, size, took, visible
from gml.ui.pages.forge import commit_address
from gml.ui.pages.runs import next_sort

if TYPE_CHECKING:
    from jinja2 import Environment

    from gml.ui.links import Links

COLOURS: Final = 10


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the templates, compiled once."""
    import jinja2
    from markupsafe import Markup

    def plain(value: Any) -> Any:
        """Make characters that turn or hide the text around them visible."""
        if (
            not isinstance(value, str)
            or isinstance(value, Markup)
            or (value.isascii() and value.isprintable())
        ):
            return value
        return visible(value)

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
        "day": day,
        "quote": shlex.quote,
        "colour": lambda at: f"c{at % COLOURS}",
    }
    templates.globals |= {
        "commit_address": commit_address,
        "gml_version": __version__,
        "next_sort": next_sort,
    }
    return templates


def render(template: str, to: Links, **values: Any) -> str:
    """Return a page.

    Args:
        template: name of the file.
        to: where the other pages are.
        values: what the template shows.
    """
    return environment().get_template(template).render(to=to, **values)


def iso(ms: int | None) -> str:
    """Return a time for `<time datetime>`; what the calendar cannot say is empty."""
    if ms is None:
        return ""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms / 1000))
    except (ValueError, OverflowError, OSError):
        return ""


def day(ms: int | None) -> str:
    """Return a time as it is read; with scripts the pages say how long ago it was.

    Example:
        >>> day(0)
        '1970-01-01 00:00'
    """
    return iso(ms)[:16].replace("T", " ")
