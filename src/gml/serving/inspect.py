"""What a model is, read off its files without loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gml.models import environment, policy
from gml.models.flavor import LoadOptions
from gml.tracking.models.lineage import lineage

if TYPE_CHECKING:
    from gml.tracking.models.resolve import Resolved


def describe(found: Resolved) -> dict[str, Any]:
    """Return what `gml models inspect` shows (docs/json.md).

    Raises:
        NotFoundError: it is no model.
        CorruptError: a file does not match its digest.
    """
    files = found.files
    mlmodel = files.mlmodel()
    verdict = policy.judge(files, mlmodel, LoadOptions())
    signature = mlmodel.signature
    facts: dict[str, Any] = {
        "model": found.label,
        "digest": files.digest(),
        "format_class": verdict.format_class,
        "approved": found.approved,
        "flavors": sorted(mlmodel.flavors),
        "formats": verdict.formats,
        "runs_code": [str(one) for one in verdict.findings],
        "size": files.size,
        "files": len(files.names),
        "created": mlmodel.utc_time_created or None,
        "signature": {
            key: repr(part)
            for key, part in (
                ("inputs", signature.inputs),
                ("outputs", signature.outputs),
                ("params", signature.params),
            )
            if part is not None
        }
        if signature is not None
        else None,
        "python": mlmodel.pyfunc.get("python_version"),
        "requirements": environment.read_requirements(files),
        "differs_here": environment.differences(files, mlmodel),
        "metadata": mlmodel.metadata,
    }
    if found.run is not None:
        facts["trained"] = lineage(found.run, found.path)
    files.release()
    return facts
