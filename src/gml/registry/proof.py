"""The proof chain of one stage: from the policy that is trusted to the bytes of the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gml.domain.errors import CorruptError, GmlError, NotFoundError
from gml.policy import records
from gml.policy.records import read_stage_statement
from gml.registry.history import stage_changes
from gml.registry.manifest import manifest

if TYPE_CHECKING:
    from gml.domain.run import Artifact, Run
    from gml.policy.records import Version
    from gml.registry.branch import Registry, View
    from gml.registry.verify import Verified

_CHUNK: Final = 1 << 20


def prove(
    registry: Registry, state: Verified, model: str, stage: str, *, files: bool = True
) -> list[tuple[str, str]]:
    """Return the links of the proof, in order: what, and its value.

    Args:
        registry: the registry.
        state: verified before.
        model: name of the model.
        stage: name of the stage.
        files: read the bytes of the files again, where they are here.

    Raises:
        NotFoundError: the stage holds nothing.
        CorruptError: a file is not what its digest says.
    """
    view = registry.view(state.tip)
    key = view.key(model)
    record = view.stage(key, stage)
    if record is None or record.version is None:
        raise NotFoundError(f"{stage} of {key} holds nothing")
    version = view.version(key, record.version)
    change = next(stage_changes(registry, view, key, stage))
    links = [("stage", f"{key} {stage} holds v{version.version} (turn {record.seq})")]
    links += _statements(view, key, stage, record.seq)
    links += [("change", change.commit), ("version", f"{key} v{version.version} by {version.creator}")]
    evidence = registry.evidence()
    run = evidence.run(version)
    if run is None:
        links.append(("run", f"{version.run or 'imported'}: its record is not here"))
        return [*links, ("digest", version.digest)]
    links.append(("run", run.run_id))
    commit = run.source.get("commit")
    if commit:
        dirty = " with uncommitted changes" if run.source.get("dirty") else ""
        here = "" if registry.store.contains(str(run.source.get("snapshot") or commit)) else " (not here)"
        links.append(("code", f"{commit}{dirty}{here}"))
    links.append(("digest", f"{version.digest}, that of the run's files"))
    if files:
        links.append(("files", _files(registry, run, version)))
    return links


def _statements(view: View, model: str, stage: str, seq: int) -> list[tuple[str, str]]:
    if view.policy is None:
        return [("approved", "nobody: there is no policy")]
    links = []
    directory = f"approvals/{model}/{stage}/{seq}"
    for name in sorted(view.names(directory)):
        path = f"{directory}/{name}"
        said, _ = read_stage_statement(view.read(path) or b"", path)
        what = {records.REQUEST: "requested", records.REJECT: "rejected"}.get(said.type, "approved")
        way = " by a review on the forge" if said.type == records.EVIDENCE else ""
        links.append((what, f"{said.person}{way}"))
    return sorted(links, key=lambda link: link[0] != "requested") or [("approved", "before the policy")]


def _files(registry: Registry, run: Run, version: Version) -> str:
    wanted = manifest(run, version.path)
    prefix = f"{version.path}/" if version.path else ""
    good, absent = 0, 0
    for name, facts in wanted.items():
        artifact = run.artifacts.get(f"{prefix}{name}") or run.artifacts.get(version.path)
        if artifact is None:  # pragma: no cover - the manifest was made from these
            continue
        found = _digest(
            registry, run, f"{prefix}{name}" if prefix + name in run.artifacts else version.path, artifact
        )
        if found is None:
            absent += 1
        elif found != facts["sha256"]:
            raise CorruptError(f"{prefix}{name} of run {run.run_id} is not what was registered")
        else:
            good += 1
    return f"{good} of {len(wanted)} read and in order" + (f", {absent} not here" if absent else "")


def _digest(registry: Registry, run: Run, name: str, artifact: Artifact) -> str | None:
    import hashlib

    from gml.ledger import layout

    space = registry.workspace
    if artifact.at.startswith("git"):
        data = space.ledger.view().read(layout.artifact_path(run.run_id, name, artifact.at))
        return None if data is None else hashlib.sha256(data).hexdigest()
    try:
        with space.blobs.open(artifact.sha256) as file:
            running = hashlib.sha256()
            while chunk := file.read(_CHUNK):
                running.update(chunk)
            return running.hexdigest()
    except NotFoundError:
        return None
    except CorruptError:
        return ""
    except GmlError:
        return None
