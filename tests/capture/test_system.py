# ruff: noqa: N802 - the fake bears the names of NVML
import os
import subprocess
import sys
import threading

import pytest

from gml.domain.errors import MissingPackageError, StorageError
from gml.tracking.capture.system import SystemMonitor, peak_usage

WAIT = "import sys; sys.stdin.read()"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {WAIT!r}], stdin=sys.stdin)
print("up", flush=True)
child.wait()
"""


def test_samples_until_stopped():
    emitted = []
    enough = threading.Event()

    def emit(metrics):
        emitted.append(metrics)
        if len(emitted) == 3:
            enough.set()

    with SystemMonitor(os.getpid(), 0.001, emit) as monitor:
        monitor.start()
        assert enough.wait(60)
    count = len(emitted)
    assert count >= 4, "a last one at the end"
    assert {"system/cpu_percent", "system/memory_bytes", "system/memory_peak_bytes"} <= set(emitted[0])
    assert emitted[-1]["system/memory_peak_bytes"] >= emitted[-1]["system/memory_bytes"] > 1_000_000
    assert not [thread for thread in threading.enumerate() if thread.name == "gml-system"]


def test_counts_the_whole_tree():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        monitor = SystemMonitor(process.pid, 60, print)
        both = monitor.sample()["system/memory_bytes"]
        import psutil

        assert both > psutil.Process(process.pid).memory_info().rss
        process.stdin.close()
        process.stdin = None
        process.wait()
    assert monitor.sample() == {}
    monitor.stop()


def test_process_that_is_gone_ends_the_thread():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    monitor = SystemMonitor(process.pid, 0.001, print)
    monitor.start()
    monitor.stop()
    assert monitor.error is None


def test_failing_emit_ends_the_monitor_and_nothing_else():
    failed = threading.Event()

    def emit(_metrics):
        failed.set()
        raise StorageError("disk is full")

    with SystemMonitor(os.getpid(), 0.001, emit) as monitor:
        assert failed.wait(60)
    assert str(monitor.error) == "disk is full"


def test_missing_psutil(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'gitml\[system\]'"):
        SystemMonitor(1, 1, print)


class FakeNvml:
    class NVMLError(Exception):
        pass

    def __init__(self):
        self.open = 0

    def nvmlInit(self):
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetName(self, handle):
        return b"H100" if handle else "A100"

    def nvmlSystemGetDriverVersion(self):
        return "550.1"

    def nvmlSystemGetCudaDriverVersion_v2(self):
        return 12040

    def nvmlDeviceGetMemoryInfo(self, handle):
        return type("Memory", (), {"total": 80 << 30, "used": 1000 + handle})

    def nvmlDeviceGetUtilizationRates(self, handle):
        if handle:
            raise self.NVMLError("not supported")
        return type("Rates", (), {"gpu": 50})


def test_gpus(monkeypatch):
    from gml.tracking.capture.hardware import gpus

    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monitor = SystemMonitor(os.getpid(), 1, print)
    sample = monitor.sample()
    assert {key: value for key, value in sample.items() if "gpu" in key} == {
        "system/gpu0_percent": 50.0,
        "system/gpu0_memory_bytes": 1000.0,
    }
    monitor.stop()
    assert nvml.open == 0
    found = gpus({})
    assert found["cuda"] == "12.4"
    assert [gpu["name"] for gpu in found["gpus"]] == ["A100", "H100"]
    assert found["gpus"][0]["memory_bytes"] == 80 << 30
    assert nvml.open == 0


def test_peak_usage():
    subprocess.run([sys.executable, "-c", "x = bytearray(60_000_000)"], check=True)
    for children in (False, True):
        usage = peak_usage(children=children)
        assert set(usage) == {
            "system/max_memory_bytes",
            "system/cpu_user_seconds",
            "system/cpu_system_seconds",
        }
        assert usage["system/max_memory_bytes"] > 5_000_000
    assert 60_000_000 < peak_usage(children=True)["system/max_memory_bytes"] < 60_000_000_000
