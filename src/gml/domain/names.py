"""Names and limits, as MLflow has them, and made-up names for runs without one."""

from __future__ import annotations

import math
import posixpath
import re
from typing import Any, Final

from gml.domain.errors import InvalidValueError

MAX_KEY: Final = 250
MAX_PARAM_VALUE: Final = 6_000
MAX_TAG_VALUE: Final = 8_000
MAX_EXPERIMENT_NAME: Final = 500
MAX_RUN_NAME: Final = 250
MAX_STEP: Final = (1 << 63) - 1

TAG_PARENT: Final = "mlflow.parentRunId"
TAG_NOTE: Final = "mlflow.note.content"
TAG_LOST: Final = "gml.lost"
TAG_RUN_NAME: Final = "mlflow.runName"

_KEY = re.compile(r"[/\w.\- :]*")


def check_key(key: Any, what: str) -> str:
    r"""Return a legal param, metric or tag key unchanged.

    Args:
        key: what the user gave.
        what: `param`, `metric` or `tag`, for the message.

    Raises:
        InvalidValueError: not text, empty, longer than 250, outside `[/\w.\- :]`, or not a plain
            relative path.

    Example:
        >>> check_key("train/auc", "metric")
        'train/auc'
    """
    if not isinstance(key, str):
        raise InvalidValueError(f"a {what} key must be text, not {type(key).__name__}")
    if not key:
        raise InvalidValueError(f"a {what} key must not be empty")
    if len(key) > MAX_KEY:
        raise InvalidValueError(
            f"{what} key {key[:40]!r}... has {len(key)} characters, the limit is {MAX_KEY}"
        )
    if not _KEY.fullmatch(key):
        raise InvalidValueError(
            f"{what} key {key!r} has characters that keys may not have",
            hint="letters, digits, _ - . / : and spaces are allowed",
        )
    normal = posixpath.normpath(key)
    if normal != key or normal == "." or normal.startswith(("..", "/")):
        raise InvalidValueError(
            f"{what} key {key!r} is not a plain relative path",
            hint=f"use {normal.lstrip('./') or 'a name'!r}",
        )
    return key


def check_value(value: Any, what: str, limit: int) -> str:
    """Return a param or tag value as text.

    Raises:
        InvalidValueError: the text is longer than the limit, or cannot be written as UTF-8.
    """
    text = value if isinstance(value, str) else str(value)
    if len(text) > limit:
        raise InvalidValueError(
            f"this {what} value has {len(text)} characters, the limit is {limit}",
            hint="log long text as an artifact: log_text(...)",
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidValueError(f"this {what} value is not valid Unicode") from None
    return text


def check_metric_value(value: Any, key: str) -> float:
    """Return a metric value as float; NaN and infinities are legal, bool and text are not."""
    if type(value) is float:
        return value
    # Also the booleans of numpy and torch.
    if isinstance(value, (bool, str, bytes)) or str(getattr(value, "dtype", "")).endswith("bool"):
        raise InvalidValueError(f"metric {key!r} must be a number, not {type(value).__name__} {value!r:.60}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError, RuntimeError):
        raise InvalidValueError(f"metric {key!r} must be a number, not {type(value).__name__}") from None


def check_integer(value: Any, what: str) -> int:
    """Return a step or timestamp as a 64-bit integer."""
    if isinstance(value, bool):
        raise InvalidValueError(f"{what} must be an integer, not bool")
    try:
        number = value.__index__() if not isinstance(value, float) or not value.is_integer() else int(value)
    except AttributeError:
        raise InvalidValueError(
            f"{what} must be an integer, not {type(value).__name__} {value!r:.60}"
        ) from None
    if not -MAX_STEP <= number <= MAX_STEP:
        raise InvalidValueError(f"{what} {number} does not fit into 64 bits")
    return int(number)


def check_experiment_name(name: Any) -> str:
    """Return a legal experiment name unchanged."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidValueError("an experiment name must be text and not empty")
    if len(name) > MAX_EXPERIMENT_NAME:
        raise InvalidValueError(
            f"an experiment name has at most {MAX_EXPERIMENT_NAME} characters, not {len(name)}"
        )
    if not _is_plain_text(name):
        raise InvalidValueError(f"experiment name {name!r} has control characters or is not valid Unicode")
    return name


def check_run_name(name: Any) -> str:
    """Return a legal run name unchanged."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidValueError("a run name must be text and not empty")
    if len(name) > MAX_RUN_NAME:
        raise InvalidValueError(f"a run name has at most {MAX_RUN_NAME} characters, not {len(name)}")
    if not _is_plain_text(name):
        raise InvalidValueError(f"run name {name!r} has control characters or is not valid Unicode")
    return name


def check_artifact_path(path: Any) -> str:
    """Return a legal artifact path: relative, forward slashes, no `.` or `..` parts, no control characters.

    Example:
        >>> check_artifact_path("model/weights.bin")
        'model/weights.bin'
    """
    if not isinstance(path, str):
        raise InvalidValueError(f"an artifact path must be text, not {type(path).__name__}")
    parts = path.split("/")
    if not path or any(part in {"", ".", ".."} for part in parts) or len(path) > 4_000:
        raise InvalidValueError(f"artifact path {path!r:.200} is not a plain relative path")
    if "\\" in path or not _is_plain_text(path):
        raise InvalidValueError(f"artifact path {path!r:.200} has characters that no system shares")
    return path


_IGNORED = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")


def check_restorable(path: str) -> str:
    """Return a legal artifact path that may also be written below any folder of the user's.

    A file of somebody else's run must not land in the `.git` of a repository, whose configuration can
    name programs to run; nor under a name that some file system takes for that.

    Example:
        >>> check_restorable("model/.GIT/config")
        Traceback (most recent call last):
        gml.domain.errors.InvalidValueError: artifact path 'model/.GIT/config' leads into a git directory
    """
    for part in check_artifact_path(path).split("/"):
        plain = _IGNORED.sub("", part).partition(":")[0].rstrip(". ").casefold()
        if plain in {".git", "git~1"}:
            raise InvalidValueError(f"artifact path {path!r:.200} leads into a git directory")
    return path


def _is_plain_text(text: str) -> bool:
    """Whether there are neither control characters nor halves of surrogate pairs."""
    return not any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in text)


_ADJECTIVES = (
    "amber", "brisk", "calm", "clever", "crisp", "daring", "eager", "early", "fair", "fleet", "fresh",
    "gentle", "golden", "grand", "hardy", "honest", "humble", "keen", "kind", "lively", "loyal", "lucid",
    "mellow", "merry", "mild", "modest", "nimble", "noble", "patient", "placid", "plucky", "polite",
    "prime", "proud", "quick", "quiet", "ready", "robust", "rustic", "sharp", "silent", "silver",
    "smooth", "sober", "spry", "steady", "stout", "sunny", "swift", "tidy", "vivid", "warm", "wise", "witty",
)  # fmt: skip
_NOUNS = (
    "alder", "badger", "beech", "bison", "bream", "cedar", "condor", "crane", "curlew", "dingo", "egret",
    "falcon", "fern", "finch", "gecko", "gull", "hare", "hazel", "heron", "ibex", "ibis", "jay", "kestrel",
    "larch", "lark", "lemur", "lynx", "magpie", "maple", "marten", "mole", "moose", "newt", "ocelot",
    "orca", "osprey", "otter", "owl", "perch", "pike", "pine", "plover", "puffin", "quail", "raven",
    "robin", "rowan", "seal", "shrew", "stoat", "stork", "swan", "tapir", "teal", "tern", "trout", "vole",
    "walnut", "weasel", "willow", "wren", "yew",
)  # fmt: skip


def made_up_name(run_id: str) -> str:
    """Return the name a run gets when nobody gave one; the same id always gives the same name.

    Example:
        >>> made_up_name("01983c1f2ab470008000000000000000")
        'amber-alder-0'
    """
    seed = int.from_bytes(run_id[-12:].encode()) if not run_id[-12:].isalnum() else int(run_id[-12:], 36)
    seed, number = divmod(seed, 1000)
    seed, noun = divmod(seed, len(_NOUNS))
    return f"{_ADJECTIVES[seed % len(_ADJECTIVES)]}-{_NOUNS[noun]}-{number}"


_LOWER: Final = re.compile(
    r"(?:^|[^a-z])(?:loss|err|error|errors|mse|rmse|mae|mape|smape|perplexity|ppl|nll|logloss|wer|cer|fid|"
    r"regret|latency|duration|seconds|ms|time|cost|bytes|memory)(?:$|[^a-z])"
)


def lower_is_better(metric: str) -> bool:
    """Whether a metric's name tells that less of it is better: losses, errors, times, costs, sizes.

    Example:
        >>> lower_is_better("val_loss"), lower_is_better("auc")
        (True, False)
    """
    return _LOWER.search(metric.lower()) is not None
