"""How the recorded surroundings of a run differ from what is here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.projects.rerun.needs import Need
from gml.tracking.capture.environment import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

# Which devices and ranks there are is the machine's own; everything else on the list decides numbers.
_OF_THE_MACHINE: Final = frozenset(
    {"CONDA_DEFAULT_ENV", "CUDA_VISIBLE_DEVICES", "GROUP_RANK", "HIP_VISIBLE_DEVICES", "LOCAL_RANK",
     "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NVIDIA_VISIBLE_DEVICES", "OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE", "RANK", "WORLD_SIZE", "NCCL_DEBUG"}
)  # fmt: skip
# Packages that build and install others; no script computes with them.
_TOOLS: Final = frozenset({"pip", "setuptools", "wheel", "uv"})


def recorded_variables(recorded: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the variables that decide numbers (hash seed, threads, determinism); None: not set.

    Example:
        >>> recorded_variables({"variables": {"PYTHONHASHSEED": "0"}})["PYTHONHASHSEED"]
        '0'
    """
    known = recorded.get("variables")
    values = known if isinstance(known, dict) else {}
    return {name: values.get(name) for name in VARIABLES if name not in _OF_THE_MACHINE}


def compare_packages(old: Mapping[str, str], new: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return `(name, recorded version, version here)` of what differs; empty text where there is none."""
    names = sorted(old.keys() | new.keys())
    return [
        (name, old.get(name, ""), new.get(name, ""))
        for name in names
        if old.get(name) != new.get(name) and name not in _TOOLS
    ]


def compare_surroundings(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[Need]:
    """Return what of the environment and the hardware is not as it was.

    Args:
        recorded: the environment document of the run.
        here: what `capture_environment` says now.
    """
    if not recorded:
        return [Need("environment", "record", "the environment was not recorded")]
    needs: list[Need] = []
    for section, key in (("python", "version"), ("python", "implementation"), ("platform", "system"),
                         ("platform", "machine"), ("platform", "libc")):  # fmt: skip
        old, new = _get(recorded, section, key), _get(here, section, key)
        if old and old != new:
            name = "python" if section == "python" else key
            needs.append(Need("environment", name, f"{new or 'unknown'} here, recorded was {old}"))
    needs += [
        Need("environment", name, _versions(old, new))
        for name, old, new in compare_packages(_packages(recorded), _packages(here))
    ]
    old_gpus, new_gpus = _gpus(recorded), _gpus(here)
    if old_gpus != new_gpus:
        needs.append(
            Need(
                "hardware",
                "GPU",
                f"{', '.join(new_gpus) or 'none'} here, recorded was {', '.join(old_gpus) or 'none'}",
            )
        )
    cuda = recorded.get("cuda")
    if cuda and cuda != here.get("cuda"):
        needs.append(Need("hardware", "CUDA", f"{here.get('cuda') or 'none'} here, recorded was {cuda}"))
    cpu = _get(recorded, "cpu", "model")
    if cpu and cpu != _get(here, "cpu", "model"):
        needs.append(
            Need("hardware", "CPU", f"{_get(here, 'cpu', 'model') or 'unknown'} here, recorded was {cpu}")
        )
    return needs


def _versions(old: str, new: str) -> str:
    if not new:
        return f"is not installed here, recorded was {old}"
    return f"{new} here, recorded was {old}" if old else f"{new} here, was not installed"


def _get(document: Mapping[str, Any], section: str, key: str) -> str:
    part = document.get(section)
    return str(part.get(key) or "") if isinstance(part, dict) else ""


def _packages(document: Mapping[str, Any]) -> dict[str, str]:
    part = document.get("packages")
    if not isinstance(part, dict) or list(part) == ["error"]:
        return {}
    return {str(name): str(version) for name, version in part.items()}


def _gpus(document: Mapping[str, Any]) -> list[str]:
    part = document.get("gpus")
    return (
        [str(gpu.get("name", "")) for gpu in part if isinstance(gpu, dict)] if isinstance(part, list) else []
    )
