"""A module of PyTorch's own layers as data: class names and the arguments they were built with.

>>> from torch import nn  # doctest: +SKIP
>>> describe(nn.Sequential(nn.Linear(2, 1)))  # doctest: +SKIP
{'class': 'Sequential', 'layers': {'0': {'class': 'Linear', 'args': {'in_features': 2, ...}}}}
"""

from __future__ import annotations

import inspect
from typing import Any, Final

from gml.domain.errors import CorruptError, InvalidValueError
from gml.models.flavor import need

# Layers whose result only depends on their arguments and weights; none calls something by a name.
_LAYERS: Final = frozenset(
    """
    Linear Bilinear Identity Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d
    MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d AdaptiveAvgPool2d
    AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d LPPool1d LPPool2d
    BatchNorm1d BatchNorm2d BatchNorm3d InstanceNorm1d InstanceNorm2d InstanceNorm3d LayerNorm GroupNorm
    RMSNorm LocalResponseNorm Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout
    ReLU ReLU6 ELU CELU SELU GELU GLU SiLU Mish LeakyReLU PReLU RReLU Sigmoid LogSigmoid Hardsigmoid
    Hardswish Hardtanh Hardshrink Softshrink Tanhshrink Tanh Softplus Softsign Softmin Softmax Softmax2d
    LogSoftmax Threshold Embedding EmbeddingBag Flatten Unflatten PixelShuffle PixelUnshuffle Upsample
    UpsamplingNearest2d UpsamplingBilinear2d ZeroPad1d ZeroPad2d ZeroPad3d ConstantPad1d ConstantPad2d
    ConstantPad3d ReflectionPad1d ReflectionPad2d ReplicationPad1d ReplicationPad2d ReplicationPad3d
    ChannelShuffle CosineSimilarity PairwiseDistance Fold Unfold RNN LSTM GRU
    """.split()  # noqa: SIM905 - a table of names reads better than a list of texts
)
_HINT: Final = "give init_args={...} and code_paths=[...] for a class of your own, or use format='pickle'"
_MAX_DEPTH: Final = 50
# What only says where and how weights are made; they are overwritten.
_UNUSED: Final = frozenset({"device", "dtype", "self", "args", "kwargs", "_weight", "_freeze"})


def describe(module: Any) -> dict[str, Any]:
    """Return a module as names and arguments.

    Raises:
        InvalidValueError: it has a layer that cannot be described so; says which, and what would do.
    """
    found = _describe(module)
    built = build(found, "the model")
    if not same_shape(built, module) or repr(built) != repr(module):
        raise InvalidValueError("the layers of the model cannot be described", hint=_HINT)
    return found


def _describe(module: Any) -> dict[str, Any]:
    kind = type(module)
    if not kind.__module__.startswith("torch.nn.modules.") or kind.__name__ not in _LAYERS | {"Sequential"}:
        raise InvalidValueError(f"{kind.__name__} is not among the layers that are described", hint=_HINT)
    if module._forward_hooks or module._forward_pre_hooks:  # noqa: SLF001 - torch has no other way to ask
        raise InvalidValueError(f"{kind.__name__} has hooks, which are code", hint=_HINT)
    if kind.__name__ == "Sequential":
        return {
            "class": "Sequential",
            "layers": {name: _describe(one) for name, one in module.named_children()},
        }
    arguments: dict[str, Any] = {}
    for name in _parameters(kind):
        if name == "bias":
            value: Any = _has_bias(module)
        elif name == "batch_first" or hasattr(module, name):
            value = getattr(module, name, False)
        else:
            continue
        arguments[name] = _plain(value, kind.__name__, name)
    return {"class": kind.__name__, "args": arguments}


def _has_bias(module: Any) -> bool:
    bias = getattr(module, "bias", None)
    return bias if isinstance(bias, bool) else bias is not None


def _parameters(kind: Any) -> list[str]:
    names: list[str] = []
    for base in kind.__mro__:
        init = base.__dict__.get("__init__")
        if init is None:
            continue
        names += [name for name in inspect.signature(init).parameters if name not in _UNUSED | {"mode"}]
        if not any(
            one.kind is inspect.Parameter.VAR_POSITIONAL
            for one in inspect.signature(init).parameters.values()
        ):
            if kind.__name__ in {"Upsample", "EmbeddingBag"}:
                names.append("mode")
            break
    return list(dict.fromkeys(names))


def _plain(value: Any, kind: str, name: str) -> Any:
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(one, kind, name) for one in value]
    raise InvalidValueError(f"{kind} has {name}={value!r}, which is no plain value", hint=_HINT)


def odd(described: Any, depth: int = 0) -> list[str]:
    """Return what in a description is not a layer of PyTorch's with plain arguments."""
    if not isinstance(described, dict) or depth > _MAX_DEPTH:
        return ["no description of its layers"]
    name = described.get("class")
    if name == "Sequential":
        layers = described.get("layers")
        if not isinstance(layers, dict):
            return ["no description of its layers"]
        return [reason for one in layers.values() for reason in odd(one, depth + 1)]
    if name not in _LAYERS:
        return [f"the layer {name!r}, which is not one of those that are known to be harmless"]
    arguments = described.get("args")
    if not isinstance(arguments, dict) or not all(isinstance(one, str) for one in arguments):
        return [f"arguments of {name} that are none"]
    try:
        for key, value in arguments.items():
            _plain(value, str(name), key)
    except InvalidValueError as error:
        return [error.message]
    return []


def build(described: Any, origin: str) -> Any:
    """Return a module by its description, with weights that are to be overwritten.

    Raises:
        CorruptError: the description is none.
    """
    reasons = odd(described)
    if reasons:
        raise CorruptError(f"{origin} cannot be built: {reasons[0]}")
    nn = need("torch.nn", "torch")
    if described["class"] == "Sequential":
        module = nn.Sequential()
        for name, one in described["layers"].items():
            module.add_module(str(name), build(one, origin))
        return module
    arguments = {
        key: tuple(value) if isinstance(value, list) else value for key, value in described["args"].items()
    }
    try:
        return getattr(nn, described["class"])(**arguments)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise CorruptError(f"{origin} cannot be built: {described['class']}: {said}") from error


def same_shape(one: Any, other: Any) -> bool:
    """Whether two modules have weights of the same names, shapes and types."""
    left, right = one.state_dict(), other.state_dict()
    return {k: (v.shape, v.dtype) for k, v in left.items()} == {
        k: (v.shape, v.dtype) for k, v in right.items()
    }
