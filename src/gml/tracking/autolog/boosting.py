"""XGBoost and LightGBM: params, metrics of each iteration, importance, the booster."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from gml.tracking import fluent
from gml.tracking.autolog import session

if TYPE_CHECKING:
    from collections.abc import Callable

XGBOOST: Final = "xgboost"
LIGHTGBM: Final = "lightgbm"


def patch_xgboost() -> None:
    """Patch `xgboost.train`, which its estimators call too."""
    for name in ("xgboost", "xgboost.sklearn"):
        if name in sys.modules and hasattr(sys.modules[name], "train"):
            session.wrap(sys.modules[name], "train", _train_xgboost)


def _train_xgboost(original: Callable[..., Any]) -> Callable[..., Any]:
    def train(params: Any, dtrain: Any, *args: Any, **kwargs: Any) -> Any:
        if session.settings(XGBOOST).disable:
            return original(params, dtrain, *args, **kwargs)
        logged = {**kwargs, "callbacks": [*(kwargs.get("callbacks") or []), _xgboost_callback()]}
        if session.depth():
            # Inside of an estimator's fit, whose run has the rest.
            return original(params, dtrain, *args, **(logged if fluent.active_run() else kwargs))
        with session.one_fit(), session.run_of_fit() as there:
            if not there:
                return original(params, dtrain, *args, **kwargs)
            rest = {
                key: kwargs[key]
                for key in ("num_boost_round", "early_stopping_rounds", "maximize")
                if kwargs.get(key) is not None
            }
            if args:
                rest["num_boost_round"] = args[0]
            session.params({**dict(params), **rest})
            booster = original(params, dtrain, *args, **logged)
            with session.quietly("results"):
                _after_xgboost(booster, dtrain)
        return booster

    return train


def _xgboost_callback() -> Any:
    callback: Any = sys.modules["xgboost"].callback

    class Metrics(callback.TrainingCallback):  # type: ignore[misc]
        """Logs the metrics of each iteration."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
            found = {
                f"{data}-{name}": values[-1]
                for data, by_name in evals_log.items()
                for name, values in by_name.items()
                if values
            }
            session.metrics(
                {key: value[0] if isinstance(value, tuple) else value for key, value in found.items()}, epoch
            )
            return False

    return Metrics()


def _after_xgboost(booster: Any, dtrain: Any) -> None:
    if getattr(booster, "best_iteration", None) is not None:
        with session.quietly("best iteration"):
            session.metrics({"best_iteration": booster.best_iteration, "best_score": booster.best_score})
    if session.settings(XGBOOST).log_plots:
        with session.quietly("importance"):
            found = booster.get_score(importance_type="weight")
            session.importance(list(found), list(found.values()), "feature_importance_weight.png")
    session.model(XGBOOST, booster, _rows_of(dtrain))


def _rows_of(dtrain: Any) -> Any:
    """Return the first rows of a DMatrix as a table with its names, None where it keeps none.

    A DMatrix has halved its numbers to 32 bits; the tables that come later have not.
    """
    found: list[Any] = [None]
    with session.quietly("input example"):
        import pandas as pd

        rows = dtrain.slice(list(range(min(5, dtrain.num_row())))).get_data().toarray()
        found = [pd.DataFrame(rows, columns=dtrain.feature_names, dtype="float64")]
    return found[0]


def patch_lightgbm() -> None:
    """Patch `lightgbm.train`, which its estimators call too."""
    for name in ("lightgbm", "lightgbm.sklearn"):
        if name in sys.modules and hasattr(sys.modules[name], "train"):
            session.wrap(sys.modules[name], "train", _train_lightgbm)


def _train_lightgbm(original: Callable[..., Any]) -> Callable[..., Any]:
    def train(params: Any, train_set: Any, *args: Any, **kwargs: Any) -> Any:
        if session.settings(LIGHTGBM).disable:
            return original(params, train_set, *args, **kwargs)
        logged = {**kwargs, "callbacks": [*(kwargs.get("callbacks") or []), _lightgbm_metrics]}
        if session.depth():
            return original(params, train_set, *args, **(logged if fluent.active_run() else kwargs))
        with session.one_fit(), session.run_of_fit() as there:
            if not there:
                return original(params, train_set, *args, **kwargs)
            rest = {"num_boost_round": args[0] if args else kwargs.get("num_boost_round", 100)}
            session.params({**dict(params), **rest})
            # LightGBM lets go of the data after training.
            example = _rows_of_set(train_set)
            booster = original(params, train_set, *args, **logged)
            with session.quietly("results"):
                if session.settings(LIGHTGBM).log_plots:
                    for kind in ("split", "gain"):
                        session.importance(
                            booster.feature_name(),
                            booster.feature_importance(kind),
                            f"feature_importance_{kind}.png",
                        )
                session.model(LIGHTGBM, booster, example)
        return booster

    return train


def _lightgbm_metrics(env: Any) -> None:
    """Log the metrics of an iteration; LightGBM calls this after each."""
    found = {f"{data}-{name}": value for data, name, value, *_ in env.evaluation_result_list or ()}
    session.metrics(found, env.iteration)


def _rows_of_set(train_set: Any) -> Any:
    data = getattr(train_set, "data", None)
    return session.head(data) if hasattr(data, "shape") else None
