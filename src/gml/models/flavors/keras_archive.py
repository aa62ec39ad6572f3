"""What a `.keras` archive would do when it is loaded, read off its configuration before Keras sees it."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any, Final

# Modules whose classes and functions only compute; each name is looked up in them by Keras.
_MODULES: Final = (
    "keras", "keras.layers", "keras.models", "keras.initializers", "keras.regularizers", "keras.constraints",
    "keras.activations", "keras.losses", "keras.metrics", "keras.optimizers", "keras.optimizers.schedules",
    "keras.ops", "keras.random", "keras.dtype_policies", "keras.quantizers",
    "keras.src.models.functional", "keras.src.models.sequential",
)  # fmt: skip
# Optimizers that a backend has in its own way.
_OPTIMIZERS: Final = tuple(f"keras.src.backend.{name}.optimizers." for name in ("torch", "tensorflow", "jax"))
# Those among them that run code, or read files that are named in the configuration.
_REFUSED: Final = frozenset(
    {
        "Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer", "load_model", "load_weights",
        "save_model", "deserialize", "deserialize_keras_object",
    }
)  # fmt: skip
# Keras's own names for what is no object of Keras.
_TYPES: Final = frozenset({"__tuple__", "__numpy__", "__tensor__", "__keras_tensor__", "__ellipsis__"})
_BUILTINS: Final = frozenset({"slice", "float", "int", "str", "bool", "dict", "list", "tuple"})
_MEMBERS: Final = frozenset({"config.json", "metadata.json", "model.weights.h5"})
# Tables that Keras reads from a path when they are a text.
_PATHS: Final = frozenset({"vocabulary", "vocabulary_file", "idf_weights"})
_MAX_DEPTH: Final = 200


def odd(data: bytes) -> list[str]:
    """Return what in an archive runs code or reads other files, a sentence each; empty for plain models."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            config = json.loads(archive.read("config.json"))
            weights = archive.read("model.weights.h5") if "model.weights.h5" in names else None
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, OSError, EOFError) as error:
        return [f"its archive cannot be read ({type(error).__name__})"]
    found = [f"the file {name} in its archive" for name in names if name not in _MEMBERS]
    try:
        found += _walk(config, 0)
    except RecursionError:
        found.append("a configuration that is too deep")
    if weights is not None:
        found += _links(weights)
    return list(dict.fromkeys(found))


def _walk(node: Any, depth: int) -> list[str]:
    if depth > _MAX_DEPTH:
        return ["a configuration that is too deep"]
    if isinstance(node, list):
        return [reason for one in node for reason in _walk(one, depth + 1)]
    if not isinstance(node, dict):
        return []
    found = []
    if "class_name" in node:
        found += _judge_class(node)
    for key, value in node.items():
        if key in _PATHS and isinstance(value, str):
            found.append(f"{key} in the file {value!r}")
        found += _walk(value, depth + 1)
    return found


def _judge_class(node: dict[str, Any]) -> list[str]:
    name, module, registered = node.get("class_name"), node.get("module"), node.get("registered_name")
    if name in _TYPES:
        return []
    if name == "__lambda__":
        return ["a function as bytes"]
    if name == "function":
        # Keras's way to name a function: {"class_name": "function", "config": name, "module": ...}
        name = node.get("config")
    if not isinstance(name, str) or not name.isidentifier():
        return [f"the class {name!r}"]
    if name in _REFUSED or registered in _REFUSED:
        return [f"the layer {name}"]
    if module == "builtins":
        return [] if name in _BUILTINS else [f"the function {name} of Python"]
    if module is None:
        # Short forms, such as of a metric, that Keras looks up among its own.
        return []
    if str(module).startswith(_OPTIMIZERS) and name[:1].isupper():
        return []
    if module not in _MODULES:
        return [f"{module}.{name}, which is not Keras's"]
    if registered is not None and ">" in str(registered):
        return [f"the registered class {registered}"]
    return []


def _links(weights: bytes) -> list[str]:
    """Return links of an HDF5 file to other files."""
    from gml.models.flavor import need

    h5py = need("h5py", "gitml[keras]")
    found: list[str] = []

    def look(group: Any, prefix: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            found.append("weights that are nested too deep")
            return
        for key in group:
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                found.append(f"weights in the file {link.filename!r}")
                continue
            if isinstance(link, h5py.SoftLink):
                found.append(f"the link {prefix}{key} in its weights")
                continue
            member = group[key]
            if isinstance(member, h5py.Group):
                look(member, f"{prefix}{key}/", depth + 1)
            elif member.external or member.is_virtual:
                found.append(f"weights {prefix}{key} that are in another file")

    try:
        with h5py.File(io.BytesIO(weights), "r") as file:
            look(file, "", 0)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        found.append(f"weights that cannot be read ({type(error).__name__})")
    return found
