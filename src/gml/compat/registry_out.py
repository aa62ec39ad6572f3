"""The registry as MLflow's names have it: models, their versions, one stage each, aliases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml.compat.foreign import ForeignModel, ForeignVersion
from gml.policy.records import ARCHIVED, DELETED

if TYPE_CHECKING:
    from gml.registry.branch import View


def registered_models(view: View) -> list[ForeignModel]:
    """Return all models; `source` of a version is its path within its run, deleted ones are left out."""
    found = []
    for name in view.models():
        model = view.model(name)
        if model.alias_of is not None:
            continue
        held = {record.version: stage for stage, record in view.stages(name).items() if record.version}
        versions = []
        for version in view.versions(name):
            note = model.versions.get(str(version.version))
            if note is not None and note.status == DELETED:
                continue
            archived = note is not None and note.status == ARCHIVED
            said = note.description if note is not None else None
            facts = dict(version.imported or {})
            versions.append(
                ForeignVersion(
                    version.version,
                    version.run,
                    None,
                    version.path if version.run else facts.get("source", ""),
                    held.get(version.version) or ("Archived" if archived else "None"),
                    version.description if said is None else said,
                    version.created,
                    dict(note.tags) if note is not None else {},
                    facts,
                )
            )
        tags = dict(model.tags)
        found.append(
            ForeignModel(name, model.description, tags, dict(model.aliases), tuple(reversed(versions)))
        )
    return found
