"""Use of processor, memory and GPUs while a run lasts, and its peak afterwards."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from gml.domain.errors import GmlError, MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Callable


def check_installed() -> None:
    """Raise if processes cannot be measured.

    Raises:
        MissingPackageError: psutil is not installed.
    """
    try:
        import psutil  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            "system metrics need the package psutil", hint="pip install 'gitml[system]'"
        ) from error


class SystemMonitor:
    """A thread that measures a process and its children at an interval.

    Emitted are `system/cpu_percent` (100 is one core), `system/memory_bytes` (resident, summed over the
    tree; pages that processes share count more than once), `system/memory_peak_bytes` (largest sum so far)
    and, where nvidia-ml-py finds devices, `system/gpu0_percent` and `system/gpu0_memory_bytes`.

    Args:
        pid: process at the root of the tree.
        interval: seconds between two measurements.
        emit: is given each measurement, in the thread of the monitor. If it raises a `GmlError` or
            `OSError` the monitor stops and keeps it as `error`: measuring must not hurt training.

    Raises:
        MissingPackageError: psutil is not installed.

    Example:
        >>> with SystemMonitor(os.getpid(), 10.0, collected.append):
        ...     train()
    """

    def __init__(self, pid: int, interval: float, emit: Callable[[dict[str, float]], object]) -> None:
        check_installed()
        import psutil

        self._psutil = psutil
        self._interval = interval
        self._emit = emit
        self._processes: dict[int, Any] = {}
        with suppress(psutil.Error):
            self._processes[pid] = psutil.Process(pid)
        self._pid = pid
        self._gpus = _Gpus()
        self._peak = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: GmlError | OSError | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start measuring; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="gml-system", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Measure a last time if the process still lives, and end the thread."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._gpus.close()

    def sample(self) -> dict[str, float]:
        """Measure now; empty when the process is gone. Processor use counts from the last call."""
        processes = self._tree()
        if not processes:
            return {}
        percent, memory = 0.0, 0
        for process in processes:
            # A child may end at any moment, and one of another user may not be looked at.
            with suppress(self._psutil.Error):
                percent += process.cpu_percent(None)
                memory += process.memory_info().rss
        self._peak = max(self._peak, memory)
        return {
            "system/cpu_percent": percent,
            "system/memory_bytes": float(memory),
            "system/memory_peak_bytes": float(self._peak),
            **self._gpus.sample(),
        }

    def _tree(self) -> list[Any]:
        root = self._processes.get(self._pid)
        try:
            if root is None or not root.is_running() or root.status() == self._psutil.STATUS_ZOMBIE:
                return []
            children = root.children(recursive=True)
        except self._psutil.Error:
            return []
        # The same object must be asked each time: processor use is the difference to its last answer.
        known = self._processes
        self._processes = {
            self._pid: root,
            **{child.pid: known[child.pid] if known.get(child.pid) == child else child for child in children},
        }
        return list(self._processes.values())

    def _run(self) -> None:
        self.sample()  # the first answer of cpu_percent is always 0
        ended = False
        while not ended:
            ended = self._stop.wait(self._interval)
            measured = self.sample()
            if not measured:
                return
            try:
                self._emit(measured)
            except (GmlError, OSError) as error:
                self.error = error
                return


class _Gpus:
    """The NVIDIA devices, none where nvidia-ml-py or the driver is not there."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except pynvml.NVMLError:
            self._handles = []
        else:
            self._nvml = pynvml

    def sample(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for index, handle in enumerate(self._handles):
            with suppress(self._nvml.NVMLError):
                found[f"system/gpu{index}_percent"] = float(
                    self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu
                )
                found[f"system/gpu{index}_memory_bytes"] = float(
                    self._nvml.nvmlDeviceGetMemoryInfo(handle).used
                )
        return found

    def close(self) -> None:
        self._handles = []
        if self._nvml is not None:
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
            self._nvml = None


def peak_usage(*, children: bool = False) -> dict[str, float]:
    """Return what the system counted for this process, or for its children that have ended.

    Needs no package. The memory of children is that of the largest one, not their sum.

    Returns:
        `system/max_memory_bytes`, `system/cpu_user_seconds` and `system/cpu_system_seconds`.

    Example:
        >>> peak_usage()["system/max_memory_bytes"]
        31457280.0
    """
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF)
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "system/max_memory_bytes": float(used.ru_maxrss * unit),
        "system/cpu_user_seconds": used.ru_utime,
        "system/cpu_system_seconds": used.ru_stime,
    }
