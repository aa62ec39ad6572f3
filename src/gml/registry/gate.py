"""The gate: what a push may do to the refs of gml. Called by hooks; anything unexpected is a refusal."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gml.domain.errors import GmlError
from gml.git.objects import parse_tag
from gml.policy import names, refs
from gml.policy.decision import Judge
from gml.policy.errors import RefusedError
from gml.policy.records import read_stage
from gml.policy.refs import RefPlace, classify_ref
from gml.registry.chain import Chain
from gml.registry.evidence import LedgerEvidence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gml.git.port import GitStore
    from gml.policy.view import Accepted

MAX_STEPS: Final = 200
MAX_UPDATES: Final = 2_000
MAX_TAG: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class Update:
    """One ref that a push wants to move; None where there is no object."""

    ref: str
    old: str | None
    new: str | None


def parse_updates(text: str) -> list[Update]:
    """Return what git writes to the standard input of `pre-receive`: old id, new id, ref name.

    Raises:
        RefusedError: a line is not of that form.
    """
    found = []
    for line in text.splitlines():
        parts = line.split(" ", 2)
        if len(parts) != 3 or not parts[2]:
            raise RefusedError("input", f"this is not a line of a push: {line[:100]!r}")
        old, new = (None if not part.strip("0") else part for part in parts[:2])
        found.append(Update(parts[2], old, new))
    return found


class Gate:
    """Judges pushes to one repository.

    Args:
        store: the repository, new objects included.
        namespace: middle part of the refs.
        now: time of receipt, seconds since the epoch; None for this moment.
        authority: the server's own refs are compared with what the push says; off where a client only
            wants to know beforehand.
    """

    def __init__(
        self, store: GitStore, namespace: str = "gml", *, now: int | None = None, authority: bool = True
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._now = int(time.time()) if now is None else now
        self._authority = authority
        self._chain = Chain(store)
        self._branch = f"refs/heads/{namespace}/registry"
        self.accepted: list[Accepted] = []

    def judge(self, updates: Iterable[Update]) -> None:
        """Judge a whole push.

        Raises:
            RefusedError: one of the updates is not allowed, so none is.
        """
        wanted = list(updates)
        if len({update.ref for update in wanted}) != len(wanted):
            raise RefusedError("refs", "a ref is named twice")
        gml_refs = [(update, classify_ref(update.ref, self._namespace)) for update in wanted]
        if sum(place.kind != refs.OTHER for _, place in gml_refs) > MAX_UPDATES:
            raise RefusedError("size", f"more than {MAX_UPDATES} refs of gml in one push")
        moved = {update.ref: update.new for update in wanted}
        ledger_ref = f"refs/{self._namespace}/ledger"
        ledger = moved.get(ledger_ref) or self._store.ref(ledger_ref)
        tip = moved[self._branch] if self._branch in moved else self._store.ref(self._branch)
        # The branch first: tags are judged against what it will be.
        for update, place in sorted(gml_refs, key=lambda pair: pair[1].kind != refs.REGISTRY):
            try:
                self._one(update, place, ledger, tip)
            except RefusedError as error:
                raise RefusedError(error.code, f"{update.ref}: {error.message}", hint=error.hint) from None
            except GmlError as error:
                raise RefusedError("objects", f"{update.ref}: {error.message}", hint=error.hint) from None

    def _one(self, update: Update, place: RefPlace, ledger: str | None, tip: str | None) -> None:
        if place.kind == refs.OTHER:
            return
        if place.kind == refs.REFUSED:
            raise RefusedError("refs", place.why)
        if self._authority and self._store.ref(update.ref) != update.old:
            raise RefusedError("refs", "it moved meanwhile", hint="fetch and try again")
        if update.new is not None and not self._store.contains(update.new):
            raise RefusedError("objects", "the pushed objects cannot be seen from the hook")
        match place.kind:
            case refs.REGISTRY:
                self._registry(update, ledger)
            case refs.LEDGER:
                self._append_only(update)
            case refs.VERSION_TAG | refs.STAGE_TAG:
                self._tag(update, place, tip)
            case _:
                self._loose(update)

    def _registry(self, update: Update, ledger: str | None) -> None:
        if update.new is None:
            raise RefusedError("history", "the branch of the registry must not be deleted")
        base = self._chain.tree(update.old) if update.old is not None else None
        judge = Judge.of(LedgerEvidence(self._store, ledger), base, now=self._now, clock=0)
        for step in self._chain.steps(update.old, update.new, MAX_STEPS):
            done = judge.step(step)
            if done is not None:
                self.accepted.append(done)
        judge.finish()

    def _append_only(self, update: Update) -> None:
        if update.new is None:
            raise RefusedError("history", "the ledger must not be deleted")
        self._chain.commit(update.new)
        if update.old is not None and not self._store.is_ancestor(update.old, update.new):
            raise RefusedError("history", "the ledger is append only", hint="`gml pull`, then push again")

    def _loose(self, update: Update) -> None:
        if update.new is not None:
            self._chain.commit(update.new)

    def _tag(self, update: Update, place: RefPlace, tip: str | None) -> None:
        if update.old is not None or update.new is None:
            raise RefusedError("tag", "a tag of the registry is never moved or deleted")
        kind, data = self._store.read(update.new)
        if kind != "tag" or len(data) > MAX_TAG:
            raise RefusedError("tag", "a tag of the registry is an annotated one")
        tag = parse_tag(data)
        if f"refs/tags/{tag.name}" != update.ref:
            raise RefusedError("tag", f"the tag says that it is {tag.name[:100]!r}")
        if tag.kind != "commit":
            raise RefusedError("tag", f"the tag is on a {tag.kind}, not on a commit of the registry")
        if tip is None or tag.target not in self._line(tip):
            raise RefusedError("tag", "the tag is not on a commit of the registry's branch")
        self._tag_fits(tag.target, place)

    def _line(self, tip: str) -> frozenset[str]:
        return frozenset(self._chain.between(None, tip))

    def _tag_fits(self, target: str, place: RefPlace) -> None:
        after = self._chain.tree(target)
        parents = self._chain.commit(target).parents
        before = self._chain.tree(parents[0]) if parents else None
        if place.kind == refs.VERSION_TAG:
            path = names.version_path(place.model, place.number)
            if after.oid(path) is None or (before is not None and before.oid(path) is not None):
                raise RefusedError("tag", f"that commit does not register {place.model} v{place.number}")
            return
        path = names.stage_path(place.model, place.stage)
        data = after.read(path)
        if data is None or read_stage(data, path).seq != place.number:
            raise RefusedError(
                "tag", f"that commit is not turn {place.number} of {place.stage} of {place.model}"
            )
