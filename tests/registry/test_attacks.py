"""Attacks are refused and honest pushes pass: by the gate in this process, and through real pushes."""

from __future__ import annotations

import pytest
from registry_attacks import ATTACKS, HONEST
from registry_lab import BRANCH, NOW, Lab

from gml.domain.errors import NotFoundError
from gml.policy.errors import RefusedError
from gml.registry.gate import Gate, Update


class MemoryStore:
    """A server's repository in memory: the objects of a lab, and refs."""

    def __init__(self, lab: Lab, refs: dict[str, str]) -> None:
        self._lab, self._refs = lab, refs

    def read(self, oid):
        return self._lab.read(oid)

    def contains(self, oid):
        try:
            self._lab.read(oid)
        except NotFoundError:
            return False
        return True

    def ref(self, name):
        return self._refs.get(name)

    def is_ancestor(self, ancestor, tip):
        from gml.git.revisions import is_ancestor

        return is_ancestor(self._lab, ancestor, tip)


@pytest.fixture(scope="session")
def _started():
    lab = Lab()
    tip = prepare(lab)
    return lab, tip


def prepare(lab: Lab) -> str:
    tip = lab.start()
    lab.tip = tip
    lab.stage_commit = lab.before_v2
    lab.ledger = lab.commit(None, {"format": b"x"}, parents=[])
    lab.refs = {
        BRANCH: tip,
        "refs/gml/ledger": lab.ledger,
        "refs/heads/gml/propose/old": lab.before_v3,
        "refs/tags/gml/churn/v1": lab.tag("gml/churn/v1", first_version(lab)),
    }
    return tip


def first_version(lab: Lab) -> str:
    from gml.registry.chain import Chain

    return Chain(lab).between(None, lab.tip)[1]


@pytest.fixture
def lab(_started):
    """A lab with the honest history; what a test adds is its own."""
    source, _ = _started
    copy = Lab.__new__(Lab)
    copy.__dict__.update(source.__dict__)
    copy.objects = dict(source.objects)
    copy.refs = dict(source.refs)
    return copy


def push(lab: Lab, updates) -> Gate:
    gate = Gate(MemoryStore(lab, lab.refs), now=NOW)
    gate.judge([Update(ref, lab.refs.get(ref), new) for ref, new in updates])
    return gate


# What the message must say, so that an attack is not refused for a reason of its own making.
REASONS = {
    "approvals_none": "0 of 2", "approvals_too_few": "1 of 2", "approvals_by_requester": "bob asked for it",
    "approvals_by_version_creator": "alice created the version", "approvals_expired": "expired",
    "approvals_by_nobody_of_the_stage": "dave is not an approver", "approvals_unknown_key": "not a key of that person",
    "approvals_claims_to_be_another": "not a key of that person", "approvals_other_digest": "another digest",
    "approvals_of_another_version": "another version", "approvals_of_another_stage": "another stage",
    "approvals_of_another_model": "another model", "approvals_of_another_repository": "another repo",
    "approvals_under_another_policy": "another policy", "approvals_of_another_turn": "another seq",
    "approvals_of_another_past": "another prev", "approvals_copied_under_another_name": "another person",
    "approvals_rejected_by_one": "rejected by alice", "approvals_changed_after_signing": "does not fit",
    "approvals_longer_after_signing": "does not fit", "approvals_commit_signature": "signed for 'git'",
    "approvals_extra_field": "does not belong", "approvals_field_missing": "'comment' is missing",
    "approvals_duplicate_key": "canonical", "approvals_other_spelling": "canonical", "approvals_no_newline": "canonical",
    "approvals_other_order": "canonical", "approvals_deleted": "deleted", "approvals_by_a_bot": "not by the account",
    "approvals_without_the_change": "without the change", "stage_not_from_staging": "not in Staging",
    "stage_unregistered_version": "not registered before", "stage_other_digest": "another digest",
    "stage_unknown_stage": "no stage Canary", "stage_other_case": "only in upper and lower case", "stage_turn_skipped": "the next one is 2",
    "stage_turn_true": "seq may not be True", "stage_other_past": "prev is not", "stage_same_version_again": "already",
    "stage_code_into_production": "code format", "stage_deleted_version": "is deleted",
    "stage_registered_in_the_same_commit": "stand alone", "stage_written_by_its_approver": "bob wrote a commit",
    "stage_row_written_by_its_approver": "bob wrote a commit", "history_side_by_the_approver": "bob wrote a commit",
    "stage_open_change_then_another": "must stand alone", "stage_two_at_once": "2 stages at once",
    "version_digest_swapped": "stays as it was", "version_deleted": "deleted", "version_unsigned": "not signed",
    "version_foreign_creator": "not a key of that person", "version_outsider": "not a writer",
    "version_number_jump": "there is no v4", "version_moved_to_another_model": "says that it is churn v1",
    "version_case_twin_of_a_model": "upper and lower case", "version_signed_for_another_purpose": "signed for",
    "policy_one_admin_of_two": "1 of 2", "policy_approved_by_the_new_admins": "does not know eve",
    "policy_grant_to_oneself": "0 of 2", "policy_unknown_approver": "did you mean 'carol'",
    "policy_duplicate_key": "twice", "policy_anchor": "anchors", "policy_tag": "tags are not allowed",
    "policy_grant_and_use_it_in_one_push": "must stand alone", "policy_old_key_after_rotation": "not a key of that person",
    "policy_rolled_back": "the next policy must have version 3", "history_rewound": "first parents",
    "history_foxtrot": "first parents", "history_amended": "first parents", "history_unrelated_root": "first parents",
    "history_evil_merge": "unlike what it merges", "history_octopus": "more than one branch",
    "history_merge_undoes": "unlike what it merges", "history_side_of_another_root": "history of its own",
    "history_empty_commit": "nothing is different", "history_too_many_changes": "more than 200 files",
    "history_too_many_commits": "more than 200 commits", "history_dated_in_the_future": "future",
    "history_junk_header": "gpgsigx", "history_two_signatures": "more than one signature",
    "history_altered_after_signing": "does not fit", "mode_executable": "mode 100755", "mode_link": "mode 120000",
    "mode_gitlink": "mode 160000", "mode_name_twice_in_versions": "name twice", "size_large_record": "limit",
    "size_deep": "nested deeper", "size_nan": "whole numbers", "size_huge_number": "digits",
    "ref_tag_lightweight": "annotated", "ref_tag_other_name_inside": "says that it is", "ref_tag_moved": "never moved",
    "ref_ledger_rewritten": "append only", "ref_replace": "replaced", "ref_branch_full_width": "looks like",
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_the_gate_refuses(lab, name):
    updates = ATTACKS[name](lab, lab.tip)
    with pytest.raises(RefusedError) as refused:
        push(lab, updates)
    assert REASONS.get(name, "") in str(refused.value)


@pytest.mark.parametrize("name", HONEST)
def test_the_gate_accepts(lab, name):
    updates = HONEST[name](lab, lab.tip)
    gate = push(lab, updates)
    moved = any(ref == BRANCH for ref, _ in updates)
    assert bool(gate.accepted) is moved


def test_there_are_many_of_both():
    assert len(ATTACKS) >= 160
    assert len(HONEST) >= 60
    assert set(REASONS) <= set(ATTACKS)
