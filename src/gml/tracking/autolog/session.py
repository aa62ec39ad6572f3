"""What autologging shares: settings, the run of a fit, and that none of it may stop training."""

from __future__ import annotations

import functools
import logging
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import UsageError
from gml.tracking import active, fluent
from gml.tracking import log as logging_api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

log = logging.getLogger("gml")

_VALUE_LENGTH: Final = 6_000
_PARAMS_AT_ONCE: Final = 100
# Arguments of MLflow that have no meaning here.
_IGNORED: Final = frozenset(
    {"exclusive", "disable_for_unsupported_versions", "silent", "log_datasets", "extra_tags", "log_traces",
     "max_tuning_runs", "serialization_format", "model_format", "checkpoint", "save_model_kwargs"}
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What is logged.

    Attributes:
        log_models: the trained model.
        log_input_examples: a few rows of its data with it.
        log_model_signatures: its signature.
        log_post_training_metrics: metrics of the training data.
        log_plots: figures, where matplotlib is installed.
        max_tuning_runs: runs of the best candidates of a search.
        registered_model_name: register the model when its run has ended.
        disable: nothing at all.
    """

    log_models: bool = True
    log_input_examples: bool = True
    log_model_signatures: bool = True
    log_post_training_metrics: bool = True
    log_plots: bool = True
    max_tuning_runs: int = 5
    registered_model_name: str | None = None
    disable: bool = False


_settings: dict[str, Settings] = {}
_inside = threading.local()


def configure(framework: str, given: Mapping[str, Any]) -> None:
    """Take the settings of a framework.

    Raises:
        UsageError: a setting that there is not.
    """
    known = Settings.__dataclass_fields__
    unknown = sorted(set(given) - set(known) - _IGNORED)
    if unknown:
        raise UsageError(f"autolog has no argument {unknown[0]!r}", hint=f"it has {', '.join(known)}")
    _settings[framework] = replace(Settings(), **{key: value for key, value in given.items() if key in known})


def settings(framework: str) -> Settings:
    """Return the settings of a framework; disabled before `configure`."""
    return _settings.get(framework) or Settings(disable=True)


def depth() -> int:
    """Return how many fits that log themselves the calling thread is in."""
    return int(getattr(_inside, "depth", 0))


@contextmanager
def one_fit() -> Iterator[bool]:
    """Be in a fit; yields whether it is the outermost, since a pipeline fits others inside its own."""
    first = depth() == 0
    _inside.depth = depth() + 1
    try:
        yield first
    finally:
        _inside.depth -= 1


@contextmanager
def run_of_fit() -> Iterator[bool]:
    """Log to the active run, or to one of the fit's own that ends with it, failed if the fit raised.

    Yields whether there is a run; without one nothing is logged.
    """
    own = fluent.active_run() is None
    started = False
    if own:
        with quietly("start_run"):
            fluent.start_run()
            started = True
    try:
        yield started or not own
    except BaseException:
        if started and active.stack():
            with quietly("end_run"):
                fluent.end_run("FAILED")
        raise
    if started and active.stack():
        with quietly("end_run"):
            fluent.end_run()


@contextmanager
def quietly(what: str) -> Iterator[None]:
    """Turn trouble into a warning: training never dies of tracking."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - frameworks and their data raise anything
        said = " ".join(str(error).split())[:300]
        log.warning("gml: autolog: %s: %s: %s", what, type(error).__name__, said)


def wrap(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a function once; `make` returns the one that takes its place."""
    original = owner.__dict__.get(name)
    if original is None or hasattr(original, "gml_autolog"):
        return
    if not callable(original):
        return
    replacement = functools.wraps(original)(make(original))
    replacement.gml_autolog = original  # type: ignore[attr-defined]
    setattr(owner, name, replacement)


def params(values: Mapping[str, Any]) -> None:
    """Log params, their values cut to what a param takes; those that are known already stay."""
    with quietly("params"):
        known = _known_params()
        plain = {str(key): _text(value) for key, value in values.items() if str(key) not in known}
        items = list(plain.items())
        for at in range(0, len(items), _PARAMS_AT_ONCE):
            logging_api.log_params(dict(items[at : at + _PARAMS_AT_ONCE]))


def _known_params() -> Mapping[str, Any]:
    run = fluent.active_run()
    return run.data.params if run is not None else {}


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _VALUE_LENGTH else f"{text[: _VALUE_LENGTH - 3]}..."


def metrics(values: Mapping[str, Any], step: int | None = None) -> None:
    """Log those values that are numbers."""
    import numbers

    with quietly("metrics"):
        plain = {str(key): float(value) for key, value in values.items() if isinstance(value, numbers.Real)}
        if plain:
            logging_api.log_metrics(plain, step=step)


def figure(draw: Callable[[Any], None], name: str) -> None:
    """Log a figure that `draw` draws on an axes; nothing where matplotlib is missing."""
    with quietly(name):
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            log.debug("gml: autolog: %s needs matplotlib", name)
            return
        drawn = Figure(figsize=(6, 5), layout="tight")
        FigureCanvasAgg(drawn)
        draw(drawn.add_subplot())
        logging_api.log_figure(drawn, name)


def importance(names: Any, weights: Any, name: str = "feature_importance.png") -> None:
    """Log a figure of the thirty largest importances, and all of them as JSON."""
    pairs = sorted(
        ((str(n), float(w)) for n, w in zip(names, weights, strict=True)), key=lambda p: -abs(p[1])
    )

    def draw(axes: Any) -> None:
        shown = pairs[:30][::-1]
        axes.barh([one for one, _ in shown], [weight for _, weight in shown])
        axes.set_title("importance")

    figure(draw, name)
    with quietly("importance"):
        logging_api.log_dict(dict(pairs), name.removesuffix(".png") + ".json")


def head(data: Any, rows: int = 5) -> Any:
    """Return the first rows of data as an example, None where it has none."""
    if data is None:
        return None
    if hasattr(data, "iloc"):
        return data.iloc[:rows]
    try:
        return data[:rows]
    except (TypeError, KeyError, IndexError):
        return None


def model(framework: str, trained: Any, example: Any = None, **options: Any) -> None:
    """Log a trained model with the settings of its framework."""
    chosen = settings(framework)
    if not chosen.log_models:
        return
    with quietly("model"):
        from gml.models.inference import infer_signature
        from gml.models.save import SaveOptions, find_flavor
        from gml.tracking.models.log import log_model

        flavor = find_flavor(trained)
        signature: Any = None
        if example is None or not chosen.log_model_signatures:
            signature = False
        elif not chosen.log_input_examples:
            native = flavor.as_loaded(trained, options)
            signature = infer_signature(example, flavor.predictor(native, {}, {})(example, None))
        saving = SaveOptions(
            signature=signature,
            input_example=example if chosen.log_input_examples else None,
            options=options,
        )
        log_model(trained, flavor, "model", saving, registered_model_name=chosen.registered_model_name)
