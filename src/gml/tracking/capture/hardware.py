"""What the machine is made of: processor, memory, GPUs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_SMI_SECONDS = 5.0
_QUERY = "--query-gpu=name,memory.total,driver_version"


def cpu() -> dict[str, Any]:
    """Return `count` (of the machine), `available` (to this process) and `model` of the processor."""
    count = os.cpu_count()
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "count": count,
        "available": len(affinity(0)) if affinity else count,
        "model": _cpu_model(Path("/proc/cpuinfo")),
    }


def memory_bytes() -> int:
    """Return the physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def gpus(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the NVIDIA devices: `{"gpus": [{name, memory_bytes, driver}], "cuda": version or None}`.

    Asked are nvidia-ml-py if it is installed, else `nvidia-smi` on the PATH of `environ` for at most 5
    seconds; neither is no error, a machine has no GPU then.

    Raises:
        OSError: `nvidia-smi` cannot be started.
        ValueError: it failed or its answer makes no sense.
        subprocess.TimeoutExpired: it does not answer.
    """
    return _from_nvml() or _from_smi(environ)


def _from_nvml() -> dict[str, Any] | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver, or no device
        return None
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        number = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        devices = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            devices.append(
                {
                    "name": _text(pynvml.nvmlDeviceGetName(handle)),
                    "memory_bytes": int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
                    "driver": driver,
                }
            )
        return {"gpus": devices, "cuda": f"{number // 1000}.{number % 1000 // 10}"}
    except pynvml.NVMLError as error:
        raise ValueError(f"NVML: {error}") from error
    finally:
        pynvml.nvmlShutdown()


def _from_smi(environ: Mapping[str, str]) -> dict[str, Any]:
    program = shutil.which("nvidia-smi", path=environ.get("PATH", ""))
    if program is None:
        return {"gpus": [], "cuda": None}
    devices = []
    for line in _run([program, _QUERY, "--format=csv,noheader,nounits"]).splitlines():
        # The name may hold commas, the other two do not.
        name, memory, driver = (part.strip() for part in line.rsplit(",", 2))
        devices.append({"name": name, "memory_bytes": int(memory) << 20, "driver": driver})
    version = re.search(r"CUDA Version:\s*([\d.]+)", _run([program])) if devices else None
    return {"gpus": devices, "cuda": version[1] if version else None}


def _run(argv: list[str]) -> str:
    done = subprocess.run(
        argv, capture_output=True, timeout=_SMI_SECONDS, check=False, stdin=subprocess.DEVNULL
    )
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        raise ValueError(f"nvidia-smi failed: {said.strip()[:200] or f'exit code {done.returncode}'}")
    return said


def _cpu_model(cpuinfo: Path) -> str | None:
    if sys.platform == "darwin":
        sysctl = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        done = subprocess.run(sysctl, capture_output=True, timeout=_SMI_SECONDS, check=False)
        return done.stdout.decode("utf-8", "replace").strip() or None
    with cpuinfo.open("r", encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            # ARM kernels do not say "model name".
            if key.strip().lower() in {"model name", "hardware", "cpu model"}:
                return value.strip() or None
    return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
