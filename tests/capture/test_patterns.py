import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gml.domain.errors import UsageError
from gml.tracking.capture.patterns import MetricPattern


@pytest.mark.parametrize(
    ("regex", "line", "expected"),
    [
        (
            r"(?P<key>\w+) is (?P<value>\S+)",
            "loss is low, acc is 0.9",
            [("acc", 0.9, None)],
        ),
        (
            r"#(?P<step>\d+) (?P<key>\w+)=(?P<value>\S+)",
            "#3 loss=0.2 #4 loss=0.1",
            [("loss", 0.2, 3), ("loss", 0.1, 4)],
        ),
        (r"(\w+)=([\d.]+)", "a=1 b=2.5", [("a", 1.0, None), ("b", 2.5, None)]),
        (r"acc=accuracy is (\d+)%", "accuracy is 91%", [("acc", 91.0, None)]),
        (r"acc=(\d+)%", "accuracy is 91%", [("acc", 91.0, None)]),
        (r"acc=step (?P<step>\d+): (?P<value>[\d.]+)", "step 4: 0.5", [("acc", 0.5, 4)]),
        (r"loss=([0-9.]+)", "epoch 3 loss=0.2", [("loss", 0.2, None)]),
        (r"loss=([0-9.]+)", "epoch 3", []),
        (r"loss=([^]()]+)", "loss=0.5", [("loss", 0.5, None)]),
        (r"val/loss=val ([\d.]+)", "val 1.5", [("val/loss", 1.5, None)]),
        (r"x=v (\S+)", "v nan", [("x", math.nan, None)]),
        (r"x=v (\S+)", "v fast", []),
        (r"(\w+)=(\d+)?", "a= b=2", [("b", 2.0, None)]),
        (r"(\S+)=(\d+)", "../a=1 b!=2", [("b_", 2.0, None)]),
    ],
)
def test_regex(regex, line, expected):
    found = MetricPattern(regex).feed(line)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("metric: 0.91", [("metric", 0.91, None)]),
        ("loss=0.12", [("loss", 0.12, None)]),
        ("loss = -1.2e-3 acc :  .5\n", [("loss", -0.0012, None), ("acc", 0.5, None)]),
        ("epoch 3/10: loss=0.12, val/acc: 91%", [("loss", 0.12, 3), ("val/acc", 91.0, 3)]),
        ("Epoch [2] step: 40 loss: 0.5.", [("loss", 0.5, 40)]),
        ("{'loss': 0.5, 'eval_acc': 0.9, 'epoch': 2}", [("loss", 0.5, 2), ("eval_acc", 0.9, 2)]),
        ('{"loss": 0.5, "epoch": 0.35}', [("loss", 0.5, None)]),
        ("[train] (loss=1) |acc=2|", [("loss", 1.0, None), ("acc", 2.0, None)]),
        ("loss: nan", [("loss", math.nan, None)]),
        ("loss: -inf", [("loss", -math.inf, None)]),
        ("\x1b[32mloss\x1b[0m: \x1b[1m0.5\x1b[0m", [("loss", 0.5, None)]),
        (" 10%|# | loss=0.9\r100%|##| loss=0.1\r\n", [("loss", 0.1, None)]),
        ("2024-01-02 10:20:30 INFO: 5 at localhost:8080 port: 80", []),
        ("version=1.2.3 size: 10MB eta=00:12 nanotime=nanosecond", []),
        ("see http://x/?a=1 and path/to=x", []),
        ("", []),
    ],
)
def test_auto(line, expected):
    assert repr(MetricPattern("auto").feed(line)) == repr(expected)


@pytest.mark.parametrize(
    ("regex", "words"),
    [
        ("loss: (", "position 6"),
        ("loss=x (", "position 7"),
        ("loss=([0-9", "position 6"),
        (r"loss: (\d+)", "does not say"),
        ("loss", "does not say"),
        ("", "does not say"),
        (r"(?P<key>\w+)", "does not say"),
        (r"(?P<value>\w+)", "does not say"),
        (r"x=(?:\d+)", "does not say"),
        (r"a//b=x(\d+)", "not a valid metric name"),
    ],
)
def test_bad_regex(regex, words):
    with pytest.raises(UsageError, match=words):
        MetricPattern(regex)


def test_long_lines_are_bounded():
    pattern = MetricPattern("auto")
    assert pattern.feed("x" * 9_995 + " a=1 b=2") == [("a", 1.0, None)]
    assert pattern.feed("a=" * 5_000_000) == []
    assert repr(pattern) == "MetricPattern('auto')"


@given(st.text() | st.text(st.sampled_from("a1=:. ,-/'epochstep[]%"), max_size=60))
def test_auto_never_raises(line):
    for key, value, step in MetricPattern("auto").feed(line):
        assert key
        assert isinstance(value, float)
        assert step is None or step >= 0


@given(st.text(st.sampled_from("a=()[]\\?P<value>:1+*|"), max_size=15))
def test_regex_is_taken_or_refused(text):
    try:
        pattern = MetricPattern(text)
    except UsageError:
        return
    pattern.feed("a=1 b=2")
