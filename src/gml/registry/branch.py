"""The branch of the registry in one repository: reading its states, and committing changes to it.

Every change is judged by the decision of `gml.policy` before a ref moves, so no command can write what a
server would refuse. The user's work tree, index and HEAD are never touched.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from gml import fs
from gml.domain.errors import ConflictError, NotFoundError, RefMovedError, StorageError
from gml.git import trees
from gml.git.objects import format_commit, object_id
from gml.git.port import MODE_FILE, Commit
from gml.policy import names
from gml.policy.records import Model, Stage, Version, read_model, read_stage, read_version
from gml.registry.chain import Chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gml.git.port import Kind
    from gml.git.store import FileStore
    from gml.policy.rules import Policy
    from gml.policy.view import Accepted
    from gml.registry.evidence import LedgerEvidence
    from gml.registry.states import GitTree
    from gml.workspace import Workspace

ATTEMPTS: Final = 32
COMMIT_NAMESPACE: Final = "git"


@dataclass(frozen=True, slots=True)
class Change:
    """What a command wants to commit.

    Attributes:
        files: path -> bytes.
        message: commit message.
    """

    files: dict[str, bytes]
    message: str


class View:
    """The registry as it is at one commit.

    Args:
        chain: reads the repository.
        commit: a commit of the branch, None for an empty registry.
    """

    def __init__(self, chain: Chain, commit: str | None) -> None:
        self.commit = commit
        self.tree: GitTree | None = chain.tree(commit) if commit is not None else None

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a file, None where there is none."""
        return None if self.tree is None else self.tree.read(path)

    def names(self, path: str) -> tuple[str, ...]:
        """Return the names in a directory."""
        return () if self.tree is None else self.tree.names(path)

    @cached_property
    def policy(self) -> Policy | None:
        """The policy in force, None where there is none."""
        data = self.read(names.POLICY_PATH)
        if data is None:
            return None
        from gml.policy.rules import read_policy

        return read_policy(data)

    def models(self) -> list[str]:
        """Return the names of all models, sorted; names that only stand for another one included."""
        return sorted(self.names("models"))

    def model(self, name: str) -> Model:
        """Return what was said about a model; an empty record where nothing was."""
        data = self.read(names.meta_path(name))
        return Model(name) if data is None else read_model(data, names.meta_path(name))

    def key(self, name: str) -> str:
        """Return the model that a name means, renames followed.

        Raises:
            NotFoundError: there is no such model; names the nearest.
        """
        if not names.is_model(name) or not self.names(f"models/{name}"):
            from difflib import get_close_matches

            near = get_close_matches(name, self.models(), 1)
            hint = f"did you mean {near[0]!r}?" if near else "`gml registry ls` shows what there is"
            raise NotFoundError(f"there is no model {name!r:.120}", hint=hint)
        return self.model(name).alias_of or name

    def numbers(self, model: str) -> list[int]:
        """Return the numbers of a model's versions, sorted."""
        return sorted(int(name[:-5]) for name in self.names(f"models/{model}/versions"))

    def version(self, model: str, number: int) -> Version:
        """Return a version.

        Raises:
            NotFoundError: there is no such version.
        """
        path = names.version_path(model, number)
        data = self.read(path)
        if data is None:
            known = self.numbers(model)
            hint = f"the newest is v{known[-1]}" if known else "`gml registry register` makes the first"
            raise NotFoundError(f"{model} has no version {number}", hint=hint)
        return read_version(data, path)

    def versions(self, model: str) -> Iterator[Version]:
        """Yield all versions of a model, newest first."""
        for number in reversed(self.numbers(model)):
            yield self.version(model, number)

    def stage(self, model: str, stage: str) -> Stage | None:
        """Return what a stage holds, None where it never held anything."""
        path = names.stage_path(model, stage)
        data = self.read(path)
        return None if data is None else read_stage(data, path)

    def stages(self, model: str) -> dict[str, Stage]:
        """Return the stages of a model by name; emptied ones included."""
        found = {}
        for name in sorted(self.names(f"models/{model}/stages")):
            record = self.stage(model, name[:-5])
            if record is not None:
                found[record.stage] = record
        return found


class Registry:
    """The registry of a repository.

    Args:
        workspace: the repository.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.store: FileStore = workspace.store
        space = workspace.settings.namespace
        self.branch = f"refs/heads/{space}/registry"
        self.proposals = f"refs/heads/{space}/propose/"
        self.tags = f"refs/tags/{space}/"
        self.chain = Chain(self.store)

    # --- reading ------------------------------------------------------------------------------

    def tip(self) -> str | None:
        """Return the newest commit of the branch: the local one, or a remote's where that is ahead."""
        return self._ahead(self.branch)

    def _ahead(self, ref: str) -> str | None:
        tip = self.store.ref(ref)
        short = ref.removeprefix("refs/heads/")
        for remote in self.store.remotes():
            other = self.store.ref(f"refs/remotes/{remote}/{short}")
            if other and (tip is None or self.store.is_ancestor(tip, other)):
                tip = other
        return tip

    def view(self, commit: str | None = None) -> View:
        """Return the registry at a commit of the branch, or as it is now."""
        return View(self.chain, commit or self.tip())

    def evidence(self, ledger: str | None = None) -> LedgerEvidence:
        """Return the answers of this repository's ledger."""
        from gml.registry.evidence import LedgerEvidence

        return LedgerEvidence(self.store, ledger or self.workspace.ledger.tip())

    def proposal_tip(self, name: str) -> str | None:
        """Return the newest commit of a proposal branch, from here or from a remote."""
        return self._ahead(f"{self.proposals}{name}")

    def proposal_names(self) -> list[str]:
        """Return the names of all proposals, from here and from remotes, sorted."""
        found = {ref.removeprefix(self.proposals) for ref in self.store.refs(self.proposals)}
        short = self.proposals.removeprefix("refs/heads/")
        for remote in self.store.remotes():
            prefix = f"refs/remotes/{remote}/{short}"
            found |= {ref.removeprefix(prefix) for ref in self.store.refs(prefix)}
        return sorted(found)

    # --- writing ------------------------------------------------------------------------------

    def commit(self, build: Callable[[View], Change]) -> tuple[str, list[Accepted]]:
        """Commit to the branch what `build` makes of its present state, after the decision allowed it.

        Args:
            build: makes the change; called again when somebody else was faster.

        Returns:
            The new tip, and what was accepted.

        Raises:
            PolicyError: the rules or the policy do not allow it; nothing was written.
            StorageError: it could not be written.
        """
        self.check_not_checked_out(self.branch)
        with fs.locked(self.workspace.state_dir / "registry.lock"):
            for _ in range(ATTEMPTS):
                local, tip = self.store.ref(self.branch), self.tip()
                view = self.view(tip)
                change = build(view)
                new, objects = self.make_commit(view, change, (tip,) if tip else ())
                accepted = self.judge(tip, new, objects)
                try:
                    self.move(self.branch, local, new, objects, change.message)
                except RefMovedError:
                    continue
                return new, accepted
        raise StorageError(f"{self.branch} keeps moving", hint="try again")

    def make_commit(
        self, view: View, change: Change, parents: tuple[str, ...], tree: str | None = None
    ) -> tuple[str, list[tuple[Kind, bytes]]]:
        """Return the id of a commit and all objects it needs; nothing is written.

        Args:
            view: the state that is changed.
            change: what changes.
            parents: of the new commit.
            tree: take this tree instead of that of `view`.
        """
        object_format = self.store.location.object_format
        files = dict(change.files)
        base = tree or (view.tree.root if view.tree is not None else None)
        if base is None:
            files[names.FORMAT_PATH] = names.FORMAT_FILE
        objects: list[tuple[Kind, bytes]] = [("blob", data) for data in files.values()]
        edits: dict[str, tuple[int, str] | None] = {
            path: (MODE_FILE, object_id("blob", data, object_format)) for path, data in files.items()
        }
        root, new_trees = trees.edit(self.store, base, edits, object_format=object_format)
        objects += new_trees
        born = max((self.chain.commit(parent).time for parent in parents), default=0)
        now = max(int(time.time()), born)
        who = self.workspace.identity
        commit = Commit(
            root, parents, author=who, author_time=now, committer=who, commit_time=now, message=change.message
        )
        data = self._signed(commit, view)
        objects.append(("commit", data))
        return object_id("commit", data, object_format), objects

    def _signed(self, commit: Commit, view: View) -> bytes:
        """Return a commit's bytes, signed where git or the policy asks for it."""
        from dataclasses import replace

        data = format_commit(commit)
        wanted = view.policy is not None and view.policy.signed
        config = self.store.config
        asked = (config("commit.gpgsign") or "").lower() in {"true", "1", "yes", "on"}
        if not wanted and not (asked and config("gpg.format") == "ssh"):
            return data
        from gml.registry.signing import find_signer

        signature = find_signer(self.store).sign(data, COMMIT_NAMESPACE).rstrip("\n")
        return format_commit(replace(commit, extra=(("gpgsig", signature),)))

    def judge(
        self,
        old: str | None,
        new: str,
        objects: list[tuple[Kind, bytes]] | None = None,
        *,
        complete: bool = True,
    ) -> list[Accepted]:
        """Let the decision judge the way from one tip to another.

        Args:
            old: a complete state, None for nothing.
            new: the new tip.
            objects: those that are not written yet.
            complete: refuse where approvals are missing at the end.

        Raises:
            PolicyError: it is refused.
        """
        from gml.policy.decision import Judge
        from gml.registry.states import overlay

        chain = self.chain
        if objects:
            chain = Chain(overlay(self.store, objects, self.store.location.object_format))
        base = chain.tree(old) if old is not None else None
        judge = Judge.of(self.evidence(), base, now=int(time.time()))
        accepted = [done for step in chain.steps(old, new) if (done := judge.step(step)) is not None]
        if complete:
            judge.finish()
        return accepted

    def move(
        self, ref: str, expected: str | None, new: str, objects: list[tuple[Kind, bytes]], message: str
    ) -> None:
        """Write objects durably, then move a ref."""
        if objects:
            self.store.write_pack(objects)
        fs.remove_stale(self.store.location.common_dir / f"{ref}.lock")
        self.store.update_ref(ref, new, expected=expected, message=message.split("\n", 1)[0])
        self._tidy()

    def _tidy(self) -> None:
        import logging

        from gml.domain.errors import GmlError
        from gml.ledger.upkeep import tidy

        # The change is made and durable; that packing failed is no reason to say otherwise.
        try:
            tidy(self.store)
        except (GmlError, OSError) as error:
            logging.getLogger("gml").warning("gml: the repository could not be packed (%s)", error)

    def check_not_checked_out(self, ref: str) -> None:
        """Refuse to move a branch that the user has checked out.

        Raises:
            ConflictError: it is.
        """
        branch = ref.removeprefix("refs/heads/")
        if self.store.location.worktree is not None and self.store.head().branch == branch:
            raise ConflictError(
                f"{branch} is checked out here, and moving it would leave your work tree behind",
                hint="switch to another branch first",
            )
