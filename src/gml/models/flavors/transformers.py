"""Transformers: a pipeline's model as safetensors with its tokenizer; code from a hub is never run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import CorruptError, InvalidValueError
from gml.models.flavor import Expected, LoadOptions, Predict, Saved, need
from gml.models.formats import sniff

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gml.models.files import ModelFiles

_MODEL: Final = "model"
_COMPONENTS: Final = ("tokenizer", "image_processor", "feature_extractor")
# Keys by which a configuration names code: classes of a repository, pipelines, other models.
_CODE_KEYS: Final = ("auto_map", "custom_pipelines")
_TEXTS: Final = (".txt", ".jinja", ".md")


class TransformersFlavor:
    """Pipelines of Transformers."""

    name = "transformers"
    loaders = ("mlflow.transformers",)
    formats = ("safetensors",)
    needs = "gitml[transformers]"

    def can_save(self, model: Any) -> bool:
        """Whether it is a pipeline."""
        return any(
            base.__name__ == "Pipeline" and base.__module__.startswith("transformers.pipelines")
            for base in type(model).__mro__
        )

    def save(self, model: Any, folder: Path, fmt: str, options: Mapping[str, Any]) -> Saved:  # noqa: ARG002
        """Write `model/` and `components/`."""
        transformers = need("transformers", self.needs)
        pipeline = _pipeline(transformers, model, options)
        conf: dict[str, Any] = {
            "transformers_version": transformers.__version__,
            "task": pipeline.task,
            "instance_type": type(pipeline).__name__,
            "pipeline_model_type": type(pipeline.model).__name__,
            "source_model_name": str(pipeline.model.name_or_path),
            "model_binary": _MODEL,
            "code": None,
        }
        if type(pipeline.model).__name__ not in dir(transformers):
            raise InvalidValueError(
                f"{type(pipeline.model).__name__} is not a model of Transformers itself",
                hint="gml.pyfunc with code_paths saves it as code",
            )
        found = {name: one for name in _COMPONENTS if (one := getattr(pipeline, name, None)) is not None}
        try:
            pipeline.model.save_pretrained(folder / _MODEL)
            for name, one in found.items():
                one.save_pretrained(folder / "components" / name)
                conf[f"{name}_type"] = type(one).__name__
        except Exception as error:
            raise InvalidValueError(f"the pipeline cannot be saved: {error}") from error
        conf["components"] = list(found)
        return Saved(
            conf,
            {"loader_module": "mlflow.transformers"},
            ("transformers", "torch", "safetensors", "tokenizers"),
        )

    def expected(self, conf: Mapping[str, Any], files: ModelFiles) -> Iterable[Expected]:
        """Return configuration and weights; the other files are judged one by one."""
        for name in _names(conf, files):
            if name.endswith(".safetensors"):
                yield Expected(name, ("safetensors",))
            elif name.endswith(".json"):
                yield Expected(name, ("json",))

    def judge(self, conf: Mapping[str, Any], files: ModelFiles, options: LoadOptions) -> Iterable[str]:  # noqa: ARG002
        """Return each file that may hold code, and each configuration that names some."""
        for name in _names(conf, files):
            data = files.read(name)
            if name.endswith(".json"):
                content = json.loads(data)
                for key in _CODE_KEYS:
                    if isinstance(content, dict) and content.get(key):
                        yield f"{name} names code in {key!r}"
            elif not name.endswith(".safetensors") and not (name.endswith(_TEXTS) and _is_text(data)):
                yield f"{name}: {sniff(data)}"

    def load(self, files: ModelFiles, conf: Mapping[str, Any], options: LoadOptions) -> Any:
        """Return the pipeline."""
        transformers = need("transformers", self.needs)
        top = files.copy(owner=transformers)
        folder = str(conf.get("model_binary") or _MODEL)
        if not files.below(folder):
            raise CorruptError(f"{files.origin} holds no weights", hint="save it with save_pretrained=True")
        parts = {
            name: str(top / "components" / name) for name in _COMPONENTS if files.below(f"components/{name}")
        }
        settings = options.options.get("model_config") or {}
        try:
            return transformers.pipeline(
                task=conf.get("task"),
                model=str(top / folder),
                trust_remote_code=False,
                **parts,
                **({"device": settings["device"]} if "device" in settings else {}),
            )
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            raise CorruptError(f"{files.origin} cannot be loaded: {type(error).__name__}: {said}") from error

    def as_loaded(self, model: Any, options: Mapping[str, Any]) -> Any:
        """Return the pipeline."""
        return _pipeline(need("transformers", self.needs), model, options)

    def predictor(self, native: Any, conf: Mapping[str, Any], pyfunc: Mapping[str, Any]) -> Predict:  # noqa: ARG002
        """Return what the pipeline says to texts; one dict a text becomes a table."""

        def predict(data: Any, params: dict[str, Any] | None) -> Any:
            import pandas as pd

            found = native(_texts(data), **(params or {}))
            if isinstance(found, list):
                # Pipelines wrap what they say in a list for each text.
                found = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in found]
                if found and all(isinstance(one, dict) for one in found):
                    if all("generated_text" in one for one in found):
                        return [one["generated_text"] for one in found]
                    return pd.DataFrame(found)
            return found

        return predict


def _pipeline(transformers: Any, model: Any, options: Mapping[str, Any]) -> Any:
    if not isinstance(model, dict):
        return model
    task = options.get("task")
    if not task:
        raise InvalidValueError("there is no task", hint="task='text-classification'")
    return transformers.pipeline(task=task, **model)


def _texts(data: Any) -> Any:
    import numpy as np
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        columns = list(data.columns)
        if len(columns) == 1:
            return data[columns[0]].tolist()
        return data.to_dict("records")
    if isinstance(data, (np.ndarray, pd.Series)):
        return data.tolist()
    return data


def _names(conf: Mapping[str, Any], files: ModelFiles) -> list[str]:
    return [*files.below(str(conf.get("model_binary") or _MODEL)), *files.below("components")]


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


FLAVOR = TransformersFlavor()
