"""Server-sent events of running trainings.

Each event holds the whole state of what it tells, so a browser that lost the connection or slept misses
nothing. Looking takes at most a tenth of the time: a long look is followed by a long pause.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from gml.domain.errors import GmlError
from gml.tracking.report.text import number, took
from gml.ui.pages.curves import curves
from gml.ui.pages.run import log_tail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from gml.domain.run import Run
    from gml.tracking.reader import Reader
    from gml.ui.source import Source

PAUSE: Final = 1.0
SHARE: Final = 10
POINTS: Final = 600
BEAT: Final = 15.0


class Look:
    """What one browser was told, so that only changes are told again."""

    def __init__(self, run_ids: Sequence[str]) -> None:
        self._wanted = list(run_ids)
        self._counts: dict[tuple[str, str], int] = {}
        self._states: dict[str, str] = {}
        self._logs: dict[str, tuple[int, int]] = {}

    def news(self, reader: Reader) -> list[dict[str, Any]]:
        """Return what changed since the last call, a dict a run."""
        ids = self._wanted or [run_id for run_id, session in reader.live.items() if session.alive]
        # Those that ended since the last look have one more thing to say.
        ids = list(dict.fromkeys([*ids, *(run_id for run_id in self._states if run_id not in ids)]))
        out = []
        for run_id in ids:
            try:
                run = reader.run(run_id)
            except GmlError:
                continue
            if run is None:
                continue
            told = self._run(reader, run)
            if told:
                out.append(told)
        return out

    def _run(self, reader: Reader, run: Run) -> dict[str, Any]:
        changed = [k for k, m in run.metrics.items() if self._counts.get((run.run_id, k)) != m.count]
        state = json.dumps([run.status, run.name, sorted(run.params.items()), sorted(run.tags.items())])
        told: dict[str, Any] = {}
        if changed or self._states.get(run.run_id) != state:
            told = {
                "run": run.run_id,
                "name": run.name,
                "status": run.status,
                "live": run.live,
                "took": took(run.duration),
                "start": run.start_time,
                "metrics": {
                    key: {
                        "last": number(m.last),
                        "step": m.step,
                        "count": m.count,
                        "min": number(m.min),
                        "max": number(m.max),
                    }
                    for key, m in run.metrics.items()
                    if key in changed
                },
            }
        if self._wanted and changed:
            drawn = [key for key in changed if run.metrics[key].count > 1]
            try:
                found = curves(reader, [run], drawn, POINTS)
            except GmlError:
                found = {}
            told["curves"] = {key: by_run.get(run.run_id) for key, by_run in found.items()}
        if self._wanted:
            told |= self._output(reader, run)
        for key in changed:
            self._counts[run.run_id, key] = run.metrics[key].count
        if not run.live and self._states.get(run.run_id) == state and not told:
            return {}
        self._states[run.run_id] = state
        return {"run": run.run_id, **told} if told else {}

    def _output(self, reader: Reader, run: Run) -> dict[str, Any]:
        logs = {}
        for name in ("stdout.txt", "stderr.txt"):
            path = reader.workspace.journal_root / run.run_id / "logs" / name
            try:
                facts = path.stat()
            except OSError:
                continue
            seen = (facts.st_size, facts.st_mtime_ns)
            if self._logs.get(f"{run.run_id}/{name}") != seen:
                self._logs[f"{run.run_id}/{name}"] = seen
                logs[name] = log_tail(reader, run, name)
        return {"logs": logs} if logs else {}


async def events(
    source: Source, run_ids: Sequence[str], gone: Callable[[], Awaitable[bool]]
) -> AsyncIterator[str]:
    """Yield events until the browser is gone.

    Args:
        source: where runs come from.
        run_ids: runs to tell everything of; without any, the state of all that are running.
        gone: whether the browser has left.
    """
    look = Look(run_ids)

    def once() -> tuple[list[dict[str, Any]], float]:
        begun = time.monotonic()
        with source.reader() as reader:
            return look.news(reader), time.monotonic() - begun

    yield "retry: 2000\n\n"
    last = time.monotonic()
    while not await gone():
        try:
            news, spent = await run_in_threadpool(once)
        except GmlError:
            news, spent = [], 0.0  # at the next look the repository may be whole again
        for told in news:
            yield f"event: run\ndata: {json.dumps(told, allow_nan=False, default=_plain)}\n\n"
        now = time.monotonic()
        if news:
            last = now
        elif now - last > BEAT:
            last = now
            yield ": still here\n\n"
        await asyncio.sleep(max(PAUSE, spent * SHARE))


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else str(value)
