"""Every attack of the threat model, and honest pushes: what each would do to the refs of a server.

An attack is a function from a lab and the honest tip to updates `(ref, new id or None)`. It is refused when the
gate refuses the whole push.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_lab import BRANCH, KEYS, NOW, Lab, policy_text

from gml.policy import canonical, names, records
from gml.policy.records import Model, VersionNote, encode_statement
from gml.policy.rules import read_policy

if TYPE_CHECKING:
    from collections.abc import Callable

ATTACKS: dict[str, Callable] = {}
HONEST: dict[str, Callable] = {}
V = names.version_path
S = names.stage_path("churn", "Production")


def attack(function):
    ATTACKS[function.__name__] = function
    return function


def honest(function):
    HONEST[function.__name__] = function
    return function


def branch(function):
    """The function returns the new tip of the branch."""
    inner = function

    def updates(lab, tip):
        return [(BRANCH, inner(lab, tip))]

    updates.__name__ = function.__name__
    return updates


def files(function):
    """The function returns the files of one commit on the branch."""
    inner = function

    def updates(lab, tip):
        return [(BRANCH, lab.commit(tip, inner(lab, tip), who="dave"))]

    updates.__name__ = function.__name__
    return updates


def _many(prefix: str, cases: dict[str, Callable], wrap: Callable = files) -> None:
    for name, build in cases.items():
        build.__name__ = f"{prefix}_{name}"
        attack(wrap(build))


def _votes(lab, tip, *statements, by="dave", **over):
    record = lab.stage(tip, 2, **over)
    found = {S: record.encode()}
    if by:
        found |= lab.statement(record, by, "request", expires=None)
    for build in statements:
        found |= build(record)
    return found


def _said(person, kind="approval", **changes):
    return lambda lab: lambda record: lab.statement(record, person, kind, **changes)


def _two(lab, tip, second):
    """A change with bob's good approval and a second statement that must not count."""
    return _votes(lab, tip, lambda r: lab.statement(r, "bob"), second)


def _resigned(lab, record, person, **changes):
    """A statement changed after it was signed."""
    said = lab.said(record, person)
    signature = KEYS[person].sign(said.payload(), "gml-approval-v1")
    from dataclasses import replace

    path = names.approval_path(record.model, record.stage, record.seq, person)
    return {path: encode_statement(replace(said, **changes), signature)}


def _raw_statement(lab, record, change):
    ((path, data),) = lab.statement(record, "carol").items()
    return {path: change(data)}


def _commit_signature_as_approval(lab, tip):
    record = lab.stage(tip, 2)
    said = lab.said(record, "carol")
    path = names.approval_path("churn", "Production", record.seq, "carol")
    bad = encode_statement(said, KEYS["carol"].sign(said.payload(), "git"))
    return _two(lab, tip, lambda r: {path: bad})


_many("approvals", {
    "none": lambda lab, tip: _votes(lab, tip, by="dave"),
    "too_few": lambda lab, tip: _votes(lab, tip, lambda r: lab.statement(r, "bob")),
    "nobody_asks": lambda lab, tip: _votes(
        lab, tip, lambda r: lab.statement(r, "bob"), lambda r: lab.statement(r, "carol"), by=None),
    "two_ask": lambda lab, tip: _votes(
        lab, tip, lambda r: lab.statement(r, "bob", "request"), lambda r: lab.statement(r, "carol")),
    "by_requester": lambda lab, tip: _votes(lab, tip, lambda r: lab.statement(r, "carol"), by="bob"),
    "by_version_creator": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "alice")),
    "by_nobody_of_the_stage": lambda lab, tip: _votes(
        lab, tip, lambda r: lab.statement(r, "bob"), lambda r: lab.statement(r, "dave"), by="alice"),
    "unknown_key": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", key="mallory")),
    "outsider": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "mallory")),
    "claims_to_be_another": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", key="dave")),
    "second_key_of_one_person": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", key="bob2")),
    "copied_under_another_name": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(
        r, "bob", path=names.approval_path("churn", "Production", r.seq, "carol"))),
    "second_file_of_one_person": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(
        r, "bob", key="bob2", path=names.approval_path("churn", "Production", r.seq, "bob-2"))),
    "other_digest": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", digest="f" * 64)),
    "of_another_version": lambda lab, tip: _two(
        lab, tip, lambda r: lab.statement(r, "carol", version=1, digest=f"{1:064x}")),
    "of_another_stage": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", stage="Staging")),
    "of_another_model": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", model="fraud")),
    "of_another_repository": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", repo="f" * 32)),
    "under_another_policy": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", policy="f" * 64)),
    "of_another_turn": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", seq=r.seq + 1)),
    "of_another_past": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", prev="f" * 64)),
    "expired": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", expires=NOW - 1)),
    "expires_now": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", expires=NOW)),
    "request_counts": lambda lab, tip: _votes(lab, tip, lambda r: lab.statement(r, "bob"), by="carol"),
    "rejection_counts": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", "rejection")),
    "rejected_by_one": lambda lab, tip: _votes(
        lab, tip, lambda r: lab.statement(r, "bob"), lambda r: lab.statement(r, "carol"),
        lambda r: lab.statement(r, "alice", "rejection")),
    "other_type": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", "blessing")),
    "policy_approval": lambda lab, tip: _two(lab, tip, lambda r: lab.policy_statement(
        lab.next_policy(), "carol", path=names.approval_path("churn", "Production", r.seq, "carol"))),
    "changed_after_signing": lambda lab, tip: _two(
        lab, tip, lambda r: _resigned(lab, r, "carol", comment="really")),
    "longer_after_signing": lambda lab, tip: _two(
        lab, tip, lambda r: _resigned(lab, r, "carol", expires=NOW + 10**9)),
    "commit_signature": _commit_signature_as_approval,
    "no_signature": lambda lab, tip: _two(lab, tip, lambda r: {
        names.approval_path("churn", "Production", r.seq, "carol"): encode_statement(lab.said(r, "carol"), "")}),
    "garbled_signature": lambda lab, tip: _two(lab, tip, lambda r: _raw_statement(
        lab, r, lambda d: d.replace(b"U1NIU0lH", b"U1NIU0lX"))),
    "extra_field": lambda lab, tip: _two(lab, tip, lambda r: _raw_statement(
        lab, r, lambda d: d.replace(b'{\n "format"', b'{\n "ask": 1,\n "format"'))),
    "field_missing": lambda lab, tip: _two(lab, tip, lambda r: _raw_statement(
        lab, r, lambda d: d.replace(b'  "comment": "",\n', b""))),
    "duplicate_key": lambda lab, tip: _two(lab, tip, lambda r: _raw_statement(
        lab, r, lambda d: d.replace(b'  "comment": "",\n', b'  "comment": "",\n  "comment": "",\n'))),
    "other_spelling": lambda lab, tip: _two(lab, tip, lambda r: _raw_statement(
        lab, r, lambda d: d.replace(b'"carol"', b'"\\u0063arol"'))),
    "no_newline": lambda lab, tip: _two(lab, tip, lambda r: _raw_statement(lab, r, lambda d: d.rstrip())),
    "other_order": lambda lab, tip: _two(lab, tip, lambda r: _raw_statement(
        lab, r, lambda d: d.replace(b'  "comment": "",\n', b"").replace(
            b'  "type": "approval",\n', b'  "type": "approval",\n  "comment": "",\n'))),
    "for_a_later_turn": lambda lab, tip: lab.statement(lab.stage(tip, 2, seq=7), "carol"),
    "without_the_change": lambda lab, tip: lab.statement(lab.stage(tip, 2), "carol"),
    "of_two_stages": lambda lab, tip: lab.change(tip, 2) | lab.statement(lab.stage(tip, 2, "Shadow"), "bob"),
    "deleted": lambda lab, tip: {names.approval_path("churn", "Production", 1, "bob"): None},
    "edited": lambda lab, tip: lab.statement(lab.stage(lab.before_v2, 1, seq=1), "bob", expires=NOW + 5),
    "by_a_bot": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(
        r, "carol", "evidence", key="ci",
        review={"forge": "github", "service": "ci", "user": "9999", "review": "1", "commit": "f" * 40})),
    "review_signed_by_the_reviewer": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(
        r, "carol", "evidence",
        review={"forge": "github", "service": "ci", "user": "102", "review": "1", "commit": "f" * 40})),
    "review_of_no_service": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(
        r, "carol", "evidence", key="ci",
        review={"forge": "github", "service": "other", "user": "102", "review": "1", "commit": "f" * 40})),
    "review_on_another_forge": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(
        r, "carol", "evidence", key="ci",
        review={"forge": "gitlab", "service": "ci", "user": "102", "review": "1", "commit": "f" * 40})),
    "review_without_facts": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(
        r, "carol", "evidence", key="ci")),
    "review_in_an_approval": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(
        r, "carol", review={"user": "102"})),
    "service_approves": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", key="ci")),
    "asked_by_an_outsider": lambda lab, tip: _votes(
        lab, tip, lambda r: lab.statement(r, "bob"), lambda r: lab.statement(r, "carol"), by="mallory"),
    "control_characters": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(r, "carol", comment="a\u202eb")),
})  # fmt: skip

_many("stage", {
    "not_from_staging": lambda lab, tip: lab.change(tip, 3),
    "unregistered_version": lambda lab, tip: lab.change(tip, 9),
    "registered_in_the_same_commit": lambda lab, tip: {V("churn", 4): lab.version(4)} | lab.change(
        tip, 4, "Staging", approvers=()),
    "other_digest": lambda lab, tip: lab.change(tip, 2, digest="e" * 64),
    "digest_missing": lambda lab, tip: lab.change(tip, 2, digest=None),
    "unknown_stage": lambda lab, tip: lab.change(tip, 2, "Canary"),
    "other_case": lambda lab, tip: lab.change(tip, 2, "production"),
    "turn_skipped": lambda lab, tip: lab.change(tip, 2, seq=3),
    "turn_repeated": lambda lab, tip: lab.change(tip, 2, seq=1),
    "turn_true": lambda lab, tip: {S: lab.stage(tip, 2).encode().replace(b'"seq": 2', b'"seq": true')},
    "turn_float": lambda lab, tip: {S: lab.stage(tip, 2).encode().replace(b'"seq": 2', b'"seq": 2.0')},
    "other_past": lambda lab, tip: lab.change(tip, 2, prev="d" * 64),
    "no_past": lambda lab, tip: lab.change(tip, 2, prev=None),
    "same_version_again": lambda lab, tip: lab.change(tip, 1),
    "record_of_another_stage": lambda lab, tip: {S: lab.stage(tip, 2, "Staging", seq=2).encode()},
    "record_of_another_model": lambda lab, tip: lab.change(tip, 2) | {S: lab.stage(tip, 2, model="fraud").encode()},
    "deleted": lambda lab, tip: {S: None},
    "extra_field": lambda lab, tip: lab.change(tip, 2) | {
        S: lab.stage(tip, 2).encode().replace(b"{\n", b'{\n "approved": true,\n', 1)},
    "duplicate_key": lambda lab, tip: lab.change(tip, 2) | {
        S: lab.stage(tip, 2).encode().replace(b' "seq": 2,\n', b' "seq": 2,\n "seq": 2,\n')},
    "two_at_once": lambda lab, tip: lab.change(tip, 2) | lab.change(tip, 3, "Staging", approvers=()),
    "with_a_version": lambda lab, tip: lab.change(tip, 2) | {V("churn", 4): lab.version(4)},
    "with_the_model_record": lambda lab, tip: lab.change(tip, 2) | {
        names.meta_path("churn"): Model("churn", "x").encode()},
    "emptied_without_approvals": lambda lab, tip: lab.change(tip, None, approvers=()),
    "old_record_again": lambda lab, tip: {S: lab.file(lab.before_v2, S)},
    "old_change_again": lambda lab, tip: lab.change(lab.commit(lab.before_v2, {}, who="x"), 2) | {
        S: lab.file(lab.before_v2, S).replace(b'"seq": 1', b'"seq": 2')},
    "version_zero": lambda lab, tip: lab.change(tip, 2) | {
        S: lab.stage(tip, 2).encode().replace(b'"version": 2', b'"version": 0')},
    "of_a_new_model": lambda lab, tip: {names.stage_path("fraud", "Production"): lab.stage(
        tip, 2, model="fraud", seq=1, prev=None).encode()},
})  # fmt: skip


@attack
@branch
def stage_code_into_production(lab, tip):
    tip = lab.commit(tip, {V("churn", 4): lab.version(4, format_class="code")})
    tip = lab.commit(tip, lab.change(tip, 4, "Staging", approvers=()))
    return lab.commit(tip, lab.change(tip, 4), who="dave")


@attack
@branch
def stage_deleted_version(lab, tip):
    note = Model("churn", versions={"2": VersionNote(status="deleted", reason="leak")})
    tip = lab.commit(tip, lab.change(tip, 3, "Staging", approvers=()))
    tip = lab.commit(tip, {names.meta_path("churn"): note.encode()})
    return lab.commit(tip, lab.change(tip, 2, "Shadow", approvers=("bob",)), who="dave")


@attack
@branch
def stage_back_to_what_never_was_there(lab, tip):
    tip = lab.commit(tip, lab.change(tip, 2), who="dave")
    tip = lab.commit(tip, lab.change(tip, 1, "Staging", approvers=()))
    return lab.commit(tip, lab.change(tip, 3), who="dave")


@attack
@branch
def stage_approved_then_other_digest(lab, tip):
    """Approvals for v2 are on the branch of the change, and the record then names v3."""
    other = lab.commit(tip, lab.change(tip, 2), who="dave")
    return lab.commit(other, {S: lab.stage(tip, 3).encode()}, who="dave")


@attack
@branch
def stage_promoted_and_taken_back_without_approvals(lab, tip):
    made = lab.commit(tip, lab.change(tip, 2, approvers=()), who="dave")
    old = {S: lab.file(tip, S)}
    gone = dict.fromkeys(lab.statement(lab.stage(tip, 2), "alice", "request"))
    return lab.commit(made, old | gone, who="dave")


@attack
@branch
def stage_promoted_and_reverted_in_one_push(lab, tip):
    made = lab.commit(tip, lab.change(tip, 2, approvers=()), who="dave")
    return lab.commit(made, lab.change(made, 1, approvers=()), who="dave")


@attack
@branch
def stage_open_change_then_another(lab, tip):
    made = lab.commit(tip, lab.change(tip, 2, approvers=("bob",)), who="dave")
    made = lab.commit(made, {V("churn", 4): lab.version(4)}, who="dave")
    return lab.commit(made, lab.statement(lab.stage(tip, 2), "carol"), who="carol")


@attack
@branch
def stage_written_by_its_approver(lab, tip):
    return lab.commit(tip, lab.change(tip, 2), who="bob")


@attack
@branch
def stage_row_written_by_its_approver(lab, tip):
    made = lab.commit(tip, lab.change(tip, 2, approvers=()), who="bob")
    record = lab.stage(tip, 2)
    made = lab.commit(made, lab.statement(record, "bob"), who="bob")
    return lab.commit(made, lab.statement(record, "carol"), who="carol")


_many("version", {
    "digest_swapped": lambda lab, tip: {V("churn", 2): lab.version(2, digest="c" * 64)},
    "signed_again": lambda lab, tip: {V("churn", 2): lab.version(2, description="better")},
    "deleted": lambda lab, tip: {V("churn", 2): None},
    "moved_to_another_model": lambda lab, tip: {V("fraud", 1): lab.version(1)},
    "copied_to_another_number": lambda lab, tip: {V("churn", 4): lab.version(3)},
    "unsigned": lambda lab, tip: {V("churn", 4): lab.version(4, key=None)},
    "foreign_creator": lambda lab, tip: {V("churn", 4): lab.version(4, creator="bob")},
    "outsider": lambda lab, tip: {V("churn", 4): lab.version(4, creator="mallory", key="mallory")},
    "creator_as_text": lambda lab, tip: {V("churn", 4): lab.version(4, creator="Alice <alice@example.org>")},
    "number_jump": lambda lab, tip: {V("churn", 5): lab.version(5)},
    "upper_case_digest": lambda lab, tip: {V("churn", 4): lab.version(4, digest="AB" * 32)},
    "short_digest": lambda lab, tip: {V("churn", 4): lab.version(4, digest="ab" * 16)},
    "leading_zero": lambda lab, tip: {"models/churn/versions/04.json": lab.version(4)},
    "zero": lambda lab, tip: {"models/churn/versions/0.json": lab.version(0)},
    "negative_size": lambda lab, tip: {V("churn", 4): lab.version(4, size=-1)},
    "unknown_format": lambda lab, tip: {V("churn", 4): lab.version(4, format_class="safe")},
    "signed_for_another_purpose": lambda lab, tip: {V("churn", 4): _version_signed(lab, "gml-approval-v1")},
    "signature_of_another": lambda lab, tip: {V("churn", 4): lab.version(4).replace(
        lab.version(4).split(b'"signature": ')[1], lab.version(3).split(b'"signature": ')[1])},
    "run_id_is_a_path": lambda lab, tip: {V("churn", 4): lab.version(4, run="../../x")},
    "case_twin_of_a_model": lambda lab, tip: {V("Churn", 1): lab.version(1, model="Churn")},
})  # fmt: skip


def _version_signed(lab, namespace):
    from dataclasses import replace

    version = records.read_version(lab.version(4, key=None), "x")
    return replace(version, signature=KEYS["alice"].sign(version.payload(), namespace)).encode()


_many("model", {
    "alias_to_nothing": lambda lab, tip: {names.meta_path("churn"): Model("churn", aliases={"best": 9}).encode()},
    "alias_is_a_number": lambda lab, tip: {names.meta_path("churn"): Model("churn", aliases={"v3": 1}).encode()},
    "alias_latest": lambda lab, tip: {names.meta_path("churn"): Model("churn", aliases={"latest": 1}).encode()},
    "alias_to_deleted": lambda lab, tip: {names.meta_path("churn"): Model(
        "churn", aliases={"a": 3}, versions={"3": VersionNote(status="deleted")}).encode()},
    "deletes_what_a_stage_holds": lambda lab, tip: {names.meta_path("churn"): Model(
        "churn", versions={"1": VersionNote(status="deleted")}).encode()},
    "says_it_is_another": lambda lab, tip: {names.meta_path("churn"): Model("fraud").encode()},
    "stands_for_nothing": lambda lab, tip: {names.meta_path("new"): Model("new", alias_of="nothing").encode()},
    "with_versions_stands_for_another": lambda lab, tip: {
        names.meta_path("churn"): Model("churn", alias_of="churn").encode()},
    "extra_note": lambda lab, tip: {names.meta_path("churn"): Model(
        "churn", versions={"1": VersionNote()}).encode().replace(b'   "reason"', b'   "approved": 1,\n   "reason"')},
    "note_is_no_object": lambda lab, tip: {names.meta_path("churn"): canonical.encode(
        {"format": "gml-model 1", "model": "churn", "description": "", "tags": {}, "aliases": {},
         "versions": {"1": 1}, "alias_of": None})},
})  # fmt: skip


def _policy_case(approvers, **changes):
    def build(lab, tip):
        new = lab.next_policy(**changes)
        found = {"policy.yaml": new}
        for person in approvers:
            found |= lab.policy_statement(new, person)
        return found

    return build


def _new_admin(lab, tip):
    people = policy_text().decode().split("people: ")[1].split("\nadmins")[0]
    new = lab.next_policy(
        people=f"{people}\n  eve:\n    keys: [{KEYS['eve'].public}]", admins="{people: [eve], threshold: 1}"
    )
    return {"policy.yaml": new} | lab.policy_statement(new, "eve")


def _yaml(change):
    def build(lab, tip):
        new = change(lab.next_policy().decode()).encode()
        return {"policy.yaml": new} | lab.policy_statement(new, "alice") | lab.policy_statement(new, "bob")

    return build


_both = ("alice", "bob")
_many("policy", {
    "grant_to_oneself": _policy_case((), writers="[dave]"),
    "one_admin_of_two": _policy_case(("alice",)),
    "one_admin_twice": lambda lab, tip: _policy_case(("bob",))(lab, tip) | lab.policy_statement(
        lab.next_policy(), "bob", key="bob2", path=names.policy_approval_path(2, "bob-2")),
    "approvers_who_are_no_admins": _policy_case(("carol", "dave")),
    "approved_by_the_new_admins": _new_admin,
    "edited_without_a_number": lambda lab, tip: {"policy.yaml": policy_text(signed="true")},
    "number_jump": lambda lab, tip: {"policy.yaml": policy_text(3, lab.policy.digest)},
    "other_past": lambda lab, tip: {"policy.yaml": policy_text(2, "f" * 64)},
    "other_repository": _policy_case(_both, repo="f" * 32),
    "deleted": lambda lab, tip: {"policy.yaml": None},
    "unreachable_threshold": _policy_case(_both, admins="{people: [alice, bob], threshold: 3}"),
    "unreachable_stage": _policy_case(_both, stages="{P: {approvers: [bob], threshold: 2}}"),
    "threshold_zero": _policy_case(_both, admins="{people: [alice, bob], threshold: 0}"),
    "threshold_true": _policy_case(_both, admins="{people: [alice, bob], threshold: true}"),
    "no_admins": _policy_case(_both, admins="{people: [], threshold: 1}"),
    "person_twice": _yaml(lambda t: t.replace("[alice, bob], threshold: 2", "[alice, bob, bob], threshold: 2")),
    "one_key_for_two": _yaml(lambda t: t.replace(str(KEYS["dave"].public), str(KEYS["carol"].public))),
    "one_account_for_two": _yaml(lambda t: t.replace("github: 103", "github: 102")),
    "one_address_for_two": _yaml(lambda t: t.replace("[dave@example.org]", "[Carol@example.org]")),
    "unknown_approver": _yaml(lambda t: t.replace("approvers: [alice, bob, carol]", "approvers: [alice, bob, carl]")),
    "service_with_a_persons_key": _policy_case(
        _both, services=f"{{ci: {{forge: github, keys: [{KEYS['carol'].public}]}}}}"),
    "unknown_key_of_the_policy": _yaml(lambda t: t + "sudo: true\n"),
    "duplicate_key": _yaml(lambda t: t + "signed: true\nsigned: false\n"),
    "anchor": _yaml(lambda t: t.replace("[alice, bob], threshold", "&a [alice, bob], threshold")),
    "alias": _yaml(lambda t: t.replace("[alice, bob], threshold", "&a [alice, bob], threshold") + "writers: *a\n"),
    "tag": _yaml(lambda t: t + "writers: !!python/object/apply:os.system [id]\n"),
    "two_documents": _yaml(lambda t: t + "---\nformat: x\n"),
    "stages_in_a_circle": _policy_case(_both, stages="{A: {from: B}, B: {from: A}}"),
    "stages_that_look_alike": _policy_case(_both, stages="{Prod: {}, prod: {}}"),
    "from_nowhere": _policy_case(_both, stages="{A: {from: B}}"),
    "person_with_capitals": _yaml(lambda t: t.replace("  dave:", "  Dave:")),
    "no_keys": _yaml(lambda t: t.replace(f"[{KEYS['dave'].public}]", "[]")),
    "rsa_in_name_only": _yaml(lambda t: t.replace(str(KEYS["dave"].public), str(KEYS["dave"].public).replace(
        "ssh-ed25519 ", "ssh-rsa "))),
    "with_a_promotion": lambda lab, tip: _policy_case(_both)(lab, tip) | lab.change(tip, 2),
    "with_a_version": lambda lab, tip: _policy_case(_both)(lab, tip) | {V("churn", 4): lab.version(4)},
    "statement_without_policy": lambda lab, tip: lab.policy_statement(lab.next_policy(), "alice"),
    "statement_of_another_text": lambda lab, tip: {"policy.yaml": lab.next_policy()} | lab.policy_statement(
        lab.next_policy(signed="false"), "alice") | lab.policy_statement(lab.next_policy(), "bob"),
    "statement_expired": lambda lab, tip: {"policy.yaml": lab.next_policy()} | lab.policy_statement(
        lab.next_policy(), "alice", expires=5) | lab.policy_statement(lab.next_policy(), "bob"),
    "statement_by_an_outsider": lambda lab, tip: _policy_case(_both)(lab, tip) | lab.policy_statement(
        lab.next_policy(), "mallory"),
    "statement_for_another_number": lambda lab, tip: {"policy.yaml": lab.next_policy()} | lab.policy_statement(
        lab.next_policy(), "alice", path=names.policy_approval_path(3, "alice")) | lab.policy_statement(
        lab.next_policy(), "bob"),
    "statement_claims_to_be_another": lambda lab, tip: {"policy.yaml": lab.next_policy()} | lab.policy_statement(
        lab.next_policy(), "alice", key="carol") | lab.policy_statement(lab.next_policy(), "bob"),
    "not_utf8": lambda lab, tip: {"policy.yaml": b"\xff" + lab.next_policy()},
})  # fmt: skip


@attack
@branch
def policy_grant_and_use_it_in_one_push(lab, tip):
    """dave makes himself approver without the admins, and promotes in the next commit."""
    new = lab.next_policy(stages="{Staging: {}, Production: {}}")
    made = lab.commit(tip, {"policy.yaml": new}, who="dave")
    lab.policy = read_policy(new)
    return lab.commit(made, lab.change(made, 2, by="dave", approvers=()), who="dave")


@attack
@branch
def policy_rolled_back(lab, tip):
    new = lab.next_policy()
    both = lab.policy_statement(new, "alice") | lab.policy_statement(new, "bob")
    made = lab.commit(tip, {"policy.yaml": new} | both)
    return lab.commit(made, {"policy.yaml": lab.policy_bytes})


@attack
@branch
def policy_old_key_after_rotation(lab, tip):
    """carol's key was replaced; what the old one signs does not count any more."""
    new = policy_text(2, lab.policy.digest).replace(
        str(KEYS["carol"].public).encode(), str(KEYS["eve"].public).encode()
    )
    both = lab.policy_statement(new, "alice") | lab.policy_statement(new, "bob")
    made = lab.commit(tip, {"policy.yaml": new} | both)
    lab.policy = read_policy(new)
    return lab.commit(made, lab.change(made, 2), who="dave")


# --- history --------------------------------------------------------------------------------------


@attack
@branch
def history_amended(lab, tip):
    return lab.commit(lab.before_v3, {V("churn", 3): lab.version(3, description="other")})


@attack
@branch
def history_rewound(lab, tip):
    return lab.before_v3


@attack
def history_deleted(lab, tip):
    return [(BRANCH, None)]


@attack
@branch
def history_unrelated_root(lab, tip):
    other = Lab(policy_text(repo="f" * 32))
    top = other.start()
    lab.objects.update(other.objects)
    return top


@attack
@branch
def history_foxtrot(lab, tip):
    """The old tip becomes the second parent, so that another line is the history."""
    other = lab.commit(lab.before_v3, {V("churn", 3): lab.version(3, description="mine")})
    return lab.merge(other, tip, tree=lab.tree_of(other))


@attack
@branch
def history_evil_merge(lab, tip):
    side = lab.commit(lab.before_v3, {names.meta_path("churn"): Model("churn", "text").encode()})
    return lab.merge(tip, side, {V("churn", 4): lab.version(4)})


@attack
@branch
def history_merge_undoes(lab, tip):
    side = lab.commit(lab.before_v3, {names.meta_path("churn"): Model("churn", "text").encode()})
    return lab.merge(tip, side, tree=lab.tree_of(side))


@attack
@branch
def history_octopus(lab, tip):
    one = lab.commit(tip, {V("churn", 4): lab.version(4)})
    two = lab.commit(tip, {names.meta_path("churn"): Model("churn", "text").encode()})
    return lab.commit(None, tree=lab.tree_of(one), parents=[tip, one, two])


@attack
@branch
def history_side_by_the_approver(lab, tip):
    side = lab.commit(tip, lab.change(tip, 2, approvers=()), who="bob")
    record = lab.stage(tip, 2)
    side = lab.commit(side, lab.statement(record, "bob"), who="bob")
    side = lab.commit(side, lab.statement(record, "carol"), who="carol")
    return lab.merge(tip, side, who="dave")


@attack
@branch
def history_side_of_another_root(lab, tip):
    root = lab.commit(None, {"format": b"gml-registry 1\n", V("churn", 4): lab.version(4)}, parents=[])
    return lab.commit(None, tree=lab.tree(tip, {V("churn", 4): lab.version(4)}), parents=[tip, root])


@attack
@branch
def history_side_with_a_secret_file(lab, tip):
    side = lab.commit(tip, {"hooks/pre-receive": b"#!/bin/sh\n"})
    side = lab.commit(side, {"hooks/pre-receive": None, V("churn", 4): lab.version(4)})
    return lab.commit(None, tree=lab.tree_of(side), parents=[tip, side])


@attack
@branch
def history_side_with_a_large_file(lab, tip):
    side = lab.commit(tip, {names.meta_path("churn"): b"x" * 100_000})
    side = lab.commit(side, {names.meta_path("churn"): Model("churn", "x").encode()})
    return lab.commit(None, tree=lab.tree_of(side), parents=[tip, side])


@attack
@branch
def history_empty_commit(lab, tip):
    return lab.commit(tip, {})


@attack
@branch
def history_too_many_changes(lab, tip):
    return lab.commit(tip, {V("churn", n): lab.version(n) for n in range(4, 304)})


@attack
@branch
def history_too_many_commits(lab, tip):
    for number in range(4, 254):
        tip = lab.commit(tip, {V("churn", number): lab.version(number)})
    return tip


@attack
@branch
def history_dated_in_the_future(lab, tip):
    return lab.commit(tip, {V("churn", 4): lab.version(4)}, time=NOW + 10**8)


@attack
@branch
def history_junk_header(lab, tip):
    return lab.commit(tip, {V("churn", 4): lab.version(4)}, extra=[("gpgsigx", "junk")])


@attack
@branch
def history_two_signatures(lab, tip):
    return lab.commit(tip, {V("churn", 4): lab.version(4)}, extra=[("gpgsig", "one"), ("gpgsig", "two")])


@attack
@branch
def history_altered_after_signing(lab, tip):
    good = lab.commit(tip, {V("churn", 4): lab.version(4)}, sign="alice")
    data = lab.read(good)[1].replace(b"change\n", b"changed\n")
    return lab.raw_commit(data.replace(b"\n\nchange", b"\n\nother"))


@attack
@branch
def history_second_tree_header(lab, tip):
    good = lab.commit(tip, {V("churn", 4): lab.version(4)})
    data = lab.read(good)[1]
    return lab.raw_commit(data.replace(b"\n\n", b"\ntree " + lab.tree_of(tip).encode() + b"\n\n", 1))


@attack
@branch
def history_author_before_parent(lab, tip):
    good = lab.commit(tip, {V("churn", 4): lab.version(4)})
    lines = lab.read(good)[1].split(b"\n")
    lines[1], lines[2] = lines[2], lines[1]
    return lab.raw_commit(b"\n".join(lines))


@attack
@branch
def history_missing_parent(lab, tip):
    good = lab.commit(tip, {V("churn", 4): lab.version(4)})
    return lab.raw_commit(lab.read(good)[1].replace(tip.encode(), b"1" * 40))


# --- names and sizes ----------------------------------------------------------------------------------


def _path(path, data=b"{}\n"):
    return lambda lab, tip: {path: data}


_many("name", {
    "cyrillic": lambda lab, tip: {V("\u0441hurn", 1): lab.version(1, model="\u0441hurn")},
    "nfd": lambda lab, tip: {V("cafe\u0301", 1): lab.version(1, model="cafe\u0301")},
    "zero_width": lambda lab, tip: {V("chu\u200brn", 1): lab.version(1, model="chu\u200brn")},
    "dot_file": lambda lab, tip: {V(".hidden", 1): lab.version(1, model=".hidden")},
    "gitmodules": _path(".gitmodules"),
    "gitattributes": _path(".gitattributes"),
    "leading_dash": lambda lab, tip: {V("-rf", 1): lab.version(1, model="-rf")},
    "con": lambda lab, tip: {V("con", 1): lab.version(1, model="con")},
    "aux_with_ending": lambda lab, tip: {V("AUX.v1", 1): lab.version(1, model="AUX.v1")},
    "trailing_dot": lambda lab, tip: {V("churn.", 1): lab.version(1, model="churn.")},
    "lock": lambda lab, tip: {V("churn.lock", 1): lab.version(1, model="churn.lock")},
    "newline": lambda lab, tip: {V("chu\nrn", 1): lab.version(1, model="chu\nrn")},
    "space": lambda lab, tip: {V("chu rn", 1): lab.version(1, model="chu rn")},
    "backslash": lambda lab, tip: {V("a\\b", 1): lab.version(1, model="a\\b")},
    "colon": lambda lab, tip: {V("a:b", 1): lab.version(1, model="a:b")},
    "too_long": lambda lab, tip: {V("m" * 101, 1): lab.version(1, model="m" * 101)},
    "hooks": _path("hooks/pre-receive"),
    "workflow": _path(".github/workflows/x.yml"),
    "readme": _path("README.md"),
    "deeper": _path("models/churn/versions/4.json/x.json"),
    "other_ending": _path("models/churn/versions/4.yaml"),
    "upper_case_directory": _path("Models/churn/versions/1.json"),
    "upper_case_policy": _path("POLICY.yaml"),
    "upper_case_person": lambda lab, tip: lab.change(tip, 2) | {
        "approvals/churn/Production/2/Carol.json": b"{}\n"},
    "stage_none": lambda lab, tip: {"models/churn/stages/None.json": b"{}\n"},
    "format_changed": _path("format", b"gml-registry 2\n"),
    "format_deleted": lambda lab, tip: {"format": None},
})  # fmt: skip


def _mode(mode):
    def build(lab, tip):
        return lab.commit(tip, {V("churn", 4): lab.version(4)}, mode=mode)

    return build


_many("mode", {
    "executable": _mode(0o100755), "link": _mode(0o120000), "gitlink": _mode(0o160000), "group": _mode(0o100664),
}, branch)  # fmt: skip


@attack
@branch
def mode_directory_for_a_file(lab, tip):
    return lab.commit(tip, {S: None, f"{S}/x": b"{}\n"})


@attack
@branch
def mode_file_for_a_directory(lab, tip):
    return lab.commit(tip, {"approvals": b"{}\n"})


@attack
@branch
def mode_empty_directory(lab, tip):
    empty = lab.put("tree", b"")
    models = lab.tree(tip, {V("churn", 4): lab.version(4), "models/x": (0o040000, empty)})
    return lab.commit(tip, tree=models)


@attack
@branch
def mode_name_twice(lab, tip):
    data = lab.read(lab.tree_of(tip))[1]
    return lab.commit(tip, tree=lab.put("tree", data + data[-30:]))


@attack
@branch
def mode_name_twice_in_versions(lab, tip):
    """Readers that take the first of two entries see another file than those that take the last."""
    from gml.git import trees

    good = lab.tree(tip, {V("churn", 4): lab.version(4)})
    entry = trees.lookup(lab, good, "models/churn/versions")
    data = lab.read(entry.oid)[1]
    twice = lab.put(
        "tree", data + b"100644 4.json\0" + bytes.fromhex(lab.put("blob", lab.version(4, size=2)))
    )
    return lab.commit(tip, tree=lab.tree(tip, {"models/churn/versions": (0o040000, twice)}))


_many("size", {
    "large_record": lambda lab, tip: {V("churn", 4): lab.version(4) + b" " * 1_000_000},
    "long_description": lambda lab, tip: {V("churn", 4): lab.version(4, description="x" * 5_000)},
    "deep": lambda lab, tip: {names.meta_path("churn"): b"[" * 20_000 + b"]" * 20_000},
    "nan": lambda lab, tip: {V("churn", 4): lab.version(4).replace(b'"size": 1', b'"size": NaN')},
    "huge_number": lambda lab, tip: {V("churn", 4): lab.version(4).replace(b'"size": 1', b'"size": ' + b"9" * 60_000)},
    "not_json": lambda lab, tip: {V("churn", 4): b"\x00\xff"},
    "a_list": lambda lab, tip: {V("churn", 4): b"[]\n"},
    "surrogate": lambda lab, tip: {names.meta_path("churn"): Model("churn", "x").encode().replace(
        b'"x"', b'"\\ud800"')},
    "byte_order_mark": lambda lab, tip: {V("churn", 4): b"\xef\xbb\xbf" + lab.version(4)},
    "many_tags": lambda lab, tip: {names.meta_path("churn"): Model(
        "churn", tags={str(n): "" for n in range(101)}).encode()},
})  # fmt: skip


# --- refs -----------------------------------------------------------------------------------------


def _ref(name, build):
    def updates(lab, tip):
        return build(lab, tip)

    updates.__name__ = f"ref_{name}"
    attack(updates)


TAG = "refs/tags/gml/churn/v3"
_ref("tag_lightweight", lambda lab, tip: [(TAG, tip)])
_ref("tag_other_name_inside", lambda lab, tip: [(TAG, lab.tag("gml/churn/v2", tip))])
_ref("tag_of_a_tag", lambda lab, tip: [(TAG, lab.tag("gml/churn/v3", lab.tag("x", tip), "tag"))])
_ref("tag_of_a_tree", lambda lab, tip: [(TAG, lab.tag("gml/churn/v3", lab.tree_of(tip), "tree"))])
_ref(
    "tag_off_the_branch",
    lambda lab, tip: [
        (TAG, lab.tag("gml/churn/v3", lab.commit(lab.before_v3, {V("churn", 3): lab.version(3, size=9)})))
    ],
)
_ref("tag_on_another_commit", lambda lab, tip: [(TAG, lab.tag("gml/churn/v3", lab.before_v2))])
_ref("tag_on_a_later_commit", lambda lab, tip: [("refs/tags/gml/churn/v2", lab.tag("gml/churn/v2", tip))])
_ref("tag_of_no_version", lambda lab, tip: [("refs/tags/gml/churn/v9", lab.tag("gml/churn/v9", tip))])
_ref(
    "tag_without_promotion",
    lambda lab, tip: [("refs/tags/gml/churn/Production/2", lab.tag("gml/churn/Production/2", tip))],
)
_ref(
    "tag_of_another_turn",
    lambda lab, tip: [("refs/tags/gml/churn/Production/3", lab.tag("gml/churn/Production/3", lab.before_v2))],
)
_ref("tag_deleted", lambda lab, tip: [("refs/tags/gml/churn/v1", None)])
_ref("tag_moved", lambda lab, tip: [("refs/tags/gml/churn/v1", lab.tag("gml/churn/v1", tip))])
_ref("tag_other_case", lambda lab, tip: [("refs/tags/GML/churn/v3", lab.tag("GML/churn/v3", tip))])
_ref("tag_leading_zero", lambda lab, tip: [("refs/tags/gml/churn/v03", lab.tag("gml/churn/v03", tip))])
_ref("tag_reserved", lambda lab, tip: [("refs/tags/gml/x", lab.tag("gml/x", tip))])
_ref("tag_as_stage_none", lambda lab, tip: [("refs/tags/gml/churn/None/1", lab.tag("gml/churn/None/1", tip))])
_ref("branch_other_case", lambda lab, tip: [("refs/heads/GML/registry", tip)])
_ref("branch_full_width", lambda lab, tip: [("refs/heads/\uff47ml/registry", tip)])
_ref("branch_zero_width", lambda lab, tip: [("refs/heads/g\u200bml/registry", tip)])
_ref("branch_reserved", lambda lab, tip: [("refs/heads/gml/other", tip)])
_ref("branch_below_registry", lambda lab, tip: [("refs/heads/gml/registry2/x", tip)])
_ref("branch_proposal_nested", lambda lab, tip: [("refs/heads/gml/propose/a/b", tip)])
_ref("branch_proposal_is_a_blob", lambda lab, tip: [("refs/heads/gml/propose/x", lab.put("blob", b"x"))])
_ref("head", lambda lab, tip: [("refs/HEAD", tip)])
_ref("replace", lambda lab, tip: [(f"refs/replace/{lab.before_v2}", tip)])
_ref("gml_unknown", lambda lab, tip: [("refs/gml/other", tip)])
_ref("gml_other_case", lambda lab, tip: [("refs/Gml/ledger", tip)])
_ref("ledger_is_a_blob", lambda lab, tip: [("refs/gml/code", lab.put("blob", b"x"))])
_ref("ledger_deleted", lambda lab, tip: [("refs/gml/ledger", None)])
_ref(
    "ledger_rewritten", lambda lab, tip: [("refs/gml/ledger", lab.commit(None, {"format": b"x"}, parents=[]))]
)
_ref("long_name", lambda lab, tip: [("refs/heads/" + "x" * 244, tip)])
_ref("good_and_bad", lambda lab, tip: [
    (BRANCH, lab.commit(tip, {V("churn", 4): lab.version(4)})), ("refs/tags/gml/churn/v9", lab.tag("gml/churn/v9", tip)),
])  # fmt: skip


# --- honest pushes --------------------------------------------------------------------------------


def _good(prefix, cases, wrap=files):
    for name, build in cases.items():
        build.__name__ = f"{prefix}_{name}"
        honest(wrap(build))


def _meta(**changes):
    return lambda lab, tip: {names.meta_path("churn"): Model("churn", **changes).encode()}


_good("version", {
    "next": lambda lab, tip: {V("churn", 4): lab.version(4)},
    "two_at_once": lambda lab, tip: {V("churn", 4): lab.version(4), V("churn", 5): lab.version(5)},
    "by_bob": lambda lab, tip: {V("churn", 4): lab.version(4, creator="bob", key="bob")},
    "by_bobs_second_key": lambda lab, tip: {V("churn", 4): lab.version(4, creator="bob", key="bob2")},
    "by_dave": lambda lab, tip: {V("churn", 4): lab.version(4, creator="dave", key="dave")},
    "of_code": lambda lab, tip: {V("churn", 4): lab.version(4, format_class="code")},
    "unknown_format": lambda lab, tip: {V("churn", 4): lab.version(4, format_class="unknown")},
    "described": lambda lab, tip: {V("churn", 4): lab.version(4, description="forêt: 2026 \u2713\nsecond line")},
    "of_a_run": lambda lab, tip: {V("churn", 4): lab.version(4, run="01a2" * 8, experiment="0")},
    "imported": lambda lab, tip: {V("churn", 4): lab.version(4, imported={"tool": "gto"})},
    "of_a_new_model": lambda lab, tip: {V("fraud", 1): lab.version(1, model="fraud")},
    "of_a_new_model_with_record": lambda lab, tip: {
        V("fraud", 1): lab.version(1, model="fraud"), names.meta_path("fraud"): Model("fraud").encode()},
    "of_a_model_with_dots": lambda lab, tip: {V("churn.eu-2_x", 1): lab.version(1, model="churn.eu-2_x")},
    "with_the_record": lambda lab, tip: {V("churn", 4): lab.version(4)} | _meta(aliases={"new": 4})(lab, tip),
})  # fmt: skip
_good("model", {
    "described": _meta(description="who leaves"), "tagged": _meta(tags={"team": "risk", "größe": "1"}),
    "aliased": _meta(aliases={"champion": 2, "challenger": 3}),
    "version_described": _meta(versions={"3": VersionNote("better", {"a": "b"})}),
    "version_archived": _meta(versions={"3": VersionNote(status="archived", reason="old")}),
    "version_deleted": _meta(versions={"3": VersionNote(status="deleted")}),
    "renamed": lambda lab, tip: {names.meta_path("leavers"): Model("leavers", alias_of="churn").encode()},
})  # fmt: skip
_good("stage", {
    "two_approvers": lambda lab, tip: lab.change(tip, 2, by="dave"),
    "asked_by_the_creator": lambda lab, tip: lab.change(tip, 2, by="alice"),
    "second_key": lambda lab, tip: _votes(
        lab, tip, lambda r: lab.statement(r, "bob", key="bob2"), lambda r: lab.statement(r, "carol")),
    "with_a_comment": lambda lab, tip: _votes(
        lab, tip, lambda r: lab.statement(r, "bob", comment="geprüft"), lambda r: lab.statement(r, "carol")),
    "never_expires": lambda lab, tip: _votes(
        lab, tip, lambda r: lab.statement(r, "bob", expires=None), lambda r: lab.statement(r, "carol")),
    "rejection_of_somebody_else": lambda lab, tip: lab.change(tip, 2, by="alice") | lab.statement(
        lab.stage(tip, 2), "dave", "rejection"),
    "more_than_enough": lambda lab, tip: lab.change(tip, 2, by="dave") | lab.statement(lab.stage(tip, 2), "alice"),
    "staging_of_v3": lambda lab, tip: lab.change(tip, 3, "Staging", approvers=()),
    "staging_by_dave": lambda lab, tip: lab.change(tip, 3, "Staging", by="dave", approvers=()),
    "staging_emptied": lambda lab, tip: lab.change(tip, None, "Staging", approvers=()),
    "emptied": lambda lab, tip: lab.change(tip, None),
    "shadow": lambda lab, tip: lab.change(tip, 3, "Shadow", approvers=("bob",)),
    "shadow_by_the_requester": lambda lab, tip: lab.change(tip, 3, "Shadow", by="bob", approvers=()),
    "review_on_a_forge": lambda lab, tip: _two(lab, tip, lambda r: lab.statement(
        r, "carol", "evidence", key="ci",
        review={"forge": "github", "service": "ci", "user": "102", "review": "1", "commit": "f" * 40})),
})  # fmt: skip
_good("policy", {
    "same_again": _policy_case(_both), "signed": _policy_case(_both, signed="true"),
    "fewer_writers": _policy_case(_both, writers="[alice, bob]"),
    "alias_tied": _policy_case(_both, aliases="{champion: Production}"),
    "three_approve": _policy_case((*_both, "carol")),
    "one_admin": _policy_case(_both, admins="{people: [alice], threshold: 1}"),
    "key_with_a_date": _yaml(lambda t: t.replace(
        f"[{KEYS['dave'].public}]", f"[{{key: {KEYS['dave'].public}, expires: 2031-12-31}}]")),
    "comments": _yaml(lambda t: "# ours\n" + t), "no_services": _policy_case(_both, services="{}"),
    "other_stage": _policy_case(_both, stages="{Staging: {}, Production: {approvers: [bob]}, QA: {from: Staging}}"),
})  # fmt: skip


@honest
@branch
def row_of_commits(lab, tip):
    """A rebased pull request: the change, then one commit for each approval."""
    record = lab.stage(tip, 2)
    made = lab.commit(tip, lab.change(tip, 2, approvers=()), who="alice")
    made = lab.commit(made, lab.statement(record, "bob"), who="bob")
    return lab.commit(made, lab.statement(record, "carol"), who="carol")


@honest
@branch
def rejected_then_approved(lab, tip):
    record = lab.stage(tip, 2)
    made = lab.commit(tip, lab.change(tip, 2, approvers=("carol",)), who="alice")
    made = lab.commit(made, lab.statement(record, "bob", "rejection"), who="bob")
    return lab.commit(made, lab.statement(record, "bob"), who="bob")


@honest
@branch
def merged(lab, tip):
    record = lab.stage(tip, 2)
    side = lab.commit(tip, lab.change(tip, 2, approvers=()), who="alice")
    side = lab.commit(side, lab.statement(record, "bob"), who="bob")
    side = lab.commit(side, lab.statement(record, "carol"), who="carol")
    return lab.merge(tip, side, who="carol")


@honest
@branch
def merged_after_others(lab, tip):
    side = lab.commit(tip, lab.change(tip, 2), who="alice")
    main = lab.commit(tip, {V("churn", 4): lab.version(4)})
    return lab.merge(main, side, who="dave")


@honest
@branch
def squashed(lab, tip):
    return lab.commit(tip, lab.change(tip, 2), who="alice")


@honest
@branch
def merge_queue(lab, tip):
    """Two pull requests, merged one after another in one push."""
    one = lab.commit(tip, lab.change(tip, 2), who="alice")
    two = lab.commit(tip, {V("churn", 4): lab.version(4)})
    made = lab.merge(tip, one, who="dave")
    return lab.merge(made, two, who="dave")


@honest
@branch
def promote_and_revert(lab, tip):
    made = lab.commit(tip, lab.change(tip, 2))
    return lab.commit(made, lab.change(made, 1))


@honest
@branch
def revert_after_staging_moved_on(lab, tip):
    made = lab.commit(tip, lab.change(tip, 2))
    made = lab.commit(made, lab.change(made, 3, "Staging", approvers=()))
    return lab.commit(made, lab.change(made, 1))


@honest
@branch
def key_rotated_and_used(lab, tip):
    new = policy_text(2, lab.policy.digest).replace(
        str(KEYS["carol"].public).encode(), str(KEYS["eve"].public).encode()
    )
    made = lab.commit(
        tip, {"policy.yaml": new} | lab.policy_statement(new, "alice") | lab.policy_statement(new, "bob")
    )
    lab.policy = read_policy(new)
    record = lab.stage(made, 2)
    votes = lab.statement(record, "bob") | lab.statement(record, "carol", key="eve")
    return lab.commit(made, lab.change(made, 2, approvers=()) | votes)


@honest
@branch
def signed_commit(lab, tip):
    return lab.commit(tip, {V("churn", 4): lab.version(4)}, sign="alice")


@honest
@branch
def signed_by_the_forge(lab, tip):
    pgp = "-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----"
    return lab.commit(tip, {V("churn", 4): lab.version(4)}, extra=[("gpgsig", pgp)])


@honest
@branch
def clock_behind(lab, tip):
    return lab.commit(tip, {V("churn", 4): lab.version(4)}, time=NOW - 10**7)


@honest
@branch
def clock_a_little_ahead(lab, tip):
    return lab.commit(tip, {V("churn", 4): lab.version(4)}, time=NOW + 600)


@honest
@branch
def many_versions(lab, tip):
    for number in range(4, 104):
        tip = lab.commit(tip, {V("churn", number): lab.version(number)})
    return tip


def _good_ref(name, build):
    build.__name__ = f"ref_{name}"
    honest(build)


_good_ref("tag_of_a_version", lambda lab, tip: [(TAG, lab.tag("gml/churn/v3", tip))])
_good_ref(
    "tag_of_a_stage",
    lambda lab, tip: [
        ("refs/tags/gml/churn/Production/1", lab.tag("gml/churn/Production/1", lab.stage_commit))
    ],
)
_good_ref(
    "branch_and_tag",
    lambda lab, tip: [
        (BRANCH, made := lab.commit(tip, {V("churn", 4): lab.version(4)})),
        ("refs/tags/gml/churn/v4", lab.tag("gml/churn/v4", made)),
    ],
)
_good_ref(
    "proposal",
    lambda lab, tip: [
        ("refs/heads/gml/propose/churn-2-production-2", lab.commit(tip, lab.change(tip, 2, approvers=())))
    ],
)
_good_ref("proposal_deleted", lambda lab, tip: [("refs/heads/gml/propose/old", None)])
_good_ref("proposal_rewritten", lambda lab, tip: [("refs/heads/gml/propose/old", lab.before_v2)])
_good_ref("other_branch", lambda lab, tip: [("refs/heads/main", lab.before_v2)])
_good_ref(
    "other_branch_with_any_files",
    lambda lab, tip: [
        ("refs/heads/feature/x", lab.commit(None, {"README.md": b"x", "run.sh": b"x"}, parents=[]))
    ],
)
_good_ref("other_tag", lambda lab, tip: [("refs/tags/v1.0", tip)])
_good_ref("name_that_only_starts_alike", lambda lab, tip: [("refs/heads/gmlx/registry", tip)])
_good_ref("ledger_appended", lambda lab, tip: [("refs/gml/ledger", lab.commit(lab.ledger, {"format": b"y"}))])
_good_ref("inbox", lambda lab, tip: [("refs/gml/inbox/0011223344556677/ledger", lab.ledger)])
_good_ref("code", lambda lab, tip: [("refs/gml/code", lab.commit(None, {"a": b"x"}, parents=[]))])
_good_ref("nothing", lambda lab, tip: [])
