"""The decision where the attacks on one server do not lead: without a policy, with signed commits, with dates."""

from __future__ import annotations

import pytest
from registry_lab import KEYS, NOW, Facts, Lab, policy_text

from gml.policy import names
from gml.policy.decision import Judge, judge
from gml.policy.errors import RefusedError
from gml.policy.records import Model
from gml.policy.rules import read_policy
from gml.registry.chain import Chain

V = names.version_path
FORMAT = {"format": b"gml-registry 1\n"}


def run(lab, old, new, *, now=NOW, facts=None):
    chain = Chain(lab)
    start = Judge.of(facts or Facts(), chain.tree(old) if old else None, now=now)
    return judge(start, chain.steps(old, new))


def refused(lab, old, new, said, **options):
    with pytest.raises(RefusedError) as caught:
        run(lab, old, new, **options)
    assert said in str(caught.value)


@pytest.fixture
def lab():
    return Lab()


@pytest.fixture
def started(lab):
    return lab, lab.start()


# --- without a policy -------------------------------------------------------------------------------


@pytest.fixture
def free(lab):
    """A registry without a policy, with two versions."""
    tip = lab.commit(None, FORMAT | {V("churn", 1): lab.version(1, key=None, creator="A <a@b>")})
    return lab, lab.commit(tip, {V("churn", 2): lab.version(2, key=None, creator="A <a@b>")})


def test_anybody_may_promote(free):
    lab, tip = free
    new = lab.commit(tip, lab.change(tip, 1, by=None, approvers=()))
    (done,) = run(lab, tip, new)
    assert (done.kind, done.version, done.before, done.policy) == ("stage", 1, None, None)
    new2 = lab.commit(new, lab.change(new, 2, by=None, approvers=()))
    assert [d.before for d in run(lab, new, new2)] == [1]


def test_anybody_may_register_and_describe(free):
    lab, tip = free
    new = lab.commit(tip, {V("churn", 3): lab.version(3, key=None, creator="B <b@b>")})
    new = lab.commit(new, {names.meta_path("churn"): Model("churn", aliases={"best": 3}).encode()})
    assert [d.kind for d in run(lab, tip, new)] == ["version", "meta"]
    first = lab.commit(None, FORMAT | {names.meta_path("churn"): Model("churn").encode()})
    assert [d.kind for d in run(lab, None, first)] == ["meta"]


def test_what_held_a_stage_before_the_policy_was_not_approved(free):
    lab, tip = free
    tip = lab.commit(tip, lab.change(tip, 1, by=None, approvers=()))
    tip = lab.commit(tip, lab.change(tip, 2, by=None, approvers=()))
    tip = lab.commit(tip, {"policy.yaml": lab.policy_bytes})
    refused(lab, tip, lab.commit(tip, lab.change(tip, 1)), "not in Staging")


def test_there_is_nothing_to_approve_by(free):
    lab, tip = free
    refused(
        lab, tip, lab.commit(tip, lab.change(tip, 1, by=None, approvers=("bob",))), "no policy to approve"
    )


def test_stages_that_look_alike(free):
    lab, tip = free
    new = lab.commit(tip, lab.change(tip, 1, by=None, approvers=()))
    twin = lab.change(new, 2, "production", by=None, approvers=())
    refused(lab, new, lab.commit(new, twin), "differs from Production.json only in upper and lower case")


def test_the_first_policy_stands_alone(free):
    lab, tip = free
    (done,) = run(lab, tip, lab.commit(tip, {"policy.yaml": lab.policy_bytes}))
    assert (done.kind, done.seq, done.policy) == ("policy", 1, None)
    refused(lab, tip, lab.commit(tip, {"policy.yaml": policy_text(2, "f" * 64)}), "must have version 1")
    both = {"policy.yaml": lab.policy_bytes} | lab.policy_statement(lab.policy_bytes, "alice", prev="f" * 64)
    refused(lab, tip, lab.commit(tip, both), "stand alone")


def test_what_is_no_registry(lab):
    refused(lab, None, lab.commit(None, {V("churn", 1): lab.version(1)}), "is missing")
    bad = {"format": b"gml-registry 2\n", V("churn", 1): lab.version(1)}
    refused(lab, None, lab.commit(None, bad), "not that of this format")
    refused(lab, None, lab.commit(None, FORMAT), "nothing is different")


# --- names that stand for others -----------------------------------------------------------------


def test_a_name_that_stands_for_another(started):
    lab, tip = started
    new = lab.commit(tip, {names.meta_path("leavers"): Model("leavers", alias_of="churn").encode()})
    assert [d.kind for d in run(lab, tip, new)] == ["meta"]
    refused(lab, new, lab.commit(new, {V("leavers", 1): lab.version(1, model="leavers")}), "only stands for")
    chain = {names.meta_path("x"): Model("x", alias_of="leavers").encode()}
    refused(lab, new, lab.commit(new, chain), "which is not a model")
    back = {names.meta_path("leavers"): Model("leavers").encode()}
    run(lab, new, lab.commit(new, back))


# --- evidence --------------------------------------------------------------------------------------


def test_a_version_that_contradicts_its_run(started):
    lab, tip = started
    new = lab.commit(tip, {V("churn", 4): lab.version(4)})
    refused(lab, tip, new, "not the files of the run", facts=Facts(problems={4: "not the files of the run"}))


def test_a_format_is_judged_by_what_is_seen(started):
    lab, tip = started
    refused(
        lab, tip, lab.commit(tip, lab.change(tip, 2)), "in a code format", facts=Facts(classes={2: "code"})
    )


RULE = "metrics.auc >= champion.metrics.auc"
FLOOR = "metrics.auc > 0.5"


@pytest.fixture
def checked():
    stages = f"\n  Staging: {{}}\n  Production: {{approvers: [bob, carol], from: Staging, checks: ['{RULE}', '{FLOOR}']}}"
    lab = Lab(policy_text(stages=stages))
    return lab, lab.start()


def test_checks_must_hold(checked):
    lab, tip = checked
    new = lab.commit(tip, lab.change(tip, 2))
    (done,) = run(lab, tip, new)
    assert [(c.rule, c.ok) for c in done.checks] == [(RULE, True), (FLOOR, True)]
    refused(lab, tip, new, "auc is 0.5", facts=Facts(failing={FLOOR}))
    with pytest.raises(RefusedError) as caught:
        run(lab, tip, new, facts=Facts(failing={RULE}))
    assert caught.value.change.version == 2
    assert not caught.value.pending


def test_going_back_needs_not_beat_the_champion(checked):
    lab, tip = checked
    made = lab.commit(tip, lab.change(tip, 2))
    back = lab.commit(made, lab.change(made, 1))
    (done,) = run(lab, made, back, facts=Facts(failing={RULE}))
    assert [c.rule for c in done.checks] == [FLOOR]
    refused(lab, made, back, "does not hold", facts=Facts(failing={FLOOR}))
    refused(lab, made, lab.commit(made, lab.change(made, 1, approvers=())), "0 of 1")


def test_a_stage_that_was_emptied_is_filled_again(checked):
    lab, tip = checked
    made = lab.commit(tip, lab.change(tip, None))
    (done,) = run(lab, tip, made)
    assert (done.version, done.before, done.checks) == (None, 1, ())
    (done,) = run(lab, made, lab.commit(made, lab.change(made, 2)))
    assert (done.version, done.before) == (2, None)
    refused(lab, made, lab.commit(made, lab.change(made, None)), "already")


# --- who counts ------------------------------------------------------------------------------------


def test_a_request_by_somebody_who_may_not_write():
    lab = Lab(policy_text(writers="[alice, bob]"))
    tip = lab.start()
    refused(lab, tip, lab.commit(tip, lab.change(tip, 2, by="dave")), "not a writer")


def test_what_is_missing_can_be_told(started):
    lab, tip = started
    with pytest.raises(RefusedError) as caught:
        run(lab, tip, lab.commit(tip, lab.change(tip, 2, by="dave", approvers=("bob",))))
    assert caught.value.pending
    votes = {vote.person: (vote.type, vote.counted, vote.why) for vote in caught.value.change.votes}
    assert votes == {"bob": ("approval", True, ""), "dave": ("request", False, "asked for it")}


def test_a_statement_for_another_turn_than_its_place(started):
    lab, tip = started
    record = lab.stage(tip, 2)
    misplaced = lab.statement(record, "carol", path=names.approval_path("churn", "Production", 9, "carol"))
    refused(lab, tip, lab.commit(tip, lab.change(tip, 2, approvers=("bob",)) | misplaced), "is for turn 9")


def test_an_open_change_does_not_stay_open_for_ever(started):
    lab, tip = started
    record = lab.stage(tip, 2)
    new = lab.commit(tip, lab.change(tip, 2, by="alice", approvers=()))
    for turn in range(60):
        new = lab.commit(new, lab.statement(record, "dave", "approval", comment=str(turn)))
    refused(lab, tip, new, "0 of 2")


def test_an_admin_of_the_policy_in_force_can_be_somebody_new(started):
    lab, tip = started
    new = lab.next_policy(admins="{people: [carol], threshold: 1}")
    votes = (
        lab.policy_statement(new, "alice")
        | lab.policy_statement(new, "bob")
        | lab.policy_statement(new, "dave")
    )
    made = lab.commit(tip, {"policy.yaml": new} | votes)
    (done,) = run(lab, tip, made)
    assert [(v.person, v.counted) for v in done.votes] == [("alice", True), ("bob", True), ("dave", False)]
    lab.policy = read_policy(new)
    third = policy_text(3, lab.policy.digest)
    run(lab, made, lab.commit(made, {"policy.yaml": third} | lab.policy_statement(third, "carol")))


def test_aliases_that_are_tied_to_a_stage():
    lab = Lab(policy_text(aliases="{champion: Production}"))
    tip = lab.start()
    good = lab.commit(
        tip, {names.meta_path("churn"): Model("churn", aliases={"champion": 1, "x": 3}).encode()}
    )
    run(lab, tip, good)
    bad = {names.meta_path("churn"): Model("churn", aliases={"champion": 2}).encode()}
    refused(lab, tip, lab.commit(tip, bad), "champion may only point at the version in Production")
    gone = lab.commit(good, {names.meta_path("churn"): Model("churn", aliases={"x": 3}).encode()})
    run(lab, good, gone)
    emptied = lab.commit(good, lab.change(good, None))
    kept = {names.meta_path("churn"): Model("churn", "text", aliases={"champion": 1}).encode()}
    run(lab, emptied, lab.commit(emptied, kept))


# --- signed commits ------------------------------------------------------------------------------


class SignedLab(Lab):
    """Every commit is signed, unless the test says otherwise."""

    def commit(self, base, changes=None, *, sign="alice", **options):
        return super().commit(base, changes, sign=sign or None, **options)


@pytest.fixture
def signed():
    lab = SignedLab(policy_text(signed="true", writers="[alice, bob, carol]"))
    return lab, lab.start()


def change4(lab):
    return {V("churn", 4): lab.version(4)}


@pytest.mark.parametrize("who", ["alice", "bob", "bob2"])
def test_a_writer_signs(signed, who):
    lab, tip = signed
    run(lab, tip, lab.commit(tip, change4(lab), sign=who))


@pytest.mark.parametrize("who", ["", "mallory", "dave", "ci"])
def test_nobody_else_signs(signed, who):
    lab, tip = signed
    refused(lab, tip, lab.commit(tip, change4(lab), sign=who), "not signed by a writer")


def test_a_signature_of_another_kind_is_none(signed):
    lab, tip = signed
    pgp = ("gpgsig", "-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----")
    refused(lab, tip, lab.commit(tip, change4(lab), sign="", extra=[pgp]), "not signed by a writer")


def test_a_commit_that_was_altered(signed):
    lab, tip = signed
    good = lab.read(lab.commit(tip, change4(lab)))[1]
    refused(lab, tip, lab.raw_commit(good.replace(b"\n\nchange", b"\n\nother")), "does not fit")


def test_an_approval_is_no_commit_signature(signed):
    lab, tip = signed
    from gml.git.objects import format_commit, parse_commit

    commit = parse_commit(lab.read(lab.commit(tip, change4(lab), sign=""))[1])
    from dataclasses import replace

    armour = KEYS["alice"].sign(format_commit(commit), "gml-approval-v1").rstrip("\n")
    bad = lab.raw_commit(format_commit(replace(commit, extra=(("gpgsig", armour),))))
    refused(lab, tip, bad, "signed for 'gml-approval-v1'")


def test_what_is_merged_must_be_signed_too(signed):
    lab, tip = signed
    side = lab.commit(tip, change4(lab), sign="")
    refused(lab, tip, lab.merge(tip, side), "not signed by a writer")
    run(lab, tip, lab.merge(tip, lab.commit(tip, change4(lab))))


def test_who_signed_a_commit_wrote_it(signed):
    """The author's name is a claim; the key is not."""
    lab, tip = signed
    new = lab.commit(tip, lab.change(tip, 2), who="alice", sign="bob")
    refused(lab, tip, new, "bob wrote a commit of the change")


# --- dates ------------------------------------------------------------------------------------------


@pytest.fixture
def dated():
    """dave's key is valid until 2027."""
    plain = policy_text().decode()
    key = str(KEYS["dave"].public)
    lab = Lab(plain.replace(f"[{key}]", f"[{{key: {key}, expires: 2027-01-01}}]").encode())
    return lab, lab.start()


END = 1_798_761_600


def test_a_key_that_has_expired(dated):
    lab, tip = dated
    new = lab.commit(tip, {V("churn", 4): lab.version(4, creator="dave", key="dave")})
    run(lab, tip, new, now=END - 1)
    refused(lab, tip, new, "has expired", now=END)


def test_an_expired_key_does_not_come_back_by_a_date(dated):
    """The commit says 2026; what counts is when it was received, or the greatest time so far."""
    lab, tip = dated
    late = lab.commit(tip, {names.meta_path("churn"): Model("churn", "x").encode()}, time=END + 10)
    new = lab.commit(late, {V("churn", 4): lab.version(4, creator="dave", key="dave")}, time=END - 10_000)
    refused(lab, tip, new, "has expired", now=END + 20)
    refused(lab, tip, new, "has expired", now=None)


def test_the_past_is_replayed_with_its_own_time(dated):
    lab, tip = dated
    new = lab.commit(tip, {V("churn", 4): lab.version(4, creator="dave", key="dave")}, time=END - 10)
    later = lab.commit(new, {names.meta_path("churn"): Model("churn", "x").encode()}, time=END + 10**7)
    assert len(run(lab, tip, later, now=None)) == 2


# --- large merges ------------------------------------------------------------------------------------


def test_a_merge_of_too_many_commits(started):
    lab, tip = started
    side = tip
    for number in range(205):
        side = lab.commit(side, {names.meta_path("churn"): Model("churn", str(number)).encode()})
    refused(lab, tip, lab.merge(tip, side), "more than 200 commits")


def test_limits_hold_for_whoever_asks(started):
    """Whoever builds steps otherwise than from git meets the same limits."""
    from dataclasses import replace

    lab, tip = started
    chain = Chain(lab)
    step = chain.step(lab.commit(tip, change4(lab)))
    facts = step.commit
    long = replace(facts, changes=facts.changes * 201)
    wide = replace(step, side=(replace(facts, changes=()),) * 201)
    for bad, said in ((replace(step, commit=long), "more than 200 files"), (wide, "more than 200 commits")):
        with pytest.raises(RefusedError, match=said):
            Judge.of(Facts(), chain.tree(tip), now=NOW).step(bad)


def test_a_large_document():
    from gml.policy import canonical

    with pytest.raises(RefusedError, match="limit"):
        canonical.decode(b" " * 70_000, "x")
