"""statsmodels: params of the fit, the numbers of its results, their summary."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from gml.tracking import log as logging_api
from gml.tracking.autolog import session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME: Final = "statsmodels"
_NUMBERS: Final = (
    "aic", "bic", "llf", "rsquared", "rsquared_adj", "fvalue", "f_pvalue", "mse_resid", "mse_model",
    "mse_total", "df_model", "df_resid", "nobs", "scale", "deviance", "prsquared", "condition_number", "ess",
    "ssr",
)  # fmt: skip


def patch() -> None:
    """Patch `fit` of the models that there are, and of those that are imported later."""
    base = sys.modules["statsmodels.base.model"].Model
    for kind in (base, *_below(base)):
        if "fit" in kind.__dict__:
            session.wrap(kind, "fit", _fit)
    if "__init_subclass__" not in base.__dict__:

        def init_subclass(cls: Any, /, **kwargs: Any) -> None:
            super(base, cls).__init_subclass__(**kwargs)
            if "fit" in cls.__dict__:
                session.wrap(cls, "fit", _fit)

        base.__init_subclass__ = classmethod(init_subclass)


def _below(kind: Any) -> Iterator[Any]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


def _fit(original: Callable[..., Any]) -> Callable[..., Any]:
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        if session.settings(NAME).disable or session.depth():
            return original(self, *args, **kwargs)
        with session.one_fit(), session.run_of_fit() as there:
            if not there:
                return original(self, *args, **kwargs)
            session.params({"model": type(self).__name__, **kwargs})
            results = original(self, *args, **kwargs)
            with session.quietly("results"):
                found = {}
                for name in _NUMBERS:
                    with session.quietly(name):
                        value = getattr(results, name, None)
                        if value is not None:
                            found[name] = value
                session.metrics(found)
                if hasattr(results, "summary"):
                    logging_api.log_text(str(results.summary()), "model_summary.txt")
        return results

    return fit
