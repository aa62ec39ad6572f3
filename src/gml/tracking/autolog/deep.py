"""Keras and PyTorch Lightning: params, metrics of each epoch, the model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from gml.tracking import log as logging_api
from gml.tracking.autolog import session

if TYPE_CHECKING:
    from collections.abc import Callable

KERAS: Final = "keras"
LIGHTNING: Final = "pytorch"


def patch_keras() -> None:
    """Patch `keras.Model.fit`, where it is defined."""
    for kind in sys.modules["keras"].Model.__mro__:
        if "fit" in kind.__dict__:
            session.wrap(kind, "fit", _fit_keras)


def _fit_keras(original: Callable[..., Any]) -> Callable[..., Any]:
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        if session.settings(KERAS).disable or session.depth():
            return original(self, *args, **kwargs)
        with session.one_fit(), session.run_of_fit() as there:
            if not there:
                return original(self, *args, **kwargs)
            with session.quietly("params"):
                _before_keras(self, kwargs)
            kwargs["callbacks"] = [*_as_list(kwargs.get("callbacks")), _keras_callback()]
            result = original(self, *args, **kwargs)
            with session.quietly("results"):
                session.model(KERAS, self, _rows(args[0] if args else kwargs.get("x")))
        return result

    return fit


def _as_list(callbacks: Any) -> list[Any]:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]


def _before_keras(model: Any, kwargs: dict[str, Any]) -> None:
    named = ("batch_size", "epochs", "validation_split", "shuffle", "initial_epoch", "steps_per_epoch")
    found = {key: kwargs[key] for key in named if kwargs.get(key) is not None}
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None:
        found |= {f"opt_{key}": value for key, value in optimizer.get_config().items()}
    session.params(found)
    lines: list[str] = []
    model.summary(print_fn=lambda line, *_, **__: lines.append(str(line)))
    logging_api.log_text("\n".join(lines), "model_summary.txt")


def _keras_callback() -> Any:
    class Metrics(sys.modules["keras"].callbacks.Callback):  # type: ignore[misc]
        """Logs the metrics of each epoch."""

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            session.metrics(dict(logs or {}), epoch)

    return Metrics()


def _rows(x: Any) -> Any:
    return session.head(x) if hasattr(x, "shape") else None


def patch_lightning() -> None:
    """Patch `Trainer.fit` of Lightning, under either of its names."""
    for name in ("lightning.pytorch", "pytorch_lightning"):
        if name in sys.modules:
            session.wrap(sys.modules[name].Trainer, "fit", _fit_lightning)


def _fit_lightning(original: Callable[..., Any]) -> Callable[..., Any]:
    def fit(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        if session.settings(LIGHTNING).disable or session.depth():
            return original(self, model, *args, **kwargs)
        with session.one_fit(), session.run_of_fit() as there:
            if not there:
                return original(self, model, *args, **kwargs)
            with session.quietly("params"):
                session.params({"epochs": self.max_epochs, **dict(getattr(model, "hparams", {}) or {})})
                self.callbacks.append(_lightning_callback(type(self)))
            result = original(self, model, *args, **kwargs)
            if getattr(self, "is_global_zero", True):
                with session.quietly("results"):
                    _after_lightning(model)
        return result

    return fit


def _after_lightning(model: Any) -> None:
    logging_api.log_text(str(model), "model_summary.txt")
    module = sys.modules.get(type(model).__module__)
    path = getattr(module, "__file__", None)
    if type(model).__module__ == "__main__" or path is None:
        session.log.warning(
            "gml: autolog: %s is defined in the script itself, so its model cannot be built again; "
            "put it into a module, or log its checkpoint",
            type(model).__name__,
        )
        return
    session.model(LIGHTNING, model, None, init_args=dict(getattr(model, "hparams", {}) or {}))


def _lightning_callback(trainer: type) -> Any:
    base: Any = sys.modules[trainer.__module__.partition(".trainer")[0]].Callback

    class Metrics(base):  # type: ignore[misc, unused-ignore]
        """Logs the metrics of each epoch, from the process that speaks for all."""

        def _log(self, trainer: Any) -> None:
            if trainer.is_global_zero and not trainer.sanity_checking:
                found = {key: value.item() for key, value in trainer.callback_metrics.items()}
                session.metrics(found, trainer.current_epoch)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            self._log(trainer)

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            found = {}
            for at, optimizer in enumerate(trainer.optimizers):
                prefix = "optimizer" if at == 0 else f"optimizer_{at}"
                found[f"{prefix}_name"] = type(optimizer).__name__
                found |= {f"{prefix}_{key}": value for key, value in optimizer.defaults.items()}
            session.params(found)

    return Metrics()
