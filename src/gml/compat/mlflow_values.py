"""How MLflow's stores write what gml calls otherwise."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Final

from gml.domain.metrics import number_to_json
from gml.domain.run import FAILED, FINISHED, RUNNING

if TYPE_CHECKING:
    from collections.abc import Mapping

_GREATEST: Final = sys.float_info.max
# File stores have numbers, databases and REST have names.
STATUS: Final[dict[Any, str]] = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_MODEL_STATUS: Final[dict[Any, str]] = {
    1: RUNNING, 2: FINISHED, 3: FAILED,
    "PENDING": RUNNING, "READY": FINISHED, "UPLOAD_FAILED": FAILED,
}  # fmt: skip
_FACTS: Final = (
    "current_stage", "run_id", "model_id", "source", "storage_location", "status", "status_message",
    "user_id", "run_link", "creation_timestamp", "last_updated_timestamp",
)  # fmt: skip


def text_of(value: Any) -> str:
    """Return a value as text, empty for None."""
    return "" if value is None else str(value)


def unclip(value: float) -> float:
    """Return a value as it was logged: databases of MLflow keep infinities as the greatest finite numbers.

    Example:
        >>> unclip(-1.7976931348623157e308), unclip(1.5)
        (-inf, 1.5)
    """
    return math.copysign(math.inf, value) if abs(value) == _GREATEST else value


def model_status(value: Any) -> str:
    """Return the status that a logged model's record has in gml.

    Example:
        >>> model_status(2), model_status("LOGGED_MODEL_READY"), model_status(None)
        ('FINISHED', 'FINISHED', 'RUNNING')
    """
    if isinstance(value, str):
        value = int(value) if value.isdigit() else value.removeprefix("LOGGED_MODEL_")
    return _MODEL_STATUS.get(value, RUNNING)


def model_outputs(
    key: str, value: float, timestamp: int, step: int, run_id: str | None,
    name: str | None = None, digest: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the entry that says what a run found of a logged model."""
    entry = {
        "metric": key, "value": number_to_json(value), "timestamp": timestamp, "step": step,
        "run_id": run_id, "dataset_name": name, "dataset_digest": digest,
    }  # fmt: skip
    return {key: value for key, value in entry.items() if value is not None}


def version_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return what another registry said about a version, as text."""
    return {key: text_of(facts[key])[:4_000] for key in _FACTS if facts.get(key) not in {None, ""}}
