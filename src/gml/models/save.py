"""Writing a model folder: the flavor's files, signature, example, environment and code; all or nothing."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gml.domain.errors import ConflictError, InvalidValueError, NotFoundError, UsageError
from gml.fs import storage_error
from gml.models import environment, example, requirements
from gml.models.files import ModelFiles
from gml.models.flavor import Flavor, Saved, flavor_names, get_flavor
from gml.models.inference import infer_signature
from gml.models.mlmodel import NAME, PYFUNC, MLmodel
from gml.models.schema import ModelSignature

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CODE = "code"


@dataclass(frozen=True)
class SaveOptions:
    """How a model is saved.

    Attributes:
        fmt: format, the flavor's first by default; one that carries code only when it is named here.
        signature: inputs, outputs and params; None infers them from the example, False leaves them out.
        input_example: a few rows, or `(rows, params)`.
        code_paths: files and folders of code that the model imports.
        pip_requirements: instead of the inferred ones.
        extra_pip_requirements: beside the inferred ones.
        conda_env: instead of the written `conda.yaml`.
        metadata: noted in MLmodel.
        options: arguments of the flavor.
        run_id, artifact_path, model_id: noted in MLmodel.
    """

    fmt: str | None = None
    signature: ModelSignature | bool | None = None
    input_example: Any = None
    code_paths: Sequence[str | Path] = ()
    pip_requirements: Sequence[str] | str | None = None
    extra_pip_requirements: Sequence[str] | str | None = None
    conda_env: Mapping[str, Any] | str | None = None
    metadata: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    run_id: str | None = None
    artifact_path: str | None = None
    model_id: str | None = None


def find_flavor(model: Any) -> Flavor:
    """Return the flavor that can save a model; Python itself where no framework knows it.

    Raises:
        UsageError: nothing can save it.
    """
    for name in (*(one for one in flavor_names() if one not in {PYFUNC, "sklearn"}), "sklearn", PYFUNC):
        flavor = get_flavor(name)
        if flavor.can_save(model):
            return flavor
    raise UsageError(
        f"{type(model).__name__} is no model", hint="give an estimator, a function, or a PythonModel"
    )


def save_model(model: Any, path: str | Path, flavor: Flavor, options: SaveOptions | None = None) -> MLmodel:
    """Write a model to a new folder.

    Args:
        model: the native model.
        path: a folder that does not exist, or is empty.
        flavor: how to write it.
        options: the rest.

    Raises:
        ConflictError: the folder is not empty.
        InvalidValueError: the model cannot be written in the format, or its example does not fit.
        StorageError: the files cannot be written.
    """
    options = options or SaveOptions()
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConflictError(f"{target} is there already", hint="give a new folder, or remove it first")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        top = Path(tempfile.mkdtemp(prefix=".gml-model-", dir=target.parent))
        try:
            mlmodel = _write(model, top, flavor, options)
            top.chmod(0o755)
            if target.exists():
                target.rmdir()
            top.rename(target)
        finally:
            shutil.rmtree(top, ignore_errors=True)
    except OSError as error:
        raise storage_error(error, f"cannot write the model to {target}") from error
    return mlmodel


def _write(model: Any, top: Path, flavor: Flavor, options: SaveOptions) -> MLmodel:
    fmt = options.fmt or flavor.formats[0]
    if fmt not in flavor.formats:
        known = ", ".join(flavor.formats)
        raise InvalidValueError(f"{flavor.name} has no format {fmt!r}", hint=f"it has {known}")
    saved = flavor.save(model, top, fmt, options.options)
    code = _copy_code(top, options.code_paths)
    pyfunc = {**saved.pyfunc, **environment.env_conf(), **({"code": code} if code else {})}
    flavors = {PYFUNC: pyfunc}
    if saved.conf:
        flavors[flavor.name] = {**saved.conf, **({"code": code} if code else {})}
    mlmodel = MLmodel(
        flavors=flavors,
        metadata=dict(options.metadata) if options.metadata else None,
        run_id=options.run_id,
        artifact_path=options.artifact_path,
        model_id=options.model_id,
    )
    if options.input_example is not None:
        mlmodel.example = example.write_example(options.input_example, top)
    mlmodel.signature = _signature(model, flavor, saved, options)
    lines = _requirements(model, top, saved, options)
    environment.write_environment(top, lines, conda=_conda(options.conda_env))
    mlmodel.model_size_bytes = ModelFiles.of_folder(top).size
    (top / NAME).write_text(mlmodel.to_yaml(), encoding="utf-8")
    return mlmodel


def _signature(model: Any, flavor: Flavor, saved: Saved, options: SaveOptions) -> ModelSignature | None:
    if isinstance(options.signature, ModelSignature):
        return options.signature
    if options.signature is False:
        return None
    if options.signature is not None:
        raise InvalidValueError(f"a signature is a ModelSignature, not {type(options.signature).__name__}")
    if flavor.name == PYFUNC and not isinstance(model, (str, Path)):
        from gml.models.hints import signature_of

        hinted = signature_of(model.predict if hasattr(model, "predict") else model)
        if hinted is not None:
            return hinted
    if options.input_example is None or isinstance(model, (str, Path)):
        return None
    data, params = example.split_params(options.input_example)
    try:
        native = flavor.as_loaded(model, options.options)
        output = flavor.predictor(native, saved.conf, saved.pyfunc)(data, params)
    except Exception as error:
        raise InvalidValueError(
            f"the model cannot predict its input example: {type(error).__name__}: {error}",
            hint="give an example that it can, or signature=False",
        ) from error
    return infer_signature(data, _by_row(data, output), params)


def _by_row(data: Any, output: Any) -> Any:
    """Return one prediction a row of a table as a column, as MLflow has it in the signature."""
    import numpy as np
    import pandas as pd

    if isinstance(data, pd.DataFrame) and isinstance(output, np.ndarray) and output.ndim == 1:
        return pd.Series(output)
    return output


def _copy_code(top: Path, paths: Sequence[str | Path]) -> str | None:
    for one in paths:
        source = Path(one)
        target = top / CODE / source.name
        if target.exists():
            raise InvalidValueError(f"two of code_paths are called {source.name!r}")
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(source, target, ignore=ignored)
        elif source.is_file():
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
        else:
            raise NotFoundError(f"there is no {source}, which code_paths names")
    return CODE if paths else None


def _lines(value: Sequence[str] | str | None) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        path = Path(value)
        if not path.is_file():
            raise NotFoundError(
                f"there is no requirements file {path}", hint="a list of requirements will do"
            )
        value = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in value if line.strip() and not line.lstrip().startswith("#")]


def _requirements(model: Any, top: Path, saved: Saved, options: SaveOptions) -> list[str]:
    if options.pip_requirements is not None:
        return [*_lines(options.pip_requirements), *_lines(options.extra_pip_requirements)]
    modules: set[str] = set()
    for path in sorted(top.iterdir()):
        if path.suffix in {".pkl", ".skops"}:
            modules |= requirements.modules_of_bytes(path.read_bytes())
    if (top / CODE).is_dir():
        modules |= requirements.modules_of_source(top / CODE)
    if isinstance(model, (str, Path)):
        modules |= requirements.modules_of_source(top)
    elif PYFUNC in {saved.pyfunc.get("loader_module"), PYFUNC} and not saved.conf:
        modules |= requirements.modules_of_object(model)
    return [*requirements.requirements(modules, saved.packages), *_lines(options.extra_pip_requirements)]


def _conda(value: Mapping[str, Any] | str | None) -> dict[str, Any] | None:
    if value is None:
        return None
    if isinstance(value, str):
        import yaml

        path = Path(value)
        if not path.is_file():
            raise NotFoundError(f"there is no conda environment {path}")
        loaded = yaml.safe_load(path.read_bytes())
        if not isinstance(loaded, dict):
            raise InvalidValueError(f"{path} is no conda environment")
        return loaded
    return dict(value)
