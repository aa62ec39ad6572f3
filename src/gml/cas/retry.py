"""Trying again: exponential back-off with full jitter, only where a second try can help."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from gml.cas.trouble import explain
from gml.domain.errors import GmlError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """How often and how patiently a request is repeated.

    Attributes:
        attempts: how often a request is made at most.
        base: seconds; the pause before the second try is a random time up to this, then up to twice
            as much, and so on.
        cap: seconds that a pause takes at most.
        sleep: how to wait.

    Example:
        >>> Retry(attempts=3).call(lambda: 1)
        1
    """

    attempts: int = 6
    base: float = 0.25
    cap: float = 10.0
    sleep: Callable[[float], object] = field(default=time.sleep, repr=False)

    def call(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; repeat it while it fails for reasons that may pass.

        Raises:
            Exception: what the last try raised.
        """
        for attempt in range(1, self.attempts):
            try:
                return work()
            except GmlError:
                raise
            except Exception as error:
                found = explain(error)
                if not found.transient:
                    raise
                # A service that asks to slow down means it: wait longer from the start.
                scale = self.base * 2 ** (attempt - 1) * (4 if found.kind == "throttled" else 1)
                # Full jitter: many clients that failed together do not come back together.
                self.sleep(random.uniform(0, min(self.cap, scale)))  # noqa: S311 - no secret
        return work()
