"""Models written in Python: pickled with the code that they need, so they count as code."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gml.domain.errors import CorruptError, InvalidValueError, NotFoundError, UsageError
from gml.models import hints, python_model
from gml.models.flavor import Expected, LoadOptions, Predict, Saved, need
from gml.models.flavors import pickles
from gml.models.python_model import FunctionModel, PythonModelContext, call_predict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gml.models.files import ModelFiles

_MODEL = "python_model.pkl"


class PyfuncFlavor:
    """Instances with a `predict`, and plain functions."""

    name = "python_function"
    loaders = ("mlflow.pyfunc.model", "mlflow.pyfunc.loaders.code_model")
    formats = ("cloudpickle",)
    needs = "cloudpickle"

    def can_save(self, model: Any) -> bool:
        """Whether it is a function, or has a `predict`."""
        return callable(model) or hasattr(model, "predict")

    def save(self, model: Any, folder: Path, fmt: str, options: Mapping[str, Any]) -> Saved:
        """Write `python_model.pkl` and the files that the model asked for."""
        if isinstance(model, (str, Path)):
            return _save_script(Path(model), folder, options)
        if isinstance(model, type):
            raise UsageError(f"{model.__name__} is a class", hint=f"give an instance: {model.__name__}()")
        instance = _instance(model)
        python_model.input_argument(getattr(instance, "func", instance.predict))
        artifacts = _copy_artifacts(folder, options.get("artifacts") or {})
        (folder / _MODEL).write_bytes(_dump_by_value(instance, fmt))
        conf = {
            "python_model": _MODEL,
            "cloudpickle_version": need("cloudpickle", self.needs).__version__,
            "streamable": hasattr(instance, "predict_stream"),
            "code": None,
            **({"artifacts": artifacts} if artifacts else {}),
            **({"config": dict(options["model_config"])} if options.get("model_config") else {}),
        }
        return Saved({}, {"loader_module": "mlflow.pyfunc.model", **conf}, ("cloudpickle",))

    def expected(self, conf: Mapping[str, Any], files: ModelFiles) -> Iterable[Expected]:  # noqa: ARG002
        """Return the pickle or script; both are code."""
        return [Expected(_main_file(conf), ())]

    def judge(self, conf: Mapping[str, Any], files: ModelFiles, options: LoadOptions) -> Iterable[str]:  # noqa: ARG002
        """Say that such a model always is code."""
        return ["a model written in Python"]

    def load(self, files: ModelFiles, conf: Mapping[str, Any], options: LoadOptions) -> Any:
        """Return the model's object after its `load_context`."""
        name = _main_file(conf)
        data = files.read(name)
        script = "model_code_path" in conf
        model = _run_script(data, name, files) if script else pickles.load(data, f"{name} of {files.origin}")
        if not hasattr(model, "predict"):
            if not callable(model):
                raise CorruptError(
                    f"{name} of {files.origin} holds {type(model).__name__}, which cannot predict"
                )
            model = FunctionModel(model)
        context = _context(files, conf, options, model)
        if hasattr(model, "load_context"):
            model.load_context(context)
        return _Bound(model, context)

    def as_loaded(self, model: Any, options: Mapping[str, Any]) -> Any:
        """Return a copy of the model after its `load_context`; the user's own object is not touched."""
        copied = pickles.load(_dump_by_value(_instance(model), self.formats[0]), "the model")
        artifacts = {name: str(path) for name, path in (options.get("artifacts") or {}).items()}
        context = PythonModelContext(artifacts, options.get("model_config"))
        copied.load_context(context)
        return _Bound(copied, context)

    def predictor(self, native: Any, conf: Mapping[str, Any], pyfunc: Mapping[str, Any]) -> Predict:  # noqa: ARG002
        """Return its `predict`, with context and params where it takes them."""
        return lambda data, params: call_predict(native.model.predict, native.context, data, params)


def _instance(model: Any) -> Any:
    """Return a model with the methods of `PythonModel`."""
    if hasattr(model, "predict") and hasattr(model, "load_context"):
        return model
    return FunctionModel(model.predict if hasattr(model, "predict") else model)


class _Bound:
    """A loaded model and its context."""

    def __init__(self, model: Any, context: PythonModelContext) -> None:
        self.model = model
        self.context = context

    def check_hinted(self, data: Any) -> Any:
        """Return data as the type hint of the model's `predict` says."""
        function = getattr(self.model, "func", None)
        return hints.check_hinted(function if callable(function) else self.model.predict, data)


def _main_file(conf: Mapping[str, Any]) -> str:
    script = conf.get("model_code_path")
    if script:
        return Path(str(script)).name
    name = conf.get("python_model")
    if not name:
        raise CorruptError("MLmodel names no python_model")
    return str(name)


def _dump_by_value(instance: Any, fmt: str) -> bytes:
    """Pickle a model with gml's base classes inside, so that MLflow loads it without gml."""
    cloudpickle = need("cloudpickle", "cloudpickle")
    cloudpickle.register_pickle_by_value(python_model)
    try:
        return pickles.dump(instance, fmt)
    finally:
        cloudpickle.unregister_pickle_by_value(python_model)


def _copy_artifacts(folder: Path, artifacts: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    found = {}
    for name, source in artifacts.items():
        path = Path(source)
        target = folder / "artifacts" / path.name
        if target.exists():
            raise InvalidValueError(f"two artifacts of the model are called {path.name!r}")
        if path.is_dir():
            shutil.copytree(path, target)
        elif path.is_file():
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
        else:
            raise NotFoundError(f"the model's artifact {name!r} is not at {path}")
        found[str(name)] = {"path": f"artifacts/{path.name}", "uri": str(source)}
    return found


def _context(
    files: ModelFiles, conf: Mapping[str, Any], options: LoadOptions, owner: object
) -> PythonModelContext:
    listed = conf.get("artifacts") or {}
    settings = {**(conf.get("config") or {}), **(options.options.get("model_config") or {})}
    if not listed:
        return PythonModelContext({}, settings)
    copied = files.copy("artifacts", owner=owner)
    paths = {}
    for name, facts in listed.items():
        relative = str(facts.get("path", ""))
        if not files.below(relative):
            raise NotFoundError(f"the model {files.origin} has no artifact {relative!r}")
        paths[str(name)] = str(copied / relative)
    return PythonModelContext(paths, settings)


def _save_script(script: Path, folder: Path, options: Mapping[str, Any]) -> Saved:
    if not script.is_file():
        raise NotFoundError(f"there is no script {script}")
    shutil.copyfile(script, folder / script.name)
    artifacts = _copy_artifacts(folder, options.get("artifacts") or {})
    pyfunc = {
        "loader_module": "mlflow.pyfunc.model",
        "model_code_path": script.name,
        "code": None,
        "streamable": False,
        **({"artifacts": artifacts} if artifacts else {}),
        **({"config": dict(options["model_config"])} if options.get("model_config") else {}),
    }
    return Saved({}, pyfunc)


def _run_script(data: bytes, name: str, files: ModelFiles) -> Any:
    """Run a script that calls `set_model`, and return what it set."""
    import types

    chosen: list[Any] = []
    module = types.ModuleType(f"gml_model_{files.digest()[:12]}")
    module.__file__ = name
    sys.modules[module.__name__] = module
    from gml.models import scripts

    with scripts.collecting(chosen.append):
        exec(compile(data, name, "exec"), module.__dict__)  # noqa: S102 - the load policy let it through
    foreign = getattr(sys.modules.get("mlflow.models.model"), "__mlflow_model__", None)
    if not chosen and foreign is not None:
        # The script told MLflow.
        chosen.append(foreign)
    if not chosen:
        raise CorruptError(f"{name} of {files.origin} sets no model", hint="gml.models.set_model(model)")
    return chosen[-1]


FLAVOR = PyfuncFlavor()
