"""scikit-learn: params, training metrics, plots, the model; the candidates of a search as child runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from gml.tracking import fluent
from gml.tracking import log as logging_api
from gml.tracking.autolog import session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME: Final = "sklearn"
_FITS: Final = ("fit", "fit_predict", "fit_transform")
# Steps that are fitted on the way to a model; a run for each would say nothing.
_STEPS: Final = ("sklearn.preprocessing", "sklearn.feature_extraction", "sklearn.impute", "sklearn.compose")


def patch() -> None:
    """Patch the estimators that there are, and each that is defined later."""
    base = sys.modules["sklearn.base"].BaseEstimator
    for kind in (base, *_below(base)):
        _patch_class(kind)
    if hasattr(base.__init_subclass__, "gml_autolog"):
        return
    before = base.__init_subclass__

    def init_subclass(cls: Any, /, **kwargs: Any) -> None:
        before.__func__(cls, **kwargs)
        _patch_class(cls)

    init_subclass.gml_autolog = before  # type: ignore[attr-defined]
    base.__init_subclass__ = classmethod(init_subclass)


def _below(kind: Any) -> Iterator[Any]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


def _patch_class(kind: Any) -> None:
    if kind.__module__.startswith(_STEPS):
        return
    for name in _FITS:
        if name in kind.__dict__:
            session.wrap(kind, name, _fit)


def _fit(original: Callable[..., Any]) -> Callable[..., Any]:
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        settings = session.settings(NAME)
        if settings.disable or session.depth():
            return original(self, *args, **kwargs)
        with session.one_fit(), session.run_of_fit() as there:
            if not there:
                return original(self, *args, **kwargs)
            with session.quietly("params"):
                _before(self)
            result = original(self, *args, **kwargs)
            with session.quietly("results"):
                _after(self, args, kwargs)
        return result

    return fit


def _before(estimator: Any) -> None:
    kind = type(estimator)
    logging_api.set_tags(
        {"estimator_name": kind.__name__, "estimator_class": f"{kind.__module__}.{kind.__qualname__}"}
    )
    deep = not hasattr(estimator, "best_estimator_") and not _is_search(estimator)
    session.params(estimator.get_params(deep=deep))


def _is_search(estimator: Any) -> bool:
    return any(base.__name__ == "BaseSearchCV" for base in type(estimator).__mro__)


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
    x = args[0] if args else kwargs.get("X")
    y = args[1] if len(args) > 1 else kwargs.get("y", kwargs.get("Y"))
    return x, y, kwargs.get("sample_weight")


def _after(estimator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    settings = session.settings(NAME)
    x, y, weight = _given(args, kwargs)
    if settings.log_post_training_metrics:
        with session.quietly("training metrics"):
            session.metrics(_scores(estimator, x, y, weight))
    if settings.log_plots:
        _plots(estimator, x, y)
    if _is_search(estimator):
        _candidates(estimator, settings.max_tuning_runs)
    if hasattr(estimator, "predict"):
        session.model(NAME, estimator, session.head(x))


def _scores(estimator: Any, x: Any, y: Any, weight: Any) -> dict[str, Any]:
    from sklearn import metrics
    from sklearn.base import is_classifier, is_regressor

    found: dict[str, Any] = {}
    if y is None or not hasattr(estimator, "predict"):
        return found
    weights = {} if weight is None else {"sample_weight": weight}
    if hasattr(estimator, "score"):
        with session.quietly("training_score"):
            found["training_score"] = estimator.score(x, y)
    predicted = estimator.predict(x)
    if is_classifier(estimator):
        mean = {"average": "weighted", "zero_division": 0, **weights}
        found["training_accuracy_score"] = metrics.accuracy_score(y, predicted, **weights)
        found["training_precision_score"] = metrics.precision_score(y, predicted, **mean)
        found["training_recall_score"] = metrics.recall_score(y, predicted, **mean)
        found["training_f1_score"] = metrics.f1_score(y, predicted, **mean)
        if hasattr(estimator, "predict_proba"):
            with session.quietly("training_log_loss"):
                chances = estimator.predict_proba(x)
                found["training_log_loss"] = metrics.log_loss(
                    y, chances, labels=estimator.classes_, **weights
                )
                two = chances[:, 1] if chances.shape[1] == 2 else chances
                more = {} if chances.shape[1] == 2 else {"multi_class": "ovo", "average": "weighted"}
                found["training_roc_auc"] = metrics.roc_auc_score(y, two, **more)
    elif is_regressor(estimator):
        found["training_mean_squared_error"] = metrics.mean_squared_error(y, predicted, **weights)
        found["training_root_mean_squared_error"] = found["training_mean_squared_error"] ** 0.5
        found["training_mean_absolute_error"] = metrics.mean_absolute_error(y, predicted, **weights)
        found["training_r2_score"] = metrics.r2_score(y, predicted, **weights)
    return found


def _plots(estimator: Any, x: Any, y: Any) -> None:
    from sklearn import metrics
    from sklearn.base import is_classifier

    if y is not None and is_classifier(estimator):
        session.figure(
            lambda axes: metrics.ConfusionMatrixDisplay.from_estimator(estimator, x, y, ax=axes),
            "training_confusion_matrix.png",
        )
        if len(getattr(estimator, "classes_", ())) == 2:
            session.figure(
                lambda axes: metrics.RocCurveDisplay.from_estimator(estimator, x, y, ax=axes),
                "training_roc_curve.png",
            )
            session.figure(
                lambda axes: metrics.PrecisionRecallDisplay.from_estimator(estimator, x, y, ax=axes),
                "training_precision_recall_curve.png",
            )
    with session.quietly("importance"):
        weights = getattr(estimator, "feature_importances_", None)
        if weights is None:
            coefficients = getattr(estimator, "coef_", None)
            if coefficients is None or getattr(coefficients, "ndim", 0) > 2:
                return
            weights = coefficients.reshape(-1) if coefficients.size == coefficients.shape[-1] else None
        if weights is not None:
            names = getattr(estimator, "feature_names_in_", None)
            session.importance(names if names is not None else range(len(weights)), weights)


def _candidates(search: Any, most: int) -> None:
    """Log the results of a search: the best, the table of all, and a child run for each of the best few."""
    import numpy as np

    with session.quietly("search"):
        if hasattr(search, "best_params_"):
            session.params({f"best_{key}": value for key, value in search.best_params_.items()})
            session.metrics({"best_cv_score": search.best_score_})
        results = search.cv_results_
        logging_api.log_table(
            {key: [str(one) if key == "params" else one for one in value] for key, value in results.items()},
            "cv_results.json",
        )
        rank = results.get("rank_test_score")
        if rank is None:
            return
        for at in np.argsort(rank, kind="stable")[:most]:
            with fluent.start_run(nested=True):
                session.params(results["params"][at])
                wanted = ("mean_test_score", "std_test_score", "mean_fit_time", "mean_score_time")
                session.metrics({key: results[key][at] for key in wanted if key in results})
