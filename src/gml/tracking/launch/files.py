"""What a command leaves in files: metrics, params and artifacts."""

from __future__ import annotations

import glob
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import GmlError
from gml.git.selection import is_secret
from gml.tracking.artifacts import log_file, log_folder
from gml.tracking.capture.files import JsonlTail, read_metrics_file, read_params_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gml.tracking.recorder import Recorder

log = logging.getLogger("gml")

AUTO_METRICS: Final = ("metrics.json", "metrics.jsonl")
AUTO_PARAMS: Final = ("params.yaml",)


class WatchedFiles:
    """The files that a command may write its metrics and params to.

    Files that the user names count in any case; the well-known names count when the command created or
    changed them.

    Args:
        recorder: the run.
        cwd: where the command runs.
        metrics: metrics files the user named.
        params: params files the user named.
        automatic: also look at `metrics.json`, `metrics.jsonl` and `params.yaml`.
    """

    def __init__(
        self, recorder: Recorder, cwd: Path, metrics: Sequence[str], params: Sequence[str], *, automatic: bool
    ) -> None:
        self._recorder = recorder
        self._named = [*metrics, *params]
        self._metrics = list(dict.fromkeys([*metrics, *(AUTO_METRICS if automatic else ())]))
        self._params = list(dict.fromkeys([*params, *(AUTO_PARAMS if automatic else ())]))
        self._cwd = cwd
        self._before = {name: _stamp(cwd / name) for name in (*self._metrics, *self._params)}
        self._tails: dict[str, JsonlTail] = {}

    def _changed(self, name: str) -> bool:
        now = _stamp(self._cwd / name)
        return now is not None and (name in self._named or now != self._before[name])

    def poll(self) -> None:
        """Take new lines of growing metrics files."""
        for name in self._metrics:
            if name.endswith(".jsonl") and _stamp(self._cwd / name) != self._before[name]:
                tail = self._tails.setdefault(name, JsonlTail(self._cwd / name))
                self._log(tail.poll())

    def finish(self) -> None:
        """Take everything that is left, once the command has ended."""
        for name in self._params:
            if self._changed(name):
                try:
                    self._recorder.log_params(self._fresh(read_params_file(self._cwd / name)))
                except GmlError as error:
                    log.warning("gml: %s: %s", name, error)
            elif name in self._named:
                log.warning("gml: params file %s was not written", name)
        for name in self._metrics:
            if name in self._named and _stamp(self._cwd / name) is None:
                log.warning("gml: metrics file %s was not written", name)
            elif name.endswith(".jsonl") and self._changed(name):
                tail = self._tails.setdefault(name, JsonlTail(self._cwd / name))
                self._log(tail.finish())
                if tail.bad_lines:
                    log.warning("gml: %s: %d bad lines (%s)", name, tail.bad_lines, tail.last_error)
            elif self._changed(name):
                try:
                    self._log(read_metrics_file(self._cwd / name))
                except GmlError as error:
                    log.warning("gml: %s: %s", name, error)

    def _fresh(self, params: dict[str, str]) -> dict[str, str]:
        """Leave out what the command line set already: it wins over a file of defaults."""
        known = {**self._recorder.guessed_params, **self._recorder.params}
        return {key: value for key, value in params.items() if key not in known}

    def _log(self, points: Iterable[tuple[str, float, int | None, int | None]]) -> None:
        for key, value, step, timestamp in points:
            try:
                self._recorder.metric(key, value, step, timestamp)
            except GmlError as error:
                log.warning("gml: %s", error)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _target(name: str, taken: set[str]) -> str:
    """Return the path within the run: relative ones stay, of absolute ones as much as tells them apart."""
    path = Path(name)
    parts = [part for part in path.parts if part not in {"..", path.anchor}]
    if path.is_absolute():
        count = 1
        while "/".join(parts[-count:]) in taken and count < len(parts):
            count += 1
        parts = parts[-count:]
    target = "/".join(parts)
    taken.add(target)
    return target or "."


def collect_artifacts(recorder: Recorder, cwd: Path, patterns: Sequence[str]) -> None:
    """Keep the files and folders that match; what is missing or unreadable is named in a warning."""

    def failed(error: Exception) -> None:
        log.warning("gml: %s", error)

    taken: set[str] = set()
    for pattern in patterns:
        found = sorted(glob.glob(pattern, root_dir=cwd, recursive=True))  # noqa: PTH207  (root_dir)
        if not found:
            log.warning("gml: no file matches artifact %r", pattern)
        for name in found:
            path = cwd / name
            if name != pattern and is_secret(name):
                log.warning("gml: left out: %s (looks like a secret); keep it by its own name", name)
                continue
            target = _target(name, taken)
            try:
                if path.is_dir():
                    log_folder(recorder, path, target if target != "." else "", failed)
                else:
                    log_file(recorder, path, target)
            except GmlError as error:
                failed(error)
