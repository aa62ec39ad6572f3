"""`log_model`: a model folder becomes artifacts of the run, and one entry among its outputs."""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gml.domain.errors import CorruptError, InvalidValueError, NotFoundError, RepositoryError, StorageError
from gml.domain.names import check_artifact_path
from gml.models import policy
from gml.models.files import ModelFiles
from gml.models.flavor import LoadOptions, get_flavor
from gml.models.loaded import PyFuncModel, load_model, load_native
from gml.models.save import SaveOptions, find_flavor, save_model
from gml.policy.names import check_model
from gml.tracking.models.register import WISH, register_wished

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.models.flavor import Flavor
    from gml.models.mlmodel import MLmodel
    from gml.models.schema import ModelSignature
    from gml.tracking.models.resolve import Resolved
    from gml.tracking.recorder import Recorder

log = logging.getLogger("gml")

OUTPUT_TYPE = "model"


@dataclass(frozen=True)
class ModelInfo:
    """A logged model.

    Attributes:
        name: its name within the run; also its path among the artifacts.
        model_uri: `runs:/RUN/NAME`.
        model_id: id of the logged model, `m-` and 32 digits.
        run_id: the run.
        digest: digest of all of its files.
        format_class: `data`, or `code` if loading it runs code.
        flavors: what stands in MLmodel.
        signature: inputs, outputs and params.
        metadata: what its author noted.
    """

    name: str
    model_uri: str
    model_id: str
    run_id: str
    digest: str
    format_class: str
    flavors: dict[str, Any] = field(repr=False)
    signature: ModelSignature | None = field(repr=False)
    model_uuid: str | None = field(repr=False, default=None)
    utc_time_created: str = field(repr=False, default="")
    saved_input_example_info: dict[str, Any] | None = field(repr=False, default=None)
    metadata: dict[str, Any] | None = field(repr=False, default=None)

    @property
    def artifact_path(self) -> str:
        """The path among the run's artifacts."""
        return self.name


# Which loaded object came from which model, so that one that is trained further remembers.
_parents: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()


def log_model(
    model: Any,
    flavor: Flavor | None,
    name: str,
    options: SaveOptions,
    *,
    registered_model_name: str | None = None,
    step: int | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    parent: str | None = None,
    run_id: str | None = None,
) -> ModelInfo:
    """Log a model to the active run, which is started if there is none.

    Args:
        model: the native model.
        flavor: how to save it; by default the one that knows it.
        name: path within the run.
        options: how it is saved.
        registered_model_name: register it under this name when the run has ended.
        step: position on the x axis of training, such as an epoch.
        params: noted with the model, such as hyperparameters.
        tags: noted with the model.
        parent: URI of the model that it was trained from.
        run_id: another run than the active one.

    Raises:
        InvalidValueError: the name is no path, or the model cannot be saved.
    """
    from gml.tracking.log import _Target

    chosen = flavor or find_flavor(model)
    check_artifact_path(name)
    if registered_model_name is not None:
        check_model(registered_model_name)
    if name.strip("/") != name or not name:
        raise InvalidValueError(f"{name!r} is no name of a model", hint="such as 'model'")
    origin = _origin(model, parent)
    with _Target(run_id) as recorder, tempfile.TemporaryDirectory(prefix="gml-model-") as scratch:
        import dataclasses

        folder = Path(scratch) / "model"
        model_id = f"m-{_new_id()}"
        noted = dataclasses.replace(options, run_id=recorder.run_id, artifact_path=name, model_id=model_id)
        mlmodel = save_model(model, folder, chosen, noted)
        files = ModelFiles.of_folder(folder)
        info = _describe(files, mlmodel, name, recorder.run_id, model_id)
        more = {"step": step, "params": params, "tags": tags, WISH: registered_model_name}
        _keep(recorder, folder, info, files, origin, more)
        files.release()
        if registered_model_name is not None and recorder.owner:
            recorder.after_end(lambda: register_wished(recorder.open_workspace(), recorder.run_id))
    return info


def _new_id() -> str:
    import uuid

    return uuid.uuid4().hex


def _describe(files: ModelFiles, mlmodel: MLmodel, name: str, run_id: str, model_id: str) -> ModelInfo:
    verdict = policy.judge(files, mlmodel)
    return ModelInfo(
        name=name,
        model_uri=f"runs:/{run_id}/{name}",
        model_id=model_id,
        run_id=run_id,
        digest=files.digest(),
        format_class=verdict.format_class,
        flavors=mlmodel.flavors,
        signature=mlmodel.signature,
        model_uuid=mlmodel.model_uuid,
        utc_time_created=mlmodel.utc_time_created,
        saved_input_example_info=mlmodel.example,
        metadata=mlmodel.metadata,
    )


def _keep(
    recorder: Recorder,
    folder: Path,
    info: ModelInfo,
    files: ModelFiles,
    origin: dict[str, Any] | None,
    more: Mapping[str, Any],
) -> None:
    """Make the folder artifacts of the run; storage trouble is a warning, as for every logging call."""
    from gml.tracking import artifacts

    earlier = _logged.setdefault(recorder, {}).get(info.name, set())
    entry: dict[str, Any] = {
        "type": OUTPUT_TYPE,
        "name": info.name,
        "path": info.name,
        "model_id": info.model_id,
        "digest": info.digest,
        "format_class": info.format_class,
        "flavors": sorted(info.flavors),
        "size": files.size,
    }
    if origin:
        entry["parent"] = origin
    for key, value in more.items():
        if value is not None:
            entry[key] = {str(k): str(v) for k, v in value.items()} if hasattr(value, "items") else value
    try:
        for name in sorted(earlier - set(files.names)):
            recorder.append(["A", f"{info.name}/{name}"])
        for name in files.names:
            artifacts.log_file(recorder, folder / name, f"{info.name}/{name}")
        recorder.append(["o", entry])
    except (StorageError, CorruptError, RepositoryError, NotFoundError, OSError) as error:
        _rescue(recorder, folder, info, error)
        return
    _logged[recorder][info.name] = set(files.names)


# Files of models that this process logged, so that a model that is logged again leaves none of the former.
_logged: weakref.WeakKeyDictionary[Recorder, dict[str, set[str]]] = weakref.WeakKeyDictionary()


def _rescue(recorder: Recorder, folder: Path, info: ModelInfo, error: Exception) -> None:
    """Keep the folder of a model that could not be stored, and say where."""
    try:
        kept = Path(tempfile.mkdtemp(prefix=f"gml-{recorder.run_id[-8:]}-")) / "model"
        shutil.copytree(folder, kept)
    except OSError:
        log.warning("gml: log_model: the model %s could not be kept (%s)", info.name, error)
        return
    log.warning("gml: log_model: %s; the model %s is in %s", error, info.name, kept)


def _origin(model: Any, parent: str | None) -> dict[str, Any] | None:
    if parent is not None:
        from gml.tracking.models.resolve import resolve

        found = resolve(parent)
        return {"uri": parent, "digest": found.files.digest()}
    try:
        return _parents.get(model)
    except TypeError:
        return None


# --- loading ----------------------------------------------------------------------------------


def open_model(
    uri: str | Path,
    *,
    trust: str = "data",
    trusted_types: tuple[str, ...] = (),
    model_config: Mapping[str, Any] | None = None,
) -> tuple[Resolved, LoadOptions]:
    """Find a model, and say how far it may be trusted.

    Raises:
        InvalidValueError: `trust` is neither `data` nor `code`.
    """
    from gml.tracking.models.resolve import resolve

    if trust not in {"data", "code"}:
        raise InvalidValueError(f"trust is 'data' or 'code', not {trust!r}")
    found = resolve(uri)
    options = {"model_config": dict(model_config)} if model_config else {}
    return found, LoadOptions(found.approved or trust == "code", trusted_types, options)


def load_pyfunc(
    model_uri: str | Path,
    *,
    trust: str = "data",
    trusted_types: tuple[str, ...] = (),
    model_config: Mapping[str, Any] | None = None,
) -> PyFuncModel:
    """Load a model to predict with, whatever its framework.

    Args:
        model_uri: `models:/churn/Production`, `runs:/RUN/model`, or a folder.
        trust: `code` lets a model run code of its own while it is loaded; an approved version may anyway.
        trusted_types: types of a skops file that you vouch for.
        model_config: settings for a `PythonModel`.

    Raises:
        NotFoundError: no such model.
        CorruptError: its bytes are not those that were recorded.
        TrustError: loading it would run code that nobody approved; says which file and why.
        MissingPackageError: a package is missing; names the install line.

    Example:
        >>> model = gml.load_model("models:/churn/Production")  # doctest: +SKIP
        >>> model.predict(pd.DataFrame({"age": [31.0]}))  # doctest: +SKIP
    """
    found, options = open_model(
        model_uri, trust=trust, trusted_types=trusted_types, model_config=model_config
    )
    return load_model(found.files, options)


def load_flavor(
    name: str, model_uri: str | Path, *, trust: str = "data", trusted_types: tuple[str, ...] = ()
) -> Any:
    """Load a model as its framework's own object. See `load_pyfunc`."""
    found, options = open_model(model_uri, trust=trust, trusted_types=trusted_types)
    native = load_native(found.files, name, options)
    try:
        _parents[native] = {"uri": str(model_uri), "digest": found.files.digest()}
    except TypeError:
        log.debug("gml: %s cannot be remembered", type(native).__name__)
    return native


def flavor_named(name: str) -> Flavor:
    """Return a flavor. See `gml.models.flavor.get_flavor`."""
    return get_flavor(name)
