"""The model that a server answers with, and its exchange for another one while requests go on."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gml.models.loaded import load_model
from gml.serving.protocol import Request, Scorer

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.models.flavor import LoadOptions
    from gml.tracking.models.resolve import Resolved

log = logging.getLogger("gml.serving")


@dataclass(frozen=True)
class Served:
    """A loaded model and what people call it.

    Attributes:
        scorer: answers requests.
        label: `churn version 4`, or the URI.
        version: number in the registry, empty for others.
        digest: digest of its files.
        loaded: when, seconds since the epoch.
    """

    scorer: Scorer
    label: str
    version: str
    digest: str
    loaded: float = field(default_factory=time.time)


def load(found: Resolved, options: LoadOptions) -> Served:
    """Verify, load and warm up a model: one prediction of its input example.

    Raises:
        GmlError: it cannot be loaded, or must not be.
    """
    model = load_model(found.files, options)
    scorer = Scorer(model)
    served = Served(scorer, found.label, str(found.version or ""), model.digest)
    warm_up(scorer)
    return served


def warm_up(scorer: Scorer) -> None:
    """Predict the input example, so that the first request finds everything imported and compiled."""
    rows = scorer.model.example
    if rows is None:
        return
    try:
        scorer.predict(Request(*rows))
    except Exception as error:  # noqa: BLE001 - a model may be served whose example is not a request
        log.warning("gml: the model does not predict its own input example (%s)", error)


class Holder:
    """Holds the model of a server.

    A request takes the model once and keeps it to its end, so an exchange loses none.

    Args:
        served: the first model.
        find: finds the model again; None where nothing can change.
        load: loads what `find` found.
    """

    def __init__(
        self,
        served: Served,
        find: Callable[[], Resolved] | None = None,
        load: Callable[[Resolved], Served] | None = None,
    ) -> None:
        self.current = served
        self.swaps = 0
        self.failures = 0
        self._find = find
        self._load = load
        self._stop = threading.Event()
        self._refused: str | None = None

    def check(self) -> bool:
        """Look whether there is another model, and exchange it.

        A model that cannot be found, verified, loaded or warmed up leaves the current one in place.

        Returns:
            Whether it was exchanged.
        """
        if self._find is None or self._load is None:
            return False
        try:
            found = self._find()
            digest = found.files.digest()
            if digest in {self.current.digest, self._refused}:
                return False
            log.info("gml: loading %s (%s)", found.label, digest[:12])
            self._refused = digest
            self.current = self._load(found)
            self._refused = None
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new one, the old one serves
            self.failures += 1
            log.warning("gml: %s stays in service: %s", self.current.label, error)
            return False
        self.swaps += 1
        log.info("gml: %s (%s) is in service", self.current.label, self.current.digest[:12])
        return True

    def watch(self, every: float) -> threading.Thread:
        """Check in a thread, every so many seconds, until `close`."""

        def loop() -> None:
            while not self._stop.wait(every):
                self.check()

        thread = threading.Thread(target=loop, name="gml-model-watch", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
