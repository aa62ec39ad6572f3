"""Models written in Python: the base class, plain functions, and what they get when they are loaded."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class PythonModelContext:
    """What a model gets when it is loaded and when it predicts.

    Attributes:
        artifacts: name -> path of a file that was saved with the model.
        model_config: settings that were saved with the model, or given when it was loaded.
    """

    def __init__(
        self, artifacts: Mapping[str, str] | None = None, model_config: Mapping[str, Any] | None = None
    ) -> None:
        self.artifacts = dict(artifacts or {})
        self.model_config = dict(model_config or {})


class PythonModel:
    """Base class of models written in Python.

    Example:
        >>> class AddN(PythonModel):
        ...     def __init__(self, n):
        ...         self.n = n
        ...
        ...     def predict(self, model_input, params=None):
        ...         return model_input + self.n
    """

    @property
    def predict_type_hints(self) -> Any:
        """Type hints of `predict` as MLflow asks for them: attributes `input` and `output`."""
        import types
        import typing

        method = getattr(self, "func", self.predict)
        try:
            found = typing.get_type_hints(method)
        except (NameError, TypeError, AttributeError):
            found = {}
        named = input_argument(method)
        return types.SimpleNamespace(input=found.get(named), output=found.get("return"))

    def load_context(self, context: PythonModelContext) -> None:
        """Prepare for predictions, once, when the model is loaded; `context.artifacts` has the files."""

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Return predictions. `context` and `params` may be left out of the definition.

        Args:
            context: what `load_context` got.
            model_input: data that fits the signature.
            params: params of inference.
        """
        raise NotImplementedError(f"{type(self).__name__} has no predict()")


class FunctionModel(PythonModel):
    """A plain function as a model.

    Attributes:
        func: the function.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:  # type: ignore[override]
        """Call the function, with params if it takes them."""
        return call_predict(self.func, None, model_input, params)


class Forgotten:
    """Stands for an object of MLflow that a model only carries along, such as its signature."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what the pickle says, and forget it."""


# Classes that a pickle written by MLflow names, by their names there.
STAND_INS: Final[dict[str, Any]] = {
    "PythonModel": PythonModel,
    "PythonModelContext": PythonModelContext,
    "_FunctionPythonModel": FunctionModel,
}


def call_predict(
    method: Callable[..., Any], context: Any, model_input: Any, params: dict[str, Any] | None
) -> Any:
    """Call `predict` with those of context, input and params that it takes."""
    parameters = inspect.signature(method).parameters
    takes_params = "params" in parameters
    if takes_params and parameters["params"].kind is inspect.Parameter.VAR_KEYWORD:
        takes_params = False
    extra = {"params": params} if takes_params else {}
    return method(context, model_input, **extra) if takes_context(method) else method(model_input, **extra)


def takes_context(method: Callable[..., Any]) -> bool:
    """Whether a `predict` has the context as its first argument."""
    return "context" in inspect.signature(method).parameters


def input_argument(method: Callable[..., Any]) -> str:
    """Return the name of the argument that gets the data.

    Raises:
        InvalidValueError: it takes none.
    """
    names = [
        name
        for name, one in inspect.signature(method).parameters.items()
        if name not in {"self", "context", "params"} and one.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    if not names:
        # Not at the top: a model is pickled with this module, and loads where gml is not installed.
        from gml.domain.errors import InvalidValueError

        raise InvalidValueError("predict takes no data", hint="def predict(self, model_input, params=None)")
    return names[0]
