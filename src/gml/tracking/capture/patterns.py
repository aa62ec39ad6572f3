"""Metrics from what a script prints, for `gml log --capture REGEX`."""

from __future__ import annotations

import re
import warnings

from gml.domain.errors import UsageError
from gml.tracking.capture.keys import clean_key

MAX_LINE = 10_000
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf|infinity)\b"
# A key starts with a letter after white space, a bracket, a quote or a separator; `:` wants white space
# behind it (or host:8080 would be a metric); the number must end where a word or sentence ends.
_AUTO = re.compile(
    r"(?:^|(?<=[\s,;|({\[\"']))"
    r"(?P<key>[A-Za-z_][\w./\-]*)[\"']?(?:\s?=\s?|\s?:\s+)"
    rf"(?P<value>{_NUMBER})(?=$|[\s,;|)}}\]%\"']|\.(?:\s|$))",
    re.IGNORECASE,
)
_AUTO_STEP = re.compile(
    r"(?<![\w./\-])(?P<name>global_step|step|iteration|iter|epoch)[\"']?[\s:=#\[]{1,4}(?P<step>\d{1,15})(?!\w|\.\d)",
    re.IGNORECASE,
)
_STEP_KEYS = frozenset({"global_step", "step", "iteration", "iter", "epoch"})
_LEVELS = frozenset({"debug", "info", "warning", "warn", "error", "critical", "fatal", "line", "pid", "port"})
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NAMED = re.compile(r"([A-Za-z_][\w./\- ]*)=(.+)", re.DOTALL)


class MetricPattern:
    r"""What to take from a line of output as metrics.

    Args:
        regex: one of

            - a regular expression with groups named `key`, `value` and perhaps `step`;
            - one with two groups, the key and the value;
            - `name=REGEX`, where REGEX has one group (or one named `value`), the value of metric `name`.
              A REGEX that is nothing but a group would find any number anywhere, so `loss=([0-9.]+)` means
              what it looks like: the text `loss=` followed by the value;
            - the word `auto`.

            Every match in a line counts; a value that is no number is passed over.

    `auto` takes `key=0.12` and `key: 0.91` (white space is needed after a colon, one blank allowed before
    it and around `=`): the key starts with a letter, goes on with letters, digits and `_ . / -`, may be
    quoted, and is not a log level, `line`, `pid` or `port`; the number (also nan and inf) is followed by
    white space, the end, one of `, ; | ) } ] % ' "`, or a full stop. A `step`, `iteration` or `epoch` in
    the line (`epoch 3/10`, `step: 5`, `'epoch': 2`) is the step of its metrics and not a metric; the
    first name of `global_step`, `step`, `iteration`, `iter`, `epoch` that is there wins. Of a percentage the
    number is taken as it stands.

    Raises:
        UsageError: the expression is wrong, with the position, or its groups do not say key and value.

    Example:
        >>> MetricPattern("auto").feed("epoch 3: loss=0.12, acc: 0.91")
        [('loss', 0.12, 3), ('acc', 0.91, 3)]
        >>> MetricPattern(r"acc=accuracy is (\d+)%").feed("accuracy is 91%")
        [('acc', 91.0, None)]
    """

    def __init__(self, regex: str) -> None:
        self.source = regex
        self._auto = regex == "auto"
        self._name: str | None = None
        self._key: str | int = "key"
        self._value: str | int = "value"
        self._regex = _AUTO if self._auto else self._read(regex)

    def __repr__(self) -> str:
        return f"MetricPattern({self.source!r})"

    def feed(self, line: str) -> list[tuple[str, float, int | None]]:
        """Return `(key, value, step or None)` for each match in a line of output.

        Colour codes are taken off, of a progress bar (parts separated by carriage returns) the last state
        counts, and only the first 10,000 characters of it are looked at.
        """
        line = line.rstrip("\r\n").rpartition("\r")[2][:MAX_LINE]
        line = _COLOURS.sub("", line) if "\x1b" in line else line
        common = _auto_step(line) if self._auto else None
        found = []
        for match in self._regex.finditer(line):
            name = self._name if self._name is not None else match[self._key]
            key = clean_key(name) if name else None
            value = _float(match[self._value])
            if key is None or value is None:
                continue
            if self._auto and (key.lower() in _STEP_KEYS or key.lower() in _LEVELS):
                continue
            found.append((key, value, common if self._auto else _step(match)))
        return found

    def _read(self, text: str) -> re.Pattern[str]:
        named = _NAMED.fullmatch(text)
        if named is not None and not _is_one_group(named[2]):
            # Groups decide: in `(?P<key>..)=..` and `loss=(a)(b)` the part before `=` is no name.
            offset = named.start(2)
            inner = _compile(named[2], text, offset)
            if self._takes_value_only(inner):
                self._name = self._valid_name(named[1])
                return inner
        whole = _compile(text, text, 0)
        groups = whole.groupindex
        if "key" in groups and "value" in groups:
            return whole
        if named is not None and self._takes_value_only(whole):
            self._name = self._valid_name(named[1])
            return whole
        if not groups and whole.groups >= 2:
            self._key, self._value = 1, 2
            return whole
        raise UsageError(
            f"--capture {text!r} does not say which part is the metric and which its value",
            hint="use groups (?P<key>...) and (?P<value>...), two groups, or name=REGEX with one group",
        )

    def _takes_value_only(self, regex: re.Pattern[str]) -> bool:
        if "value" in regex.groupindex:
            self._value = "value"
            return "key" not in regex.groupindex
        self._value = 1
        if regex.groups == 1 and not regex.groupindex:
            return True
        self._value = "value"
        return False

    def _valid_name(self, name: str) -> str:
        key = clean_key(name)
        if key != name.strip():
            raise UsageError(f"--capture: {name!r} is not a valid metric name")
        return key


def _compile(part: str, text: str, offset: int) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():
            # "Possible nested set": about a future Python, and of no use to who runs a training.
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(part)
    except re.error as error:
        position = offset + (error.pos or 0)
        raise UsageError(
            f"--capture {text!r} is not a regular expression: {error.msg} at position {position}",
            hint="quote it for the shell; \\( stands for a bracket itself",
        ) from error
    except (RecursionError, OverflowError) as error:
        raise UsageError("--capture: the regular expression is too large") from error


def _is_one_group(regex: str) -> bool:
    """Whether a bracket opens at the start and the one that closes it is the end."""
    if not regex.startswith("("):
        return False
    depth = 0
    in_class = False
    position = 0
    while position < len(regex):
        letter = regex[position]
        if letter == "\\":
            position += 1
        elif in_class:
            in_class = letter != "]"
        elif letter == "[":
            in_class = True
            # A bracket that stands first in a class is a member of it.
            position += len(re.match(r"\[\^?\]?", regex[position:])[0]) - 1  # type: ignore[index]
        elif letter in "()":
            depth += 1 if letter == "(" else -1
            if depth == 0:
                return position == len(regex) - 1
        position += 1
    return False


def _auto_step(line: str) -> int | None:
    found = {match["name"].lower(): int(match["step"]) for match in reversed([*_AUTO_STEP.finditer(line)])}
    for name in ("global_step", "step", "iteration", "iter", "epoch"):
        if name in found:
            return found[name]
    return None


def _step(match: re.Match[str]) -> int | None:
    if "step" not in match.re.groupindex:
        return None
    number = _float(match["step"])
    return int(number) if number is not None and abs(number) < 2**63 else None


def _float(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
