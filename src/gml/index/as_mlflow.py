"""What MLflow calls things that a run of gml keeps as fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gml.domain.names import TAG_RUN_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.domain.run import Run

PREFIX: Final = "mlflow."


def artifact_uri(run: Run) -> str:
    """Return the URI of a run's artifacts.

    Example:
        >>> from gml.domain.run import Run
        >>> artifact_uri(Run("ab12", "0", "n", "u", "FINISHED", 0, 1))
        'gml:/runs/ab12/artifacts'
    """
    return f"gml:/runs/{run.run_id}/artifacts"


def _source(key: str, run: Run) -> str | None:
    value = run.source.get(key)
    return value if isinstance(value, str) and value else None


def _project_source(key: str, run: Run) -> str | None:
    # MLflow says where the code of a project came from; of a plain script it only says the commit.
    return _source(key, run) if run.source.get("type") == "PROJECT" else None


# The run's own tag goes before these, ...
_FROM_SOURCE: Final[dict[str, Callable[[Run], str | None]]] = {
    "mlflow.source.name": lambda run: _source("name", run),
    "mlflow.source.type": lambda run: _source("type", run),
    "mlflow.source.git.commit": lambda run: _source("commit", run),
    "mlflow.source.git.branch": lambda run: _project_source("branch", run),
    "mlflow.source.git.repoURL": lambda run: _project_source("remote", run),
}
# ... while these fields are the truth: setting the tag renames the run.
_FROM_FIELDS: Final[dict[str, Callable[[Run], str | None]]] = {
    TAG_RUN_NAME: lambda run: run.name or None,
    "mlflow.user": lambda run: run.user or None,
}


def mlflow_tag(run: Run, key: str) -> str | None:
    """Return one of `mlflow_tags(run)` without making all of them."""
    truth = _FROM_FIELDS.get(key)
    if truth is not None:
        value = truth(run)
        return value if value is not None else run.tags.get(key)
    own = run.tags.get(key)
    if own is None and key.startswith(PREFIX) and key in _FROM_SOURCE:
        return _FROM_SOURCE[key](run)
    return own


def mlflow_tags(run: Run) -> dict[str, str]:
    """Return the tags that the run would have in MLflow: its own and those of its fields.

    The commit, name and type of the source are added where no tag of the run says otherwise; name and
    user always are the run's own. Branch and repository are tags only of project runs, as in MLflow.

    Example:
        >>> from gml.domain.run import Run
        >>> mlflow_tags(Run("ab12", "0", "calm-owl", "me", "FINISHED", 0, 1, tags={"a": "b"}))
        {'mlflow.runName': 'calm-owl', 'mlflow.user': 'me', 'a': 'b'}
    """
    # The rules of `mlflow_tag`, without asking for key by key: an index makes the tags of all runs.
    own = run.tags
    out: dict[str, str] = {}
    for key, truth in _FROM_FIELDS.items():
        value = truth(run)
        if value is not None:
            out[key] = value
    if run.source:
        for key, said in _FROM_SOURCE.items():
            value = said(run) if key not in own else None
            if value is not None:
                out[key] = value
    for key, value in own.items():
        out.setdefault(key, value)
    return out
