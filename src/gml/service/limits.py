"""What keys, values and batches may be, with the messages that MLflow's clients know."""

from __future__ import annotations

import json
import posixpath
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gml.service.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_KEY: Final = 250
MAX_PARAM: Final = 6_000
MAX_TAG: Final = 8_000
MAX_EXPERIMENT_TAG: Final = 20_000
MAX_EXPERIMENT_NAME: Final = 500
MAX_LOCATION: Final = 2_048
MAX_METRICS: Final = 1_000
MAX_PARAMS_OR_TAGS: Final = 100
MAX_ENTITIES: Final = 1_000
MAX_DATASETS: Final = 1_000
MAX_INT64: Final = (1 << 63) - 1

_NAME = re.compile(r"[/\w.\- :]*")
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_EXPERIMENT_ID = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
_BAD_CHARACTERS: Final = (
    "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.),"
    " spaces ( ), colon(:) and slashes (/)."
)


class Metric(NamedTuple):
    """A metric point as clients send it; `timestamp` in milliseconds since the epoch."""

    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class Pair(NamedTuple):
    """A param or tag."""

    key: str
    value: str


def invalid_value(path: str, value: Any, more: str = "") -> str:
    """Return the message for a value that is not legal."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"Invalid value {shown} for parameter '{path}' supplied{': ' + more if more else '.'}"


def _too_long(what: str, limit: int) -> ServiceError:
    return ServiceError(f"'{what}' exceeds the maximum length of {limit} characters")


def check_name(name: Any, path: str) -> str:
    """Return a legal param, metric or tag name unchanged."""
    if name is None:
        raise ServiceError(f"Missing value for required parameter '{path}'.")
    if not _NAME.fullmatch(name):
        raise ServiceError(invalid_value(path, name, _BAD_CHARACTERS))
    normal = posixpath.normpath(name)
    if normal != name or normal == "." or normal.startswith(("..", "/")):
        raise ServiceError(
            invalid_value(
                path,
                name,
                "Names may be treated as files in certain cases, and must not resolve to other names"
                f" when treated as such. This name would resolve to {normal!r}",
            )
        )
    return str(name)


def check_text(text: str, path: str) -> str:
    """Return a text that can be stored; halves of surrogate pairs cannot."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ServiceError(invalid_value(path, text, "it is not valid Unicode")) from None
    return text


def metric(point: Metric, path: str = "") -> Metric:
    """Return a legal metric point.

    Args:
        point: as sent.
        path: where it stands in a batch, such as `metrics[3]`.
    """
    at = f"{path}." if path else ""
    key = check_name(point.key, f"{at}name")
    if point.timestamp < 0:
        raise ServiceError(
            invalid_value(
                f"{at}timestamp",
                point.timestamp,
                f"metric '{key}' (value={point.value}). "
                f"Timestamp must be a nonnegative long (64-bit integer) ",
            )
        )
    if len(key) > MAX_KEY:
        raise _too_long("Metric name", MAX_KEY)
    return point


def param(pair: Pair, path: str = "") -> Pair:
    """Return a legal param, cut to the longest value that is kept."""
    check_name(pair.key, f"{path}.key" if path else "key")
    if len(pair.key) > MAX_KEY:
        raise _too_long("Param key", MAX_KEY)
    return Pair(pair.key, check_text(pair.value, "value")[:MAX_PARAM])


def tag(pair: Pair, path: str = "") -> Pair:
    """Return a legal tag of a run, cut to the longest value that is kept."""
    where = f"{path}.key" if path else "key"
    check_name(pair.key, where)
    if len(pair.key) > MAX_KEY:
        raise _too_long(where, MAX_KEY)
    return Pair(pair.key, check_text(pair.value, "value")[:MAX_TAG])


def experiment_tag(pair: Pair) -> Pair:
    """Return a legal tag of an experiment."""
    check_name(pair.key, "key")
    for what, limit, value in (("key", MAX_KEY, pair.key), ("value", MAX_EXPERIMENT_TAG, pair.value)):
        if len(value) > limit:
            raise _too_long(what, limit)
    return Pair(pair.key, check_text(pair.value, "value"))


def experiment_name(name: str) -> str:
    """Return a legal experiment name."""
    if not name:
        raise ServiceError(f"Invalid experiment name: '{name}'")
    if len(name) > MAX_EXPERIMENT_NAME:
        raise _too_long("name", MAX_EXPERIMENT_NAME)
    return check_text(name, "name")


def artifact_location(location: str) -> str:
    """Return a legal artifact location."""
    if len(location) > MAX_LOCATION:
        raise ServiceError(
            "Invalid artifact path length. The length of the artifact path cannot be "
            f"greater than {MAX_LOCATION}."
        )
    if location.startswith("runs:"):
        raise ServiceError(f"Artifact location cannot be a runs:/ URI. Given: '{location}'")
    return check_text(location, "artifact_location")


def run_id(text: str) -> str:
    """Return a legal run id."""
    if not _RUN_ID.fullmatch(text):
        raise ServiceError(invalid_value("run_id", text))
    return text


def experiment_id(text: str) -> str:
    """Return an experiment id, which is a number; none means the default experiment."""
    if not text:
        return "0"
    if not _EXPERIMENT_ID.fullmatch(text):
        raise ServiceError(f"Invalid experiment ID '{text}'. Experiment ID must be a valid integer.")
    return str(int(text))


def batch(
    metrics: Sequence[Metric], params: Sequence[Pair], tags: Sequence[Pair]
) -> tuple[list[Metric], list[Pair], list[Pair]]:
    """Return the legal content of a batch."""
    good = (
        [metric(m, f"metrics[{i}]") for i, m in enumerate(metrics)],
        [param(p, f"params[{i}]") for i, p in enumerate(params)],
        [tag(t, f"tags[{i}]") for i, t in enumerate(tags)],
    )
    total = len(metrics) + len(params) + len(tags)
    for what, limit, count in (
        ("metrics", MAX_METRICS, len(metrics)),
        ("params", MAX_PARAMS_OR_TAGS, len(params)),
        ("tags", MAX_PARAMS_OR_TAGS, len(tags)),
        ("metrics, params, and tags", MAX_ENTITIES, total),
    ):
        if count > limit:
            raise ServiceError(
                f"A batch logging request can contain at most {limit} {what}. "
                f"Got {count} {what}. Please split up {what} across multiple"
                " requests and try again."
            )
    seen: set[str] = set()
    twice = [p.key for p in params if p.key in seen or seen.add(p.key)]  # type: ignore[func-returns-value]
    if twice:
        raise ServiceError(
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure "
            "the request contains only one param value per param key."
        )
    return good
