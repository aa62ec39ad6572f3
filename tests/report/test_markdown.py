"""The Markdown fits a comment whatever it is about, is whole, and holds user text as text."""

import html
import re

import pytest
from hostile import CORPUS
from hypothesis import given, settings
from hypothesis import strategies as st

from gml.domain.metrics import MetricSummary
from gml.domain.run import HistoryPart, Run
from gml.tracking.report.markdown import LIMIT, length, markdown
from gml.tracking.report.sections import Report
from gml.tracking.report.text import in_html, in_markdown, visible


class NoReader:
    """A reader of runs that have everything in their records."""

    def __init__(self):
        self.live = {}


def made(run_id, params=(), metrics=(), tags=(), name="n"):
    summaries = {}
    inline = {}
    for key, values in dict(metrics).items():
        summary = MetricSummary.first(0, 0, values[0])
        for step, value in enumerate(values[1:], 1):
            summary.add(step, 0, value)
        summaries[key] = summary
        inline[key] = [[step, 0, value] for step, value in enumerate(values)]
    return Run(
        run_id, "0", name, "u", "FINISHED", 0, 1, params=dict(params), tags=dict(tags), metrics=summaries,
        history=(HistoryPart("", inline),),
    )  # fmt: skip


def report(*runs, patch="", **more):
    out = Report(NoReader(), runs, **more)
    # Code is read from git, which other tests do: here it is given.
    out.__dict__["codes"] = [{"changed": {}, "only_a": {}, "only_b": {}, "patch": patch}] * (len(runs) - 1)
    out._files = dict
    return out


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.setattr("gml.tracking.report.sections.environment_facts", lambda reader, run: {})


CELL = re.compile(r"(?<!\\)\|")


def check(text):
    """Check that every table is rectangular, every fence and every `details` is closed."""
    fence, width, details = None, None, 0
    for line in text.split("\n"):
        if fence is not None:
            if re.fullmatch(f"`{{{len(fence)},}}", line):
                fence = None
            continue
        opened = re.match(r"(`{3,})diff$", line)
        if opened:
            fence = opened[1]
            assert details == 1
            continue
        if line.startswith("|"):
            cells = len(CELL.findall(line))
            assert width in {None, cells}, line
            width = cells
            continue
        assert width is None or line == "", f"a table runs into {line!r}"
        width = None
        details += line.count("<details>") - line.count("</details>")
        assert details in {0, 1}
    assert fence is None
    assert details == 0
    # The only tags are ours, and there are no links, mentions or entities that hosts would act on.
    outside = re.sub(r"(?ms)^(`{3,})diff$.*?^\1$", "", text)
    assert set(re.findall(r"</?([a-zA-Z]+)[^>]*>", outside)) <= {"code", "details", "summary", "em"}
    plain = re.sub(r"<code>[^<]*</code>", "", outside)
    assert "@" not in plain
    assert "http" not in plain
    inside = "".join(re.findall(r"<code>([^<]*)</code>", outside))
    assert not set(re.sub("&#[0-9]+;", "", inside)) & set("<>|`*_[]@:~$\n\\")


def test_everything_is_there(train, cli, repo):
    a = train("a", {"lr": "1"}, {"loss": [3, 2, 1]}, {"auc": 0.5}, inputs=[[{"x": 1}]])
    repo.commit("two", **{"train.py": "print(2)\n"})
    from gml.tracking import source

    source._captured.clear()
    b = train("b", {"lr": "2"}, {"loss": [1, 2, 3]}, {"auc": 0.75}, inputs=[[{"x": 2}]])
    text = cli("diff", a, b, "--markdown", "--champion", "metrics.auc").out
    check(text)
    titles = re.findall("^#+ (.*)$", text, re.MULTILINE)
    assert titles == ["2 runs compared", "Metrics", "Curves", "Params", "Data", "Code", "Files that differ"]
    assert "★ <code>b</code> has the greatest <code>auc</code>: 0.75" in text
    assert "| <code>auc</code> | 0.75 | 0.5 (-0.25) |" in text
    assert "| <code>loss</code> | ▁▅█ 3 | █▅▁ 1 |" in text
    assert "| <code>lr</code> | <code>2</code> | <code>1</code> |" in text
    assert "<details><summary>Code of <code>a</code>: 1 file, +1 -1</summary>" in text
    assert "\n-print(2)\n+print('training')\n" in text
    assert "```" not in cli("diff", a, b, "--markdown", "--stat").out
    assert "Params" not in cli("diff", a, b, "--markdown", "--only", "metrics").out


def test_what_does_not_fit_is_cut_between_rows_and_said():
    params = {f"param{n}": "v" * 100 for n in range(5_000)}
    other = {key: f"w{value}" for key, value in params.items()}
    metrics = {f"m{n}": [n, n + 1] for n in range(3_000)}
    worse = {key: [value + 1 for value in values] for key, values in metrics.items()}
    hunk = "".join(f"+line {n} ```` of code\n" for n in range(50_000))
    patch = f"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -0,0 +1,50000 @@\n{hunk}"
    text = markdown(report(made("a1", params, metrics), made("b2", other, worse), patch=patch))
    check(text)
    assert LIMIT - 2_000 < length(text) <= LIMIT
    assert re.search(r"_[\d,]+ of 5,000 rows are left out; `gml diff --only params` shows all_", text)
    assert re.search(r"_[\d,]+ of 50,004 lines of the code's diff are left out", text)
    assert "`````diff" in text


@pytest.mark.parametrize("count", [2, 9, 300])
def test_many_runs_fit(count):
    runs = [
        made(f"r{n:03}", {f"p{k}": str(n * k) for k in range(300)}, {"m": [n, n + 1]}, name="x" * 250)
        for n in range(count)
    ]
    text = markdown(report(*runs, patch="diff --git a/x b/x\n" + "+x\n" * 9_000))
    check(text)
    assert length(text) <= LIMIT
    assert ("runs are left out" in text) == (count > 8)


def test_text_of_the_user_stays_text():
    params = dict(zip(CORPUS, reversed(CORPUS), strict=True)) | {text: text for text in CORPUS}
    runs = [made(f"r{n}", params | {"x": str(n)}, name=text) for n, text in enumerate(CORPUS[:8])]
    runs.append(made("last", dict.fromkeys(params, "other"), {key: [1, 2] for key in CORPUS}, CORPUS and {}))
    patch = "diff --git a/x b/x\n@@ -0,0 +1,99 @@\n" + "".join(
        f"+{line}\n" for text in CORPUS for line in text.split("\n")
    )
    for everything in (False, True):
        text = markdown(report(*runs, patch=patch, everything=everything))
        text.encode()
        check(text)
        text = markdown(report(runs[-1], runs[0], patch=patch, everything=everything))
        text.encode()
        check(text)


texts = st.text(max_size=30) | st.sampled_from(CORPUS)


@given(
    st.lists(st.tuples(texts, st.dictionaries(texts, texts, max_size=8)), min_size=2, max_size=4),
    st.text(alphabet="`+-@ \n<a|", max_size=400),
    st.integers(1_000, 4_000),
)
@settings(max_examples=40, deadline=None)
def test_any_text_in_any_room(runs, patch, limit):
    found = [made(f"r{n}", params, name=name) for n, (name, params) in enumerate(runs)]
    text = markdown(report(*found, patch=f"diff --git a/x b/x\n@@ -1 +1 @@\n{patch}"), limit)
    assert length(text) <= limit
    text.encode()
    check(text)


@given(st.text() | st.sampled_from(CORPUS))
@settings(deadline=None)
def test_escaped_text_reads_as_the_text(text):
    shown = in_markdown(text, 1_000).removeprefix("<code>").removesuffix("</code>")
    plain = visible(text).replace("\r", "").replace("\n", "⏎").replace("\t", " ")
    assert html.unescape(shown) == (plain if text else "<em>empty</em>") or len(plain) > 1_000 or not text
    assert html.unescape(in_html(text, 10_000)) == plain
