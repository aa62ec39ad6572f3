"""Edges of the decision that mutation testing found untested: boundaries, and all that an accepted change says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from registry_lab import KEYS, NOW, Facts, Lab, policy_text
from test_decision import END, refused, run

from gml.policy import names
from gml.policy.decision import Judge
from gml.policy.errors import RefusedError
from gml.policy.records import Model
from gml.policy.rules import read_policy
from gml.policy.sshsig import parse_signature
from gml.policy.view import MAX_CHANGES, CheckResult, Vote
from gml.registry.chain import Chain

V = names.version_path


@pytest.fixture
def started():
    lab = Lab()
    return lab, lab.start()


class Remembering(Facts):
    """Remembers what checks were asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, int, int | None]] = []

    def check(self, rule, version, champion):
        self.asked.append((rule, version.version, champion.version if champion else None))
        return super().check(rule, version, champion)


@pytest.fixture
def checked():
    """A registry whose Production has a check."""
    text = policy_text().replace(
        b"formats: [data]\n", b'formats: [data]\n    checks: ["metrics.auc > 0.5"]\n', 1
    )
    lab = Lab(text)
    return lab, lab.start()


# --- what an accepted change says --------------------------------------------------------------------


def test_all_about_a_promotion(checked):
    lab, tip = checked
    facts = Remembering()
    new = lab.commit(tip, lab.change(tip, 2))
    (done,) = run(lab, tip, new, facts=facts)
    assert facts.asked == [("metrics.auc > 0.5", 2, 1)]
    assert (done.kind, done.model, done.stage, done.seq) == ("stage", "churn", "Production", 2)
    assert (done.version, done.before, done.requester, done.threshold) == (2, 1, "alice", 2)
    assert (done.commits, done.policy) == ((new,), lab.policy.digest)
    assert done.checks == (CheckResult("metrics.auc > 0.5", ok=True, detail="auc is 0.5"),)
    assert done.votes == (
        Vote("alice", "request", counted=False, why="asked for it"), Vote("bob", "approval", counted=True),
        Vote("carol", "approval", counted=True),
    )  # fmt: skip


def test_all_about_versions_and_what_is_said(started):
    lab, tip = started
    new = lab.commit(tip, {
        V("churn", 4): lab.version(4), V("churn", 5): lab.version(5),
        V("other", 1): lab.version(1, model="other"),
    })  # fmt: skip
    (done,) = run(lab, tip, new)
    assert (done.kind, done.model, done.version) == ("version", "churn", 5)
    assert dict(done.versions) == {"churn": (4, 5), "other": (1,)}
    said = lab.commit(new, {names.meta_path("churn"): Model("churn", "x").encode()})
    (done,) = run(lab, new, said)
    assert (done.kind, done.model, done.version, dict(done.versions)) == ("meta", "churn", None, {})


def test_all_about_a_policy(started):
    lab, tip = started
    text = lab.next_policy()
    statements = {}
    for name, comment in (("alice", "fine"), ("bob", ""), ("carol", "me too")):
        statements |= lab.policy_statement(text, name, comment=comment)
    new = lab.commit(tip, {"policy.yaml": text} | statements)
    (done,) = run(lab, tip, new)
    assert (done.kind, done.seq, done.threshold) == ("policy", 2, 2)
    assert done.votes == (
        Vote("alice", "policy-approval", counted=True, comment="fine"),
        Vote("bob", "policy-approval", counted=True),
        Vote("carol", "policy-approval", counted=False, why="is not an admin of the policy in force", comment="me too"),
    )  # fmt: skip


def test_all_about_a_change_that_a_check_refuses(checked):
    lab, tip = checked
    new = lab.commit(tip, lab.change(tip, 2))
    with pytest.raises(RefusedError) as caught:
        run(lab, tip, new, facts=Facts(failing={"metrics.auc > 0.5"}))
    change = caught.value.change
    assert (change.kind, change.model, change.stage, change.seq) == ("stage", "churn", "Production", 2)
    assert (change.version, change.before) == (2, 1)
    assert change.checks == (CheckResult("metrics.auc > 0.5", ok=False, detail="auc is 0.5"),)
    assert not caught.value.pending


def test_what_is_missing_is_named(started):
    lab, tip = started
    new = lab.commit(tip, lab.change(tip, 2, approvers=("bob",)))
    refused(lab, tip, new, "Production of churn v2 has 1 of 2 approvals (alice asked for it)")
    new = lab.commit(tip, lab.change(tip, None, approvers=("bob",)))
    refused(lab, tip, new, "Production of churn none has 1 of 2 approvals (alice asked for it)")


# --- boundaries ------------------------------------------------------------------------------------------


def test_a_second_version_without_a_first(started):
    lab, tip = started
    refused(lab, tip, lab.commit(tip, {V("new", 2): lab.version(2, model="new")}), "there is no v1")


def test_a_record_of_a_model_that_differs_in_case_only(started):
    lab, tip = started
    new = lab.commit(tip, {names.meta_path("Churn"): Model("Churn", "x").encode()})
    refused(lab, tip, new, "only in upper and lower case")


def test_another_name_of_a_model_that_has_versions_but_no_stages(started):
    lab, tip = started
    tip2 = lab.commit(tip, {V("other", 1): lab.version(1, model="other")})
    new = lab.commit(tip2, {names.meta_path("other"): Model("other", alias_of="churn").encode()})
    refused(lab, tip2, new, "has versions of its own")


def test_as_many_files_as_are_allowed(started):
    lab, tip = started
    files = {V("bulk", n): lab.version(n, model="bulk") for n in range(1, MAX_CHANGES + 1)}
    (done,) = run(lab, tip, lab.commit(tip, files))
    assert done.versions["bulk"][-1] == MAX_CHANGES


@pytest.mark.parametrize(("number", "prev"), [(2, "f" * 64), (3, None)])
def test_a_policy_follows_the_one_before_in_number_and_digest(started, number, prev):
    lab, tip = started
    text = policy_text(number, prev or lab.policy.digest)
    both = lab.policy_statement(text, "alice") | lab.policy_statement(text, "bob")
    refused(lab, tip, lab.commit(tip, {"policy.yaml": text} | both), "the next policy must have version 2")


def test_a_statement_about_a_policy_that_expires_now(started):
    lab, tip = started
    text = lab.next_policy()
    both = lab.policy_statement(text, "alice", expires=NOW) | lab.policy_statement(text, "bob")
    refused(lab, tip, lab.commit(tip, {"policy.yaml": text} | both), "has expired")
    both = lab.policy_statement(text, "alice", expires=NOW + 1) | lab.policy_statement(text, "bob")
    run(lab, tip, lab.commit(tip, {"policy.yaml": text} | both))


@pytest.mark.parametrize("name", ["bob", "ci"])
def test_approvals_with_a_key_that_has_expired(name):
    """Of a person, and of the service that vouches for a review: judged at receipt."""
    key = str(KEYS[name].public)
    text = policy_text().decode()
    lab = Lab(text.replace(key, f"{{key: {key}, expires: 2027-01-01}}").encode())
    tip = lab.start()
    record = lab.stage(tip, 2)
    files = lab.change(tip, 2, approvers=("bob",))
    review = {"forge": "github", "service": "ci", "user": "102", "review": "1", "commit": "f" * 40}
    carol = {"type": "evidence", "key": "ci", "review": review} if name == "ci" else {"type": "approval"}
    kind = carol.pop("type")
    for person, options in (("bob", {}), ("carol", carol)):
        what = kind if person == "carol" else "approval"
        files |= lab.statement(record, person, what, expires=END + 10**6, **options)
    new = lab.commit(tip, files)
    run(lab, tip, new, now=END - 1)
    refused(lab, tip, new, "has expired", now=END)


def test_who_signed_a_commit_with_a_key_that_has_expired():
    key = str(KEYS["dave"].public)
    lab = Lab(policy_text().decode().replace(key, f"{{key: {key}, expires: 2027-01-01}}").encode())
    tip = lab.start()
    files = lab.change(tip, 2, approvers=())
    for person in ("bob", "carol"):
        files |= lab.statement(lab.stage(tip, 2), person, expires=END + 10**6)
    new = lab.commit(tip, files, who="dave", sign="dave")
    run(lab, tip, new, now=END - 1)
    refused(lab, tip, new, "has expired", now=END)


@pytest.mark.parametrize(("turns", "fine"), [(1, True), (49, True), (50, False)])
def test_going_back_is_easier_for_as_long_as_it_is_remembered(turns, fine):
    """A version that held the stage among the last 50 turns needs not be in Staging again."""
    lab = Lab()
    tip = lab.start()
    tip = lab.commit(tip, lab.change(tip, 2))  # v1 held turn 1
    for turn in range(turns - 1):
        target = None if turn % 2 == 0 else 2
        tip = lab.commit(tip, lab.change(tip, target))
    holds = lab.stage(tip, 1).seq - 1
    assert holds == turns + 1
    new = lab.commit(tip, lab.change(tip, 1))
    if fine:
        run(lab, tip, new)
    else:
        refused(lab, tip, new, "not in Staging")


def test_what_a_row_of_commits_takes_back_does_not_count(started):
    """Only what is different in the end is judged: here a request of the wrong person, and then all of it."""
    lab, tip = started
    record = lab.stage(tip, 2)
    path = names.approval_path("churn", "Production", 2, "dave")
    first = lab.commit(tip, lab.change(tip, 2, by="dave", approvers=()), who="dave")
    second = lab.commit(first, {path: None} | lab.statement(record, "alice", "request"))
    third = lab.commit(second, lab.statement(record, "bob"), who="bob")
    last = lab.commit(third, lab.statement(record, "carol"), who="carol")
    (done,) = run(lab, tip, last)
    assert (done.requester, done.commits) == ("alice", (first, second, third, last))
    old = lab.file(tip, names.stage_path("churn", "Production"))
    nothing = lab.commit(first, {path: None, names.stage_path("churn", "Production"): old}, who="dave")
    refused(lab, tip, nothing, "nothing is different")


def test_a_comment_stays_with_the_vote(started):
    lab, tip = started
    record = lab.stage(tip, 2)
    files = lab.change(tip, 2, approvers=("bob",)) | lab.statement(record, "carol", comment="looked at June")
    (done,) = run(lab, tip, lab.commit(tip, files))
    assert [vote.comment for vote in done.votes] == ["", "", "looked at June"]


def test_an_admin_whose_key_has_expired():
    key = str(KEYS["bob"].public)
    lab = Lab(policy_text().decode().replace(key, f"{{key: {key}, expires: 2027-01-01}}").encode())
    tip = lab.start()
    text = lab.next_policy()
    both = {}
    for name in ("alice", "bob"):
        both |= lab.policy_statement(text, name, expires=END + 10**6)
    new = lab.commit(tip, {"policy.yaml": text} | both)
    run(lab, tip, new, now=END - 1)
    refused(lab, tip, new, "has expired", now=END)


# --- signatures --------------------------------------------------------------------------------------------


def test_what_is_around_a_signature():
    good = KEYS["bob"].sign(b"x", "git")
    assert parse_signature(good) == parse_signature(good.rstrip("\n"))
    lines = good.rstrip("\n").split("\n")
    for bad in (
        ["-----BEGIN X-----", *lines[1:]], [*lines[:-1], "-----END X-----"], [lines[0], lines[-1]], lines[:1], lines[1:],
        [*lines, "x"], ["x", *lines], [" " + lines[0], *lines[1:]], [*lines[:-1], lines[-1] + " "],
        [lines[0], lines[1][:-1] + "*", *lines[2:]], [lines[0], "", *lines[1:]],
    ):  # fmt: skip
        with pytest.raises(RefusedError):
            parse_signature("\n".join(bad))


def test_a_namespace_that_is_no_text():
    signature = KEYS["bob"].sign(b"x", "git")
    import base64

    lines = signature.rstrip("\n").split("\n")
    blob = base64.b64decode("".join(lines[1:-1])).replace(b"\0\0\0\3git", b"\0\0\0\3gi\xff", 1)
    text = base64.b64encode(blob).decode()
    armour = "\n".join([lines[0], *[text[i : i + 70] for i in range(0, len(text), 70)], lines[-1]])
    assert parse_signature(armour).namespace == "gi\ufffd"


def test_a_judge_starts_with_the_policy_of_its_base(started):
    lab, tip = started
    judge = Judge.of(Facts(), Chain(lab).tree(tip), now=NOW)
    assert judge.policy == read_policy(lab.policy_bytes)
    assert replace(judge.policy, digest="") != judge.policy
