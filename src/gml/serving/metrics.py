"""Counters of a server in Prometheus's text format; those of all workers are added up.

Each worker writes its own small file when it is asked for metrics and once a second while it works, so that
whichever worker is asked can tell of all.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from gml.fs import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What one worker counted.

    Args:
        shared: folder of the workers' files; None for a server of one worker.
    """

    def __init__(self, shared: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._shared = shared
        self._written = 0.0
        self.in_flight = 0
        self._requests: dict[str, int] = {}
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._rows = 0

    def request(self, path: str, status: int, seconds: float, rows: int) -> None:
        """Count a request that was answered."""
        key = f"{path} {status}"
        with self._lock:
            self._requests[key] = self._requests.get(key, 0) + 1
            if path == "/invocations":
                place = next((at for at, limit in enumerate(BUCKETS) if seconds <= limit), len(BUCKETS))
                self._buckets[place] += 1
                self._seconds += seconds
                self._rows += rows
        if self._shared is not None and time.monotonic() - self._written > 1.0:
            self._write()

    def _snapshot(self) -> dict[str, Any]:
        with self._lock:
            return {
                "requests": dict(self._requests),
                "buckets": list(self._buckets),
                "seconds": self._seconds,
                "rows": self._rows,
                "in_flight": self.in_flight,
            }

    def _write(self) -> None:
        self._written = time.monotonic()
        if self._shared is not None:
            path = self._shared / f"metrics-{os.getpid()}.json"
            write_atomic(path, json.dumps(self._snapshot()).encode(), durable=False)

    def _all(self) -> list[dict[str, Any]]:
        found = [self._snapshot()]
        if self._shared is None:
            return found
        self._write()
        own = f"metrics-{os.getpid()}.json"
        for path in self._shared.glob("metrics-*.json"):
            if path.name != own:
                with suppress(OSError, ValueError):
                    found.append(json.loads(path.read_bytes()))
        return found

    def text(self, *, label: str, version: str, digest: str, loaded: float, swaps: int, failures: int) -> str:
        """Return the page that Prometheus scrapes."""
        parts = self._all()
        lines = ["# HELP gml_requests_total Requests answered.", "# TYPE gml_requests_total counter"]
        totals: dict[str, int] = {}
        for part in parts:
            for key, count in part["requests"].items():
                totals[key] = totals.get(key, 0) + count
        for key, count in sorted(totals.items()):
            path, _, status = key.rpartition(" ")
            lines.append(f'gml_requests_total{{path="{path}",status="{status}"}} {count}')
        lines += [
            "# HELP gml_request_seconds Time from the request's last byte to the answer.",
            "# TYPE gml_request_seconds histogram",
        ]
        below = 0
        for at, limit in enumerate((*BUCKETS, "+Inf")):
            below += sum(part["buckets"][at] for part in parts)
            lines.append(f'gml_request_seconds_bucket{{le="{limit}"}} {below}')
        lines += [
            f"gml_request_seconds_sum {sum(part['seconds'] for part in parts):.6f}",
            f"gml_request_seconds_count {below}",
            "# HELP gml_predictions_total Predictions returned.",
            "# TYPE gml_predictions_total counter",
            f"gml_predictions_total {sum(part['rows'] for part in parts)}",
            "# HELP gml_requests_in_flight Requests that are being answered.",
            "# TYPE gml_requests_in_flight gauge",
            f"gml_requests_in_flight {sum(part['in_flight'] for part in parts)}",
            "# HELP gml_model_info The model in service.",
            "# TYPE gml_model_info gauge",
            f'gml_model_info{{model="{_escaped(label)}",version="{version}",digest="{digest}"}} 1',
            "# HELP gml_model_loaded_timestamp_seconds When it was loaded.",
            "# TYPE gml_model_loaded_timestamp_seconds gauge",
            f"gml_model_loaded_timestamp_seconds {loaded:.3f}",
            "# HELP gml_model_swaps_total Exchanges of the model while serving.",
            "# TYPE gml_model_swaps_total counter",
            f"gml_model_swaps_total {swaps}",
            "# HELP gml_model_reload_failures_total New models that could not be taken into service.",
            "# TYPE gml_model_reload_failures_total counter",
            f"gml_model_reload_failures_total {failures}",
        ]
        return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
