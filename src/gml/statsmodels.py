"""Fits of statsmodels.

>>> import gml.statsmodels
>>> gml.statsmodels.autolog()  # doctest: +SKIP
>>> sm.OLS(y, x).fit()  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any


def autolog(**options: Any) -> None:
    """Log each fit of statsmodels by itself. The options are those of `gml.autolog`, `exclude` aside.

    Raises:
        UsageError: an unknown option.
    """
    from gml.tracking.autolog.switch import switch

    switch("statsmodels", options)
