"""The surroundings of a run: Python, packages, machine, scheduler. Never the values of secrets."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gml.tracking.capture import hardware, interpreter
from gml.tracking.capture.keys import clean_text
from gml.tracking.capture.packages import installed_packages, packages_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# In a folder that has several, the first of these is the one that says most exactly what was meant.
LOCK_FILES = (
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "Pipfile.lock",
    "requirements.txt",
    "conda-lock.yml",
    "pixi.lock",
)
# An allow list: everything else may hold a password and is never looked at.
VARIABLES = (
    "CONDA_DEFAULT_ENV",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES",
    "GROUP_RANK",
    "HIP_VISIBLE_DEVICES",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "MKL_NUM_THREADS",
    "NCCL_DEBUG",
    "NUMEXPR_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "NVIDIA_VISIBLE_DEVICES",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
    "PYTORCH_CUDA_ALLOC_CONF",
    "RANK",
    "TF_DETERMINISTIC_OPS",
    "TOKENIZERS_PARALLELISM",
    "WORLD_SIZE",
    "XLA_FLAGS",
)
_SCHEDULERS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "slurm",
        "SLURM_JOB_ID",
        {
            "job_id": "SLURM_JOB_ID",
            "step_id": "SLURM_STEP_ID",
            "array_job_id": "SLURM_ARRAY_JOB_ID",
            "array_task_id": "SLURM_ARRAY_TASK_ID",
            "job_name": "SLURM_JOB_NAME",
            "partition": "SLURM_JOB_PARTITION",
            "node": "SLURMD_NODENAME",
        },
    ),
    ("lsf", "LSB_JOBID", {"job_id": "LSB_JOBID", "array_task_id": "LSB_JOBINDEX", "queue": "LSB_QUEUE"}),
    ("pbs", "PBS_JOBID", {"job_id": "PBS_JOBID", "array_task_id": "PBS_ARRAY_INDEX", "queue": "PBS_QUEUE"}),
    (
        "kubernetes",
        "KUBERNETES_SERVICE_HOST",
        {"pod": "HOSTNAME", "namespace": "POD_NAMESPACE", "job_name": "JOB_NAME"},
    ),
)
_VALUE_LIMIT = 1000


def capture_environment(
    environ: Mapping[str, str],
    cwd: Path,
    *,
    python: str | None = None,
    cache_dir: Path | None = None,
) -> dict[str, Any]:
    """Return what surrounds a run, ready for JSON.

    Args:
        environ: variables of the run; only those of `VARIABLES` and of the scheduler are recorded.
        cwd: where the run starts; the lock file is looked for from here up to the top of the repository.
        python: interpreter of the run as `interpreter_of` finds it, where it may be another one than
            this; `python` and `packages` are then its own.
        cache_dir: keeps the answers of other interpreters.

    Returns:
        `python` {version, implementation, executable}, `platform` {system, release, machine, libc}, `host`,
        `cpu` {count, available, model}, `memory_bytes`, `gpus` [{name, memory_bytes, driver}], `cuda`,
        `packages` {name: version}, `packages_digest`, `lock` {file, sha256} or None, `container`,
        `scheduler` {name, ...} or None, `variables`. What cannot be found out is `{"error": "..."}`.
    """
    other = python is not None and not interpreter.same_interpreter(python, sys.executable)
    probed = _part(lambda: interpreter.probe(python, environ, cache_dir)) if other and python else None
    packages = _part(lambda: _packages(probed))
    devices = _part(lambda: hardware.gpus(environ))
    failed = "error" in devices
    return {
        "python": _part(lambda: _python(probed)),
        "platform": _part(_platform),
        "host": _part(lambda: os.uname().nodename),
        "cpu": _part(hardware.cpu),
        "memory_bytes": _part(hardware.memory_bytes),
        "gpus": devices if failed else devices["gpus"],
        "cuda": None if failed else devices["cuda"],
        "packages": packages,
        "packages_digest": None if _is_error(packages) else packages_digest(packages),
        "lock": _part(lambda: lock_file(cwd)),
        "container": _part(lambda: _container(environ)),
        "scheduler": _part(lambda: _scheduler(environ)),
        "variables": {name: _short(environ[name]) for name in VARIABLES if name in environ},
    }


def lock_file(cwd: Path) -> dict[str, str] | None:
    """Return the nearest lock file, from `cwd` up to the top of the git repository.

    Outside a repository only `cwd` itself is looked at.

    Returns:
        `file`, relative to the top of the repository, and its `sha256`; None if there is none.

    Raises:
        OSError: it cannot be read.
    """
    cwd = Path(os.path.abspath(cwd))  # noqa: PTH100 - where the user is, not where links lead
    folders = [cwd, *cwd.parents]
    tops = [position for position, folder in enumerate(folders) if (folder / ".git").exists()]
    top = tops[0] if tops else 0
    for folder in folders[: top + 1]:
        for name in LOCK_FILES:
            if (folder / name).is_file():
                with (folder / name).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                return {"file": (folder / name).relative_to(folders[top]).as_posix(), "sha256": digest}
    return None


def _part(find: Callable[[], Any]) -> Any:
    """Run one part; the errors that machines, drivers and other programs cause become its answer."""
    try:
        return find()
    except (
        OSError,
        ValueError,
        LookupError,
        AttributeError,
        RuntimeError,
        ImportError,
        subprocess.SubprocessError,
    ) as error:
        return {"error": clean_text(f"{type(error).__name__}: {error}")[:_VALUE_LIMIT]}


def _is_error(part: Any) -> bool:
    # A package could be called "error", but then it has more company or a version with a digit first.
    return isinstance(part, dict) and list(part) == ["error"] and not part["error"][:1].isdigit()


def _python(probed: dict[str, Any] | None) -> dict[str, str]:
    if probed is None:
        return {
            "version": platform.python_version(),
            "implementation": sys.implementation.name,
            "executable": clean_text(sys.executable),
        }
    if _is_error(probed):
        return probed
    return {key: clean_text(probed[key]) for key in ("version", "implementation", "executable")}


def _packages(probed: dict[str, Any] | None) -> dict[str, str]:
    if probed is None:
        return installed_packages(sys.path)
    return probed if _is_error(probed) else installed_packages(probed["path"])


def _platform() -> dict[str, str | None]:
    # Not from `platform`: it starts programs and reads the interpreter file to say the same.
    uname = os.uname()
    return {
        "system": uname.sysname,
        "release": uname.release,
        "machine": uname.machine,
        "libc": _libc(),
    }


def _libc() -> str | None:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):  # musl, macOS
        return " ".join(platform.libc_ver()).strip() or None


def _container(environ: Mapping[str, str]) -> str | None:
    if "APPTAINER_CONTAINER" in environ or "SINGULARITY_CONTAINER" in environ:
        return "apptainer"
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    if Path("/run/.containerenv").exists():
        return "podman"
    return "docker" if Path("/.dockerenv").exists() else None


def _scheduler(environ: Mapping[str, str]) -> dict[str, str] | None:
    for name, sign, fields in _SCHEDULERS:
        if environ.get(sign):
            found = {
                key: _short(environ[variable]) for key, variable in fields.items() if environ.get(variable)
            }
            return {"name": name, **found}
    return None


def _short(value: str) -> str:
    return clean_text(value)[:_VALUE_LIMIT]
