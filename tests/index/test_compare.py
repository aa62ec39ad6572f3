from hypothesis import given
from hypothesis import strategies as st

from gml.domain.metrics import MetricSummary
from gml.domain.run import Artifact, Run
from gml.index.compare import diff_artifacts, diff_environment, diff_maps, diff_metrics, varying

NAN = float("nan")


def run(name, params=None, metrics=None):
    return Run(
        name,
        "0",
        name,
        "u",
        "FINISHED",
        0,
        1,
        params=params or {},
        metrics={k: MetricSummary.first(0, 0, v) for k, v in (metrics or {}).items()},
    )


def test_varying_params():
    runs = [
        run(
            "a",
            {"lr": "1", "seed": "1", "same": "x", "path": "/a/very/long/path/to/some/file-1", "rare": "y"},
        ),
        run("b", {"lr": "2", "seed": "2", "same": "x", "path": "/a/very/long/path/to/some/file-2"}),
        run("c", {"lr": "2", "seed": "3", "same": "x", "path": "/a/very/long/path/to/some/file-3"}),
    ]
    assert varying(runs, "params") == ["seed", "lr", "path", "rare"]
    assert varying(runs[:1], "params") == []
    assert varying([], "params") == []
    assert varying(runs[1:], "metrics") == []


def test_varying_metrics():
    runs = [
        run("a", metrics={"auc": 1.0, "loss": NAN, "system/cpu": 1.0, "const": 3.0, "one": 0.0}),
        run("b", metrics={"auc": 2.0, "loss": NAN, "system/cpu": 2.0, "const": 3.0}),
    ]
    assert varying(runs, "metrics") == ["auc", "one", "system/cpu"]


def test_maps():
    assert diff_maps({"b": "1", "a": "1", "k": "5"}, {"a": "2", "b": "1", "d": "3"}) == {
        "changed": {"a": ["1", "2"]},
        "only_a": {"k": "5"},
        "only_b": {"d": "3"},
    }


def metrics(**values):
    return {key: MetricSummary.first(0, 0, value) for key, value in values.items()}


def test_metrics():
    out = diff_metrics(
        metrics(auc=0.5, loss=NAN, same=1.0, x=NAN, gone=1.0), metrics(auc=0.75, loss=NAN, same=1.0, x=2.0)
    )
    assert out["changed"]["auc"] == [0.5, 0.75]
    assert list(out["changed"]) == ["auc", "x"]
    assert out["delta"] == {"auc": 0.25}
    assert out["only_a"] == {"gone": 1.0}


def test_artifacts_differ_by_digest_only():
    out = diff_artifacts(
        {"same": Artifact("aa", 1, "git"), "m": Artifact("bb", 2), "old": Artifact("cc", 3)},
        {"same": Artifact("aa", 1, "cas"), "m": Artifact("dd", 2)},
    )
    assert list(out["changed"]) == ["m"]
    assert out["changed"]["m"][1] == {"sha256": "dd", "size": 2}
    assert list(out["only_a"]) == ["old"]


def test_environments():
    a = {
        "python": {"version": "3.11.7"},
        "platform": {"system": "Linux"},
        "packages": {"numpy": "1.26", "gone": "1"},
    }
    b = {
        "python": {"version": "3.12.1"},
        "platform": {"error": "OSError: x"},
        "packages": {"numpy": "2.1", "new": "3"},
    }
    assert diff_environment(a, b) == {
        "python": {"changed": {"version": ["3.11.7", "3.12.1"]}, "only_a": {}, "only_b": {}},
        "platform": {"changed": {}, "only_a": {"system": "Linux"}, "only_b": {}},
        "packages": {"added": {"new": "3"}, "removed": {"gone": "1"}, "changed": {"numpy": ["1.26", "2.1"]}},
    }
    assert diff_environment({}, {})["packages"] == {"added": {}, "removed": {}, "changed": {}}


@given(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xyz")),
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xyz")),
)
def test_a_difference_leads_from_one_map_to_the_other(a, b):
    out = diff_maps(a, b)
    patched = {k: v for k, v in a.items() if k not in out["only_a"]}
    patched |= {k: after for k, (_, after) in out["changed"].items()} | out["only_b"]
    assert patched == b
    mirrored = diff_maps(b, a)
    assert mirrored["only_a"] == out["only_b"]
    assert diff_maps(a, a) == {"changed": {}, "only_a": {}, "only_b": {}}
