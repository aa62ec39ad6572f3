"""The port between gml and a framework: how its models are saved, checked and loaded.

A flavor that gml does not ship is found by the entry point group `gml.flavors`: the entry's name is the
flavor's, its value an instance of a class with these methods. `gml.testing.flavors` is its test suite.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from gml.domain.errors import MissingPackageError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from gml.models.files import ModelFiles

Predict = Callable[[Any, "dict[str, Any] | None"], Any]


@dataclass(frozen=True)
class Saved:
    """What a flavor wrote.

    Attributes:
        conf: what stands under the flavor's name in MLmodel.
        pyfunc: what stands under `python_function`, `loader_module` included.
        packages: modules or distributions that loading the model needs, beyond what its files tell.
    """

    conf: dict[str, Any]
    pyfunc: dict[str, Any]
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expected:
    """A file that a flavor will read, and the formats that it may have.

    Attributes:
        name: path within the model.
        formats: names of `gml.models.formats`; a file of another one counts as code.
    """

    name: str
    formats: tuple[str, ...]


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded.

    Attributes:
        code: code of the model may run: the version is approved, or the caller said so.
        trusted_types: types of a skops file that the caller vouches for.
        options: arguments of the flavor's own load.
    """

    code: bool = False
    trusted_types: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


class Flavor(Protocol):
    """One framework.

    Attributes:
        name: name in MLmodel and of the module: `sklearn`.
        loaders: values of `loader_module` that mean this flavor, MLflow's own among them.
        formats: formats it writes, the default first.
        needs: distribution to install for it, with the extra of gml where there is one.
    """

    name: str
    loaders: tuple[str, ...]
    formats: tuple[str, ...]
    needs: str

    def can_save(self, model: Any) -> bool:
        """Whether a model is one of this framework, told without importing it."""
        ...

    def save(self, model: Any, folder: Path, fmt: str, options: Mapping[str, Any]) -> Saved:
        """Write the model's own files into a folder.

        Raises:
            InvalidValueError: the model cannot be written in this format.
        """
        ...

    def expected(self, conf: Mapping[str, Any], files: ModelFiles) -> Iterable[Expected]:
        """Return each file that `load` will read, from the flavor's part of MLmodel."""
        ...

    def judge(self, conf: Mapping[str, Any], files: ModelFiles, options: LoadOptions) -> Iterable[str]:
        """Return what else makes loading run code, a reason each; nothing for a model of data."""
        ...

    def load(self, files: ModelFiles, conf: Mapping[str, Any], options: LoadOptions) -> Any:
        """Return the native model. The load policy has agreed when this is called."""
        ...

    def as_loaded(self, model: Any, options: Mapping[str, Any]) -> Any:
        """Return a model that is being saved as `load` will return it, so that it can predict its example."""
        ...

    def predictor(self, native: Any, conf: Mapping[str, Any], pyfunc: Mapping[str, Any]) -> Predict:
        """Return how the native model scores data that fits the signature."""
        ...


_SHIPPED: Final = {
    "sklearn": "gml.models.flavors.sklearn",
    "xgboost": "gml.models.flavors.xgboost",
    "lightgbm": "gml.models.flavors.lightgbm",
    "pytorch": "gml.models.flavors.pytorch",
    "onnx": "gml.models.flavors.onnx",
    "keras": "gml.models.flavors.keras",
    "transformers": "gml.models.flavors.transformers",
    "python_function": "gml.models.flavors.pyfunc",
}
GROUP: Final = "gml.flavors"


def flavor_names() -> list[str]:
    """Return the names of all flavors that are installed."""
    from importlib.metadata import entry_points

    return sorted({*_SHIPPED, *(entry.name for entry in entry_points(group=GROUP))})


def get_flavor(name: str) -> Flavor:
    """Return a flavor.

    Raises:
        UsageError: there is none of this name; names those there are.
    """
    if name in _SHIPPED:
        shipped: Flavor = importlib.import_module(_SHIPPED[name]).FLAVOR
        return shipped
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=name):
        found = entry.load()
        flavor: Flavor = found() if isinstance(found, type) else found
        return flavor
    raise UsageError(
        f"there is no flavor {name!r}",
        hint=f"known are {', '.join(flavor_names())}; others come by the entry point group {GROUP}",
    )


def flavor_of(flavors: Mapping[str, Mapping[str, Any]]) -> tuple[Flavor, Mapping[str, Any]] | None:
    """Return the flavor that loads a model, and its part of MLmodel; None where nobody here knows it.

    The native part counts, so that `python_function` cannot name another loader than the file says.
    """
    known = [name for name in flavors if name != "python_function" and name in flavor_names()]
    loader = str(flavors.get("python_function", {}).get("loader_module") or "")
    for name in known:
        flavor = get_flavor(name)
        if not loader or loader in flavor.loaders:
            return flavor, flavors[name]
    pyfunc = get_flavor("python_function")
    if loader in pyfunc.loaders:
        return pyfunc, flavors["python_function"]
    return None


def need(module: str, what: str) -> Any:
    """Import an optional package.

    Args:
        module: its import name.
        what: what to install.

    Raises:
        MissingPackageError: it is not installed; names it with the install line.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        if missing != module.partition(".")[0]:
            what = missing
        raise MissingPackageError(
            f"the package {missing} is needed for this model", hint=f"pip install '{what}'"
        ) from error
