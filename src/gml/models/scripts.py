"""Models that are a script: the script says which object is the model."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from gml.domain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_collect: ContextVar[Callable[[Any], object] | None] = ContextVar("gml_set_model", default=None)


def set_model(model: Any) -> None:
    """In the script of a model: say which object, or function, is the model.

    Raises:
        UsageError: it can neither predict nor be called.
    """
    if not callable(model) and not hasattr(model, "predict"):
        raise UsageError(f"{type(model).__name__} cannot be a model: it has no predict()")
    collect = _collect.get()
    if collect is not None:
        collect(model)


@contextmanager
def collecting(collect: Callable[[Any], object]) -> Iterator[None]:
    """Within the block, hand models that scripts set to `collect`."""
    token = _collect.set(collect)
    try:
        yield
    finally:
        _collect.reset(token)
