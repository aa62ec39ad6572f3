"""`registered_model_name=`: a version needs a run that has ended, so the wish waits in the run's record."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from gml.domain.errors import GmlError
from gml.domain.run import fold

if TYPE_CHECKING:
    from gml.registry.branch import Registry
    from gml.workspace import Workspace

log = logging.getLogger("gml")

WISH: Final = "register_as"


def register_wished(workspace: Workspace, run_id: str) -> list[tuple[str, int]]:
    """Register the models that a run asked to be registered; those that are already, are left alone.

    Trouble is a warning that names the command which does it by hand.

    Args:
        workspace: the repository.
        run_id: a run that has ended and is in the ledger.

    Returns:
        Name and number of each version that was made.
    """
    made: list[tuple[str, int]] = []
    try:
        view = workspace.ledger.view()
        entry = view.entry(run_id)
        record, edits = view.documents(entry) if entry is not None else (None, {})
        outputs = fold(run_id, record, edits.values()).outputs
    except GmlError as error:
        log.warning("gml: models of run %s are not registered (%s)", run_id, error)
        return made
    if not any(one.get(WISH) for one in outputs):
        return made
    from gml.registry.branch import Registry
    from gml.registry.register import register

    registry = Registry(workspace)
    for output in outputs:
        name, path = str(output.get(WISH) or ""), str(output.get("path") or "")
        if not name or not path:
            continue
        try:
            if _known(registry, name, run_id, path):
                continue
            version = register(registry, name, run_id, path).version
        except (GmlError, OSError) as error:
            log.warning(
                "gml: %s of run %s is not registered as %s (%s); "
                "`gml registry register %s --run %s --path %s` does it",
                path, run_id, name, error, name, run_id, path,
            )  # fmt: skip
        else:
            made.append((version.model, version.version))
            log.info("gml: registered %s version %d", version.model, version.version)
    return made


def _known(registry: Registry, name: str, run_id: str, path: str) -> bool:
    view = registry.view()
    model = view.model(name).alias_of or name
    return any(one.run == run_id and one.path == path for one in view.versions(model))
