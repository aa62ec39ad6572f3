"""Registering versions: which files of which run get the next number."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gml.domain.errors import ConflictError, NotFoundError, UsageError
from gml.domain.run import RUNNING, SCHEDULED, fold
from gml.ledger import layout
from gml.policy import names
from gml.policy.records import NAMESPACE_VERSION, Model, Version
from gml.registry.branch import Change
from gml.registry.formats import judge_formats
from gml.registry.identity import signer_of
from gml.registry.manifest import manifest, manifest_digest
from gml.registry.tags import write_tags

if TYPE_CHECKING:
    from gml.domain.run import Run
    from gml.registry.branch import Registry, View


@dataclass(frozen=True, slots=True)
class Registered:
    """A new version.

    Attributes:
        version: its record.
        commit: commit of the branch that has it.
        tag: full name of its tag.
    """

    version: Version
    commit: str
    tag: str


def register(
    registry: Registry,
    model: str,
    run_id: str,
    path: str = "",
    description: str = "",
    *,
    key: str | None = None,
) -> Registered:
    """Register files of a run as the next version of a model.

    Args:
        registry: the registry.
        model: name of the model; made where it is new.
        run_id: whole id of a run in the ledger that has ended.
        path: folder or file among the run's artifacts; empty for all of them.
        description: free text.
        key: SSH key to sign with, where a policy asks for a signature.

    Raises:
        NotFoundError: there is no such run, or it has no files there.
        ConflictError: the run goes on.
        PolicyError: the policy does not allow it.
    """
    names.check_model(model)
    run, documents = read_run(registry, run_id)
    if run.status in {RUNNING, SCHEDULED}:
        raise ConflictError(f"run {run_id} goes on", hint="register it when it has ended")
    files = manifest(run, path)
    if not files:
        known = ", ".join(sorted({name.split("/", 1)[0] for name in run.artifacts})[:8]) or "no files"
        raise NotFoundError(f"run {run_id} has no files below {path!r}", hint=f"it has: {known}")
    formats = judge_formats(registry.workspace, run, path)
    made: list[Version] = []

    def build(view: View) -> Change:
        name = view.model(model).alias_of or model
        numbers = view.numbers(name)
        signer = signer_of(registry, view, key)
        version = Version(
            model=name,
            version=numbers[-1] + 1 if numbers else 1,
            run=run_id,
            experiment=run.experiment_id,
            path=path.strip("/"),
            digest=manifest_digest(files),
            files=len(files),
            size=sum(facts["size"] for facts in files.values()),
            format_class=formats,
            documents=documents,
            created=int(time.time() * 1000),
            creator=signer.name,
            description=description,
        )
        version = signer.sign_version(version, NAMESPACE_VERSION)
        made[:] = [version]
        changes = {names.version_path(name, version.version): version.encode()}
        if not numbers and view.read(names.meta_path(name)) is None:
            changes[names.meta_path(name)] = Model(name).encode()
        return Change(changes, _message(version, run))

    commit, accepted = registry.commit(build)
    tags = write_tags(registry, accepted)
    return Registered(made[0], commit, tags[0] if tags else "")


def _message(version: Version, run: Run) -> str:
    lines = [f"{version.model}: register v{version.version}", ""]
    if version.description:
        lines += [version.description, ""]
    commit = str(run.source.get("commit") or "")[:12]
    lines += [
        f"run {run.run_id} {' '.join(run.name.split())[:100]}",
        f"path {version.path or '.'}",
        f"digest {version.digest}",
    ]
    if commit:
        lines.append(f"code {commit}{' with uncommitted changes' if run.source.get('dirty') else ''}")
    return "\n".join(lines) + "\n"


def read_run(registry: Registry, run_id: str) -> tuple[Run, dict[str, str]]:
    """Return a run as the ledger has it, and the SHA-256 of its documents by path.

    Raises:
        NotFoundError: the ledger does not have it.
    """
    view = registry.workspace.ledger.view()
    entry = view.entry(run_id)
    if entry is None or entry.record is None:
        raise NotFoundError(f"run {run_id} is not in the ledger", hint="`gml recover` commits runs that died")
    record, edits = view.documents(entry)
    base = layout.run_base(run_id)
    paths = [f"{base}.json", *(f"{base}/edits/{name}.json" for name in edits)]
    digests = {}
    for path in paths:
        data = view.read(path)
        if data is not None:
            digests[path] = hashlib.sha256(data).hexdigest()
    if len(digests) > 200:
        raise UsageError(f"run {run_id} was changed {len(digests) - 1} times, at most 199 can be recorded")
    return fold(run_id, record, edits.values()), digests
