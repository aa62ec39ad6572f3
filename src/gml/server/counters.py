"""Counters of requests, in the text that Prometheus reads."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Counters:
    """Requests by method, route and status, and the time they took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. `route` is the route's path, never one that a client made up."""
        known = method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "OTHER"
        with self._lock:
            self._requests[known, route, status] += 1
            self._seconds[route] += seconds

    def text(self, open_runs: Mapping[str, int]) -> str:
        """Return all counters.

        Args:
            open_runs: repository -> number of runs that are open for writing.
        """
        with self._lock:
            requests, seconds = dict(self._requests), dict(self._seconds)
        lines = ["# TYPE gml_requests_total counter"]
        for (method, route, status), count in sorted(requests.items()):
            labels = f'method="{method}",route="{route}",status="{status}"'
            lines.append(f"gml_requests_total{{{labels}}} {count}")
        lines.append("# TYPE gml_request_seconds summary")
        totals: defaultdict[str, int] = defaultdict(int)
        for (_, route, _), count in requests.items():
            totals[route] += count
        for route, total in sorted(seconds.items()):
            lines.append(f'gml_request_seconds_sum{{route="{route}"}} {total:.6f}')
            lines.append(f'gml_request_seconds_count{{route="{route}"}} {totals[route]}')
        lines.append("# TYPE gml_open_runs gauge")
        lines += [
            f'gml_open_runs{{repository="{name or "default"}"}} {count}' for name, count in open_runs.items()
        ]
        return "\n".join(lines) + "\n"
