"""Loading a model: verify, judge, load; and the object that predicts, whatever the framework."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from gml.domain.errors import MissingPackageError, UsageError
from gml.models import environment, example, policy
from gml.models.enforce import SchemaError, enforce_schema
from gml.models.flavor import Flavor, LoadOptions, flavor_of
from gml.models.params import enforce_params

if TYPE_CHECKING:
    from pathlib import Path

    from gml.models.files import ModelFiles
    from gml.models.flavor import Predict
    from gml.models.mlmodel import MLmodel

log = logging.getLogger("gml")


class PyFuncModel:
    """A loaded model: `predict` checks data against the signature and scores it.

    Attributes:
        metadata: the model's MLmodel file.
        digest: digest of the bytes that were loaded.
        format_class: `data`, or `code` if loading it ran code of the model.
    """

    def __init__(
        self, metadata: MLmodel, native: Any, predict: Predict, digest: str, format_class: str
    ) -> None:
        self.metadata = metadata
        self.digest = digest
        self.format_class = format_class
        self._native = native
        self._predict = predict
        self.example: tuple[Any, dict[str, Any] | None] | None = None

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Return predictions.

        Args:
            data: data frame, array, list, dict or scalar that fits the signature.
            params: params of inference that the signature has.

        Raises:
            SchemaError: the data does not fit; says which column or dimension.
            InvalidValueError: a param is not of its type.
        """
        signature = self.metadata.signature
        if signature is not None and signature.from_type_hint:
            check = getattr(self._native, "check_hinted", None)
            data = check(data) if check is not None else data
        elif signature is not None and signature.inputs is not None:
            data = _enforced(data, signature.inputs)
        return self.score(data, params)

    def score(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Return predictions for data that is known to fit the signature."""
        signature = self.metadata.signature
        return self._predict(data, enforce_params(params, signature.params if signature else None))

    @property
    def input_example(self) -> Any:
        """The example that was saved with the model, None without one."""
        return None if self.example is None else self.example[0]

    def get_raw_model(self) -> Any:
        """Return the framework's own object."""
        return getattr(self._native, "model", self._native)

    def unwrap_python_model(self) -> Any:
        """Return the `PythonModel` that was saved.

        Raises:
            UsageError: the model is none.
        """
        found = getattr(self._native, "model", None)
        if found is None or not hasattr(found, "load_context"):
            raise UsageError("the model is not a PythonModel", hint="get_raw_model() returns what it is")
        return found

    def __repr__(self) -> str:
        names = ", ".join(name for name in self.metadata.flavors if name != "python_function")
        return f"<gml model {names or 'python_function'} {self.digest[:12]}>"


def _enforced(data: Any, schema: Any) -> Any:
    try:
        return enforce_schema(data, schema)
    except SchemaError:
        raise
    except Exception as error:
        # Data may be of any kind, and what pandas says about it is the reason.
        raise SchemaError(f"the data does not fit the signature: {error}") from error


def load_model(files: ModelFiles, options: LoadOptions | None = None) -> PyFuncModel:
    """Load a model: digests, then the load policy, then the framework.

    Raises:
        TrustError: loading it would run code that nobody approved.
        CorruptError: a file does not match its digest.
        MissingPackageError: a package is missing; names the install line.
    """
    options = options or LoadOptions()
    mlmodel = files.mlmodel()
    flavor, conf, native, verdict = _load(files, mlmodel, options, None)
    predict = flavor.predictor(native, conf, mlmodel.pyfunc)
    model = PyFuncModel(mlmodel, native, predict, files.digest(), verdict.format_class)
    if mlmodel.example:
        try:
            model.example = example.read_example(files, mlmodel)
        except Exception as error:  # noqa: BLE001 - a model without a readable example still predicts
            log.warning("gml: the input example of %s cannot be read (%s)", files.origin, error)
    files.release()
    return model


def load_native(files: ModelFiles, name: str, options: LoadOptions | None = None) -> Any:
    """Load a model as its framework's own object.

    Args:
        files: the model.
        name: the flavor.
        options: trust and arguments.

    Raises:
        UsageError: the model has no such flavor.
        TrustError: loading it would run code that nobody approved.
    """
    options = options or LoadOptions()
    mlmodel = files.mlmodel()
    _, _, native, _ = _load(files, mlmodel, options, name)
    files.digest()
    files.release()
    return native


def _load(
    files: ModelFiles, mlmodel: MLmodel, options: LoadOptions, name: str | None
) -> tuple[Flavor, Any, Any, policy.Verdict]:
    files.verify()
    chosen = flavor_of(mlmodel.flavors)
    if name is not None and (chosen is None or chosen[0].name != name):
        known = ", ".join(mlmodel.flavors)
        raise UsageError(f"the model {files.origin} has no flavor {name!r}", hint=f"it has {known}")
    verdict = policy.judge(files, mlmodel, options)
    policy.check(verdict, options, files.origin)
    for line in environment.differences(files, mlmodel):
        log.warning("gml: %s", line)
    if chosen is None:
        return _load_foreign(files, mlmodel, options, verdict)
    flavor, conf = chosen
    holder = _add_code(files, mlmodel)
    native = flavor.load(files, conf, options)
    if holder is not None:
        log.debug("gml: code of the model is in %s", holder)
    return flavor, conf, native, verdict


def _add_code(files: ModelFiles, mlmodel: MLmodel) -> Path | None:
    """Make the code that was saved with a model importable; the load policy has agreed."""
    named = {str(conf["code"]) for conf in mlmodel.flavors.values() if conf.get("code")}
    found = None
    for folder in sorted(named):
        if files.below(folder):
            found = files.copy(folder, owner=sys) / folder
            sys.path.insert(0, str(found))
    return found


class _Foreign:
    """A model whose loader is a module of somebody else's: `_load_pyfunc(path)`, as MLflow calls it."""

    name = "python_function"

    def predictor(self, native: Any, conf: Any, pyfunc: Any) -> Predict:  # noqa: ARG002
        import inspect

        method = native.predict
        takes = "params" in inspect.signature(method).parameters
        return lambda data, params: method(data, params=params) if takes else method(data)


def _load_foreign(
    files: ModelFiles, mlmodel: MLmodel, options: LoadOptions, verdict: policy.Verdict
) -> tuple[Any, Any, Any, policy.Verdict]:
    import importlib

    conf = mlmodel.pyfunc
    loader = str(conf.get("loader_module") or "")
    _add_code(files, mlmodel)
    try:
        module = importlib.import_module(loader) if loader else None
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"the model is loaded by the module {loader}, which is not installed",
            hint=f"pip install {loader.partition('.')[0]}",
        ) from error
    if module is None or not hasattr(module, "_load_pyfunc"):
        raise UsageError(f"nothing here can load the model {files.origin}", hint=f"its loader is {loader!r}")
    top = files.copy(owner=module)
    path = top / str(conf["data"]) if conf.get("data") else top
    settings = {**(conf.get("config") or {}), **(options.options.get("model_config") or {})}
    arguments = (str(path), settings) if settings else (str(path),)
    return _Foreign(), conf, module._load_pyfunc(*arguments), verdict  # noqa: SLF001 - its documented name
