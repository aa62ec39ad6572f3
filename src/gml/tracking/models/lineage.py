"""Where a model comes from: version, run, code, data, and the model it was trained from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gml.domain.run import Run


def lineage(run: Run, path: str) -> dict[str, Any]:
    """Return where a model comes from: run, person, code, data, and the model that it was trained from.

    Args:
        run: the run that logged it.
        path: its path within the run.
    """
    parents = [
        entry["parent"]
        for entry in run.outputs
        if entry.get("type") == "model" and entry.get("path") == path and entry.get("parent")
    ]
    facts = {
        "run": run.run_id,
        "name": run.name,
        "user": run.user,
        "commit": run.source.get("commit"),
        "snapshot": run.source.get("snapshot"),
        "data": ", ".join(f"{one.get('name')} {str(one.get('digest'))[:12]}" for one in run.inputs) or None,
        "from": f"{parents[-1].get('uri')} {str(parents[-1].get('digest'))[:12]}" if parents else None,
    }
    return {key: value for key, value in facts.items() if value}
