"""A registry in memory: keys, signed records, commits as git objects. Attacks and honest pushes are made of it."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gml.domain.errors import NotFoundError
from gml.git import trees
from gml.git.objects import Tag, format_commit, format_tag, object_id
from gml.git.port import Commit, Identity
from gml.policy import canonical, names, records
from gml.policy.records import PolicyStatement, Stage, StageStatement, Version, encode_statement
from gml.policy.rules import read_policy
from gml.policy.sshsig import PublicKey, string
from gml.policy.view import CheckResult
from gml.registry import keys
from gml.registry.chain import Chain

NOW = int(time.time())
BRANCH = "refs/heads/gml/registry"
PEOPLE = ("alice", "bob", "carol", "dave")


class Key:
    """An ed25519 key whose signatures are those of `ssh-keygen -Y sign`."""

    def __init__(self, seed: str) -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())
        raw = self.private.public_key().public_bytes_raw()
        self.public = PublicKey("ssh-ed25519", string(b"ssh-ed25519") + string(raw))

    def sign(self, message: bytes, namespace: str) -> str:
        digest = hashlib.sha512(message).digest()
        signed = b"SSHSIG" + b"".join(map(string, (namespace.encode(), b"", b"sha512", digest)))
        value = string(b"ssh-ed25519") + string(self.private.sign(signed))
        blob = b"SSHSIG\0\0\0\1" + b"".join(
            map(string, (self.public.blob, namespace.encode(), b"", b"sha512", value))
        )
        text = base64.b64encode(blob).decode()
        lines = [text[i : i + 70] for i in range(0, len(text), 70)]
        return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


KEYS = {name: Key(name) for name in (*PEOPLE, "bob2", "mallory", "ci", "expired", "eve")}


@dataclass
class Facts:
    """Evidence for tests: real signatures, runs that say what the test wants."""

    problems: dict[int, str] = field(default_factory=dict)
    classes: dict[int, str] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)

    def signed(self, key, message, signature):
        return keys.verify(key, message, signature)

    def problem(self, version):
        return self.problems.get(version.version)

    def format_class(self, version):
        return self.classes.get(version.version, version.format_class)

    def check(self, rule, version, champion):
        return CheckResult(rule, rule not in self.failing, "auc is 0.5")


def policy_text(version: int = 1, prev: str | None = None, **changes: str) -> bytes:
    parts = {
        "format": "gml-policy 1",
        "version": str(version),
        "prev": prev or "null",
        "repo": "0123456789abcdef0123456789abcdef",
        "people": "\n"
        + "".join(
            f"  {name}:\n    keys: [{KEYS[name].public}"
            + (f", {KEYS['bob2'].public}" if name == "bob" else "")
            + f"]\n    emails: [{name}@example.org]\n    forge: {{github: {100 + number}}}\n"
            for number, name in enumerate(PEOPLE)
        ).rstrip("\n"),
        "admins": "{people: [alice, bob], threshold: 2}",
        "stages": "\n  Staging: {}\n  Production:\n    approvers: [alice, bob, carol]\n    threshold: 2\n"
        "    from: Staging\n    formats: [data]\n  Shadow: {approvers: [bob], requester_may_approve: true}",
        "services": f"\n  ci: {{forge: github, keys: [{KEYS['ci'].public}]}}",
    } | changes
    return ("".join(f"{key}: {value}\n" for key, value in parts.items())).encode()


class Lab:
    """Builds commits of a registry in memory."""

    def __init__(self, policy: bytes | None = None) -> None:
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.clock = NOW - 100_000
        self.policy_bytes = policy or policy_text()
        self.policy = read_policy(self.policy_bytes)

    def read(self, oid):
        try:
            return self.objects[oid]
        except KeyError:
            raise NotFoundError(f"{oid} is not there") from None

    def put(self, kind: str, data: bytes) -> str:
        oid = object_id(kind, data)
        self.objects[oid] = (kind, data)
        return oid

    # --- commits --------------------------------------------------------------------------------

    def tree(self, base: str | None, changes: dict, mode: int = 0o100644) -> str:
        plan = {
            path: None
            if data is None
            else data
            if isinstance(data, tuple)
            else (mode, self.put("blob", data))
            for path, data in changes.items()
        }
        root = None if base is None else self.tree_of(base)
        new, fresh = trees.edit(self, root, plan)
        for kind, data in fresh:
            self.put(kind, data)
        return new

    def tree_of(self, commit: str) -> str:
        return Chain(self).commit(commit).tree

    def commit(
        self,
        base,
        changes=None,
        *,
        who="alice",
        parents=None,
        tree=None,
        time=None,
        extra=(),
        sign=None,
        mode=0o100644,
    ) -> str:
        self.clock += 10
        root = tree or self.tree(base, changes or {}, mode)
        identity = Identity(who, f"{who}@example.org")
        at = self.clock if time is None else time
        made = Commit(
            root, tuple(parents if parents is not None else [base] if base else []), identity, at, identity, at,
            "change\n", extra=tuple(extra),
        )  # fmt: skip
        if sign is not None:
            signature = KEYS[sign].sign(format_commit(made), "git").rstrip("\n")
            made = replace(made, extra=(("gpgsig", signature), *extra))
        return self.put("commit", format_commit(made))

    def raw_commit(self, data: bytes) -> str:
        return self.put("commit", data)

    def merge(self, first: str, second: str, changes=None, *, who="alice", tree=None) -> str:
        """Merge `second` into `first`: the files that it changed since their common base, and `changes`."""
        if tree is None:
            chain = Chain(self)
            base = second
            from gml.git.revisions import is_ancestor

            while not is_ancestor(self, base, first):
                base = chain.commit(base).parents[0]
            plan = {
                path: (new.mode, new.oid) if new else None
                for path, _, new in trees.walk(self, self.tree_of(base), self.tree_of(second))
            }
            tree = self.tree(first, plan | (changes or {}))
        return self.commit(None, tree=tree, parents=[first, second], who=who)

    def file(self, commit: str, path: str) -> bytes | None:
        entry = trees.lookup(self, self.tree_of(commit), path)
        return None if entry is None else self.read(entry.oid)[1]

    def tag(self, name: str, target: str, kind: str = "commit") -> str:
        return self.put("tag", format_tag(Tag(target, kind, name, Identity("a", "a@b"), NOW, "x\n")))

    # --- records --------------------------------------------------------------------------------

    def version(self, number: int, *, key: str | None = "alice", **changes) -> bytes:
        made = Version(
            model="churn", version=number, run=None, experiment=None, path="", digest=f"{number:064x}", files=1, size=1,
            format_class="data", documents={}, created=0, creator="alice",
        )  # fmt: skip
        made = replace(made, **changes)
        if key is not None:
            made = replace(made, signature=KEYS[key].sign(made.payload(), "gml-version-v1"))
        return made.encode()

    def stage(self, at: str, version: int | None, stage: str = "Production", **changes) -> Stage:
        path = names.stage_path("churn", stage)
        old = self.file(at, path)
        before = records.read_stage(old, path) if old else None
        made = Stage(
            "churn", stage, before.seq + 1 if before else 1, canonical.digest(old) if old else None, version,
            None if version is None else f"{version:064x}",
        )  # fmt: skip
        return replace(made, **changes)

    def said(self, record: Stage, person: str, kind: str = "approval", **changes) -> StageStatement:
        made = StageStatement(
            kind, self.policy.repo, self.policy.digest, record.model, record.stage, record.seq, record.prev,
            record.version, record.digest, person, NOW + 86_400,
        )  # fmt: skip
        return replace(made, **changes)

    def statement(
        self, record: Stage, person: str, kind: str = "approval", *, key=None, path=None, **changes
    ) -> dict:
        said = self.said(record, person, kind, **changes)
        signature = KEYS[key or person].sign(said.payload(), "gml-approval-v1")
        where = path or names.approval_path(record.model, record.stage, record.seq, person)
        return {where: encode_statement(said, signature)}

    def change(
        self,
        at: str,
        version: int | None,
        stage: str = "Production",
        *,
        by="alice",
        approvers=("bob", "carol"),
        **over,
    ):
        """Return the files of a whole change of a stage: record, request, approvals."""
        record = self.stage(at, version, stage, **over)
        files = {names.stage_path("churn", stage): record.encode()}
        if by:
            files |= self.statement(record, by, "request", expires=None)
        for person in approvers:
            files |= self.statement(record, person)
        return files

    def policy_statement(self, new: bytes, person: str, *, key=None, path=None, **changes) -> dict:
        version = int(new.split(b"version: ")[1].split(b"\n")[0])
        said = PolicyStatement(
            "policy-approval",
            self.policy.repo,
            version,
            self.policy.digest,
            canonical.digest(new),
            person,
            NOW + 86_400,
        )
        said = replace(said, **changes)
        where = path or names.policy_approval_path(version, person)
        return {where: encode_statement(said, KEYS[key or person].sign(said.payload(), "gml-approval-v1"))}

    def next_policy(self, **changes: str) -> bytes:
        return policy_text(2, self.policy.digest, **changes)

    # --- the state that attacks start from ----------------------------------------------------------

    def start(self) -> str:
        """Return the tip of an honest history: policy, v1 in Staging and Production, v2 in Staging, v3."""
        tip = self.commit(None, {"format": b"gml-registry 1\n", "policy.yaml": self.policy_bytes})
        tip = self.commit(tip, {names.version_path("churn", 1): self.version(1)})
        tip = self.commit(tip, self.change(tip, 1, "Staging", approvers=()))
        tip = self.commit(tip, self.change(tip, 1))
        self.before_v2 = tip
        tip = self.commit(tip, {names.version_path("churn", 2): self.version(2)})
        tip = self.commit(tip, self.change(tip, 2, "Staging", approvers=()))
        self.before_v3 = tip
        return self.commit(tip, {names.version_path("churn", 3): self.version(3)})
