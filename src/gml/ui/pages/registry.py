"""Models, what their stages hold, what is proposed, and how all of it is proven."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError, NotFoundError

if TYPE_CHECKING:
    from gml.policy.records import Model, Version
    from gml.policy.view import Accepted
    from gml.registry.branch import Registry, View
    from gml.registry.history import Event
    from gml.registry.review import Comparison
    from gml.workspace import Workspace

STAGES: Final = ("Staging", "Production", "Archived")
EVENTS: Final = 200


@dataclass
class Proposed:
    """A proposal, and what stands in its way."""

    name: str
    branch: str
    subject: str = ""
    model: str = ""
    version: int | None = None
    stage: str = ""
    votes: list[tuple[str, str, bool, str]] = field(default_factory=list)
    threshold: int = 0
    blocked: str = ""
    command: str = ""


@dataclass
class Board:
    """All models with their stages."""

    stages: list[str] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    proposals: list[Proposed] = field(default_factory=list)
    order: str = ""
    broken: str = ""
    policy: int | None = None


@dataclass
class ModelPage:
    """One model."""

    name: str
    model: Model
    versions: list[dict[str, Any]] = field(default_factory=list)
    stages: dict[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    proposals: list[Proposed] = field(default_factory=list)
    proofs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    broken: str = ""


@dataclass
class VersionPage:
    """One version: what a pull request shows of it."""

    name: str
    version: Version
    status: str | None
    stages: list[str]
    aliases: list[str]
    champion: str
    comparison: Comparison
    proposals: list[Proposed] = field(default_factory=list)


def open_registry(workspace: Workspace) -> Registry:
    """Return the registry of a repository."""
    from gml.registry.branch import Registry

    return Registry(workspace)


def board(registry: Registry) -> Board:
    """Return the page of all models; a registry that is not in order is told on it."""
    out = Board()
    if registry.tip() is None:
        return out
    view = registry.view()
    out.policy = view.policy.version if view.policy else None
    _verified(registry, out)
    used = {stage for name in view.models() for stage in view.stages(name)}
    known = list(view.policy.stages) if view.policy else list(STAGES)
    out.stages = [*known, *sorted(used - set(known))]
    for name in view.models():
        model = view.model(name)
        numbers = view.numbers(name)
        out.models.append(
            {
                "name": name,
                "latest": numbers[-1] if numbers else None,
                "description": model.description,
                "aliases": sorted(model.aliases.items()),
                "stages": {stage: record.version for stage, record in view.stages(name).items()},
                "alias_of": model.alias_of,
            }
        )
    out.proposals = proposals(registry)
    return out


def _verified(registry: Registry, out: Board | ModelPage) -> Any:
    from gml.registry.verify import verify

    try:
        state = verify(registry)
    except GmlError as error:
        out.broken = str(error)
        return None
    if isinstance(out, Board):
        out.order = f"{state.steps} commits, all in order"
    return state


def proposals(registry: Registry, model: str | None = None, version: int | None = None) -> list[Proposed]:
    """Return what is proposed, of one model or version where they are given."""
    from gml.registry.proposals import all_proposals

    found = []
    for proposal in all_proposals(registry):
        told = Proposed(proposal.name, proposal.branch)
        accepted, error = proposal.look()
        told.blocked = str(error) if error is not None else ""
        try:
            record = proposal.record
        except GmlError:
            told.subject = "another policy" if proposal.is_policy else proposal.name
            told.command = "gml registry approve --policy"
        else:
            told.model, told.version, told.stage = record.model, record.version, record.stage
            held = f"v{record.version}" if record.version is not None else "nothing"
            told.subject = f"{record.stage} of {record.model} shall be {held}"
            verb = "merge" if error is None else "approve"
            told.command = f"gml registry {verb} {record.model} {record.version} --to {record.stage}"
        if accepted is not None:
            _votes(told, accepted)
        if (model is None or told.model == model) and (version is None or told.version == version):
            found.append(told)
    return found


def _votes(told: Proposed, accepted: Accepted) -> None:
    told.votes = [(vote.person, vote.type, vote.counted, vote.why) for vote in accepted.votes]
    told.threshold = accepted.threshold


def _known(view: View, name: str) -> str:
    if name not in view.models():
        raise NotFoundError(f"no model is named {name!r}", hint="the page Registry lists them")
    return view.key(name)


def model_page(registry: Registry, name: str) -> ModelPage:
    """Return the page of a model.

    Raises:
        NotFoundError: there is none of that name.
    """
    from gml.registry.history import events
    from gml.registry.proof import prove

    view = registry.view()
    key = _known(view, name)
    model = view.model(key)
    out = ModelPage(key, model, events=events(registry, view, key)[:EVENTS])
    held: dict[int, list[str]] = {}
    for stage, record in view.stages(key).items():
        out.stages[stage] = record
        if record.version is not None:
            held.setdefault(record.version, []).append(stage)
    for version in sorted(view.versions(key), key=lambda each: -each.version):
        note = model.versions.get(str(version.version))
        out.versions.append(
            {
                "version": version,
                "stages": held.get(version.version, []),
                "aliases": [alias for alias, at in model.aliases.items() if at == version.version],
                "status": note.status if note else None,
                "description": (note.description if note else None) or version.description,
            }
        )
    state = _verified(registry, out)
    if state is not None:
        for stage, record in out.stages.items():
            if record.version is not None:
                try:
                    # Reading gigabytes again is for `gml registry verify`.
                    out.proofs[stage] = prove(registry, state, key, stage, files=False)
                except GmlError as error:
                    out.proofs[stage] = [("broken", str(error))]
    out.proposals = proposals(registry, key)
    return out


def version_page(registry: Registry, name: str, number: int) -> VersionPage:
    """Return the page of a version beside the version that Production, or another stage, holds.

    Raises:
        NotFoundError: there is no such model or version.
    """
    from gml.registry.review import Comparison

    view = registry.view()
    key = _known(view, name)
    if number not in view.numbers(key):
        raise NotFoundError(f"{key} has no version {number}")
    stages = view.stages(key)
    order = sorted(stages, key=lambda stage: (stage != "Production", stage))
    champion = next((s for s in order if stages[s].version not in {None, number}), "")
    before = stages[champion].version if champion else None
    model = view.model(key)
    note = model.versions.get(str(number))
    return VersionPage(
        name=key,
        version=view.version(key, number),
        status=note.status if note else None,
        stages=[stage for stage, record in stages.items() if record.version == number],
        aliases=[alias for alias, at in model.aliases.items() if at == number],
        champion=champion,
        comparison=Comparison(registry, view, key, champion or "Production", number, before),
        proposals=proposals(registry, key, number),
    )
