"""Pickles: what the flavors share that can write them when asked to."""

from __future__ import annotations

import io
import pickle
from typing import Any

from gml.domain.errors import CorruptError, InvalidValueError
from gml.models.flavor import need


def dump(model: Any, fmt: str) -> bytes:
    """Return a model as `pickle` or `cloudpickle`.

    Raises:
        InvalidValueError: it cannot be pickled.
    """
    try:
        if fmt == "cloudpickle":
            data: bytes = need("cloudpickle", "cloudpickle").dumps(model, protocol=pickle.DEFAULT_PROTOCOL)
            return data
        return pickle.dumps(model, protocol=pickle.DEFAULT_PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise InvalidValueError(f"{type(model).__name__} cannot be pickled: {error}") from error


class _Unpickler(pickle.Unpickler):
    """Finds the base class of MLflow's models where MLflow is not installed."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except ModuleNotFoundError:
            from gml.models import python_model

            if module.startswith("mlflow.pyfunc") and name in python_model.STAND_INS:
                return python_model.STAND_INS[name]
            if module.startswith(("mlflow.models.", "mlflow.types.")):
                return python_model.Forgotten
            raise


def load(data: bytes, origin: str) -> Any:
    """Return what a pickle holds; whoever calls has made sure that its code may run.

    Raises:
        MissingPackageError: a module it needs is not installed.
        CorruptError: it cannot be read.
    """
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except ModuleNotFoundError as error:
        from gml.domain.errors import MissingPackageError

        raise MissingPackageError(
            f"{origin} needs the module {error.name}",
            hint=f"pip install {str(error.name).partition('.')[0]}, or put the code into code_paths",
        ) from error
    except Exception as error:
        raise CorruptError(
            f"{origin} cannot be unpickled: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
            hint="`gml models inspect` shows the versions that it was saved with",
        ) from error
