"""Rules of the policy room that no attack on a server reaches, and a few laws."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gml.domain.errors import InvalidValueError
from gml.policy import canonical, names, records, refs, rules, sshsig
from gml.policy.errors import RefusedError
from gml.policy.yaml_subset import load

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIllllllllllllllllllllllllllllllllllllllllll"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-canonical.MAX_INT, canonical.MAX_INT) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(texts, values, max_size=4))
def test_what_is_written_is_read_again(document):
    assert canonical.decode(canonical.encode(document), "x") == document


@given(st.dictionaries(texts, values, min_size=1, max_size=3), st.data())
def test_no_other_spelling_is_read(document, data):
    good = canonical.encode(document)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + data.draw(st.sampled_from([b" ", b"\n", b"\t"])) + good[at:]
    with contextlib.suppress(RefusedError):
        # a blank within a text is another document, not another spelling
        assert canonical.decode(bad, "x") != document


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (names.check_model, "churn.v2-eu", "-x"),
        (names.check_stage, "Production", "latest"),
        (names.check_alias, "champion", "v4"),
        (names.check_person, "alice", "Alice"),
    ],
)
def test_names_are_checked(check, good, bad):
    assert check(good) == good
    with pytest.raises(InvalidValueError):
        check(bad)


@pytest.mark.parametrize("name", [1, None, "", "a" * 101, "a..b", "a.git", "git~1x", "COM1.txt", "nul"])
def test_what_is_no_model_name(name):
    assert not names.is_model(name)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a: [1", "not YAML"),
        (b"- a\n", "not a mapping"),
        (b"? [a]\n: b\n", "not text"),
        (b"<<: {a: b}\n", "not text"),
        (b"a: " + b"[" * 8 + b"]" * 8, "deeper"),
        (b"a: " + b"x" * 70_000, "limit"),
        (b"", "not a mapping"),
    ],
)
def test_yaml_that_is_refused(data, said):
    with pytest.raises(RefusedError, match=said):
        load(data, "policy.yaml")


def test_scalars_mean_what_they_look_like():
    text = b'a: true\nb: null\nc: 12\nd: no\ne: 1.5\nf: 2026-01-01\ng: "12"\nh: 012\ni: |\n  12\nj:\n'
    assert load(text, "x") == {
        "a": True, "b": None, "c": 12, "d": "no", "e": "1.5", "f": "2026-01-01", "g": "12", "h": "012", "i": "12\n",
        "j": "",
    }  # fmt: skip


GOOD = f"""format: gml-policy 1
version: 1
prev: null
repo: 0123456789abcdef0123456789abcdef
people:
  alice:
    keys: [{KEY}]
admins: {{people: [alice], threshold: 1}}
stages: {{}}
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("version: 1", "version: x"), "whole number"),
        (("prev: null", "prev: abc"), "prev must be null"),
        (("version: 1", "version: 2"), "prev must be null"),
        (("gml-policy 1", "gml-policy 2"), "format is"),
        (("repo: 0", "repo: x"), "32 hexadecimal"),
        (("stages: {}\n", ""), "lacks 'stages'"),
        (("stages: {}", "stages: []"), "not a mapping"),
        (("stages: {}", "stages: {A: {cheks: []}}"), "did you mean 'checks'"),
        (("stages: {}", "stages: {A: {xyz: []}}"), "known are"),
        (("stages: {}", "stages: {A: {checks: x}}"), "list of texts"),
        (("stages: {}", "stages: {A: {formats: [x]}}"), "formats has"),
        (("stages: {}", "stages: {A: {formats: []}}"), "nothing"),
        (("stages: {}", "stages: {A: {from: 1}}"), "not text"),
        (("stages: {}", "stages: {Staging: {}, A: {from: Stagin}}"), "did you mean 'Staging'"),
        (("stages: {}", "stages: {None: {}}"), "not a stage name"),
        (("stages: {}", "stages: {A: {requester_may_approve: 1}}"), "true or false"),
        (("stages: {}", "stages: {}\nsigned: 1"), "true or false"),
        (("stages: {}", "stages: {}\naliases: {best: A}"), "does not tie"),
        (("stages: {}", "stages: {}\naliases: []"), "not a mapping"),
        (("stages: {}", "stages: {}\nwriters: [zoe]"), "add them under"),
        (("stages: {}", "stages: {}\nservices: {CI: {forge: github, keys: [x]}}"), "cannot name a service"),
        (("stages: {}", "stages: {}\nservices: {ci: {forge: svn, keys: [x]}}"), "known are github"),
        (("stages: {}", "stages: {}\nservices: []"), "not a mapping"),
        (("people:\n", "people: 1\nx:\n"), "means nothing"),
        ((f"[{KEY}]", "[1]"), "not a mapping"),
        ((f"[{KEY}]", "[{key: 1}]"), "not text"),
        ((f"[{KEY}]", f"[{{key: {KEY}, expires: soon}}]"), "not a date"),
        ((f"[{KEY}]", f"[{{key: {KEY}, expires: 2026-13-01}}]"), "not a date"),
        ((f"[{KEY}]", f"[{{key: {KEY}, expires: 1}}]"), "not a date"),
        ((f"[{KEY}]", "[ssh-dss AAAA]"), "not an SSH public key"),
        ((f"[{KEY}]", "[ssh-ed25519 A]"), "not base64"),
        ((f"[{KEY}]", "[ssh-ed25519 AAAAC3Nz]"), "cut off"),
        ((f"[{KEY}]", f"[{KEY}, {KEY}]"), "listed twice"),
        ((f"[{KEY}]", f"[{KEY}]\n    emails: [x]"), "no address"),
        ((f"[{KEY}]", f"[{KEY}]\n    forge: {{github: 0}}"), "whole number"),
        ((f"[{KEY}]", f"[{KEY}]\n    forge: {{gihub: 1}}"), "did you mean 'github'"),
    ],
)
def test_a_policy_that_makes_no_sense(change, said):
    assert change[0] in GOOD
    with pytest.raises(RefusedError, match=said):
        rules.read_policy(GOOD.replace(*change).encode())


def test_a_policy_that_makes_sense():
    forever = rules.read_policy(GOOD.replace(f"[{KEY}]", f"[{{key: {KEY}, expires: null}}]").encode())
    assert forever.people["alice"].keys[0].valid(1 << 60)
    policy = rules.read_policy(GOOD.replace(f"[{KEY}]", f"[{{key: {KEY}, expires: 2027-01-01}}]").encode())
    (key,) = policy.people["alice"].keys
    assert key.valid(1_798_761_599)
    assert not key.valid(1_798_761_600)
    assert policy.owner(key.public) == "alice"
    assert policy.by_email("a@b") is None
    assert policy.writers == ("alice",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "not an SSH signature"),
        (f"{sshsig.BEGIN}\n!!\n{sshsig.END}", "stray"),
        (f"{sshsig.BEGIN}\nAAAAA\n{sshsig.END}", "not base64"),
        (f"{sshsig.BEGIN}\nAAAA\n{sshsig.END}", "unknown version"),
        (f"{sshsig.BEGIN}\nU1NIU0lHAAAAAg==\n{sshsig.END}", "unknown version"),
        (f"{sshsig.BEGIN}\nU1NIU0lHAAAAAQAAAAE=\n{sshsig.END}", "cut off"),
    ],
)
def test_signatures_that_are_none(text, said):
    with pytest.raises(RefusedError, match=said):
        sshsig.parse_signature(text)


def _blob(*parts: bytes, key: bytes = sshsig.string(b"ssh-ed25519") + sshsig.string(b"x" * 32)) -> str:
    import base64

    inner = sshsig.string(b"ssh-ed25519") + sshsig.string(b"s" * 64)
    chosen = parts or (b"ns", b"", b"sha512", inner)
    data = b"SSHSIG\0\0\0\1" + sshsig.string(key) + b"".join(map(sshsig.string, chosen))
    return f"{sshsig.BEGIN}\n{base64.b64encode(data).decode()[:76]}\n{base64.b64encode(data).decode()[76:]}\n{sshsig.END}\n".replace(
        "\n\n", "\n"
    )


@pytest.mark.parametrize(
    "armour",
    [
        _blob(key=sshsig.string(b"ssh-dss") + sshsig.string(b"x")),
        _blob(b"ns", b"reserved", b"sha512", sshsig.string(b"a") + sshsig.string(b"b")),
        _blob(b"ns", b"", b"md5", sshsig.string(b"a") + sshsig.string(b"b")),
        _blob(b"ns", b"", b"sha512", sshsig.string(b"a") + sshsig.string(b"b"), b"more"),
    ],
)
def test_signatures_with_parts_that_are_not_accepted(armour):
    with pytest.raises(RefusedError, match="not accepted"):
        sshsig.parse_signature("\n".join(
            [sshsig.BEGIN, *_wrapped("".join(armour.strip().split("\n")[1:-1])), sshsig.END]
        ))  # fmt: skip


def _wrapped(text: str) -> list[str]:
    return [text[i : i + 70] for i in range(0, len(text), 70)]


def test_a_key_knows_its_fingerprint():
    key = sshsig.parse_key(f"{KEY} alice@laptop")
    assert str(key) == KEY
    assert key.fingerprint.startswith("SHA256:")
    with pytest.raises(RefusedError, match="another type"):
        sshsig.parse_key(KEY.replace("ssh-ed25519 ", "ssh-rsa "))
    with pytest.raises(RefusedError, match="as SSH writes it"):
        sshsig.parse_key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIllllllllllllllllllllllllllllllllllllllllR=")


@pytest.mark.parametrize(
    "name", ["refs/heads", "HEAD", "refs/x", "refs/replace/1", "refs/heads/gml", "refs/gml/inbox/"]
)
def test_refs_that_are_refused(name):
    assert refs.classify_ref(name).kind == refs.REFUSED


def test_another_namespace_has_its_own_refs():
    assert refs.classify_ref("refs/heads/ml/registry", "ml").kind == refs.REGISTRY
    assert refs.classify_ref("refs/heads/gml/registry", "ml").kind == refs.OTHER


def test_records_of_another_format_are_refused():
    data = records.Model("churn").encode().replace(b"gml-model 1", b"gml-model 2")
    with pytest.raises(RefusedError, match="expected 'gml-model 1'"):
        records.read_model(data, "x")
