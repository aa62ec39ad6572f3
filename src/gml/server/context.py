"""What a handler gets: a repository, the request's fields, and where files are for the client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gml.service import experiments
from gml.service.models import STAGE, STAGE_DELETED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.domain.experiment import Experiment
    from gml.domain.run import Run
    from gml.service import Store

ROOT = "mlflow-artifacts:"


@dataclass(slots=True)
class Context:
    """One request.

    Attributes:
        store: the repository that it is for.
        fields: fields of the request that were sent.
        path: variable parts of the path.
        query: first value of each parameter of the query string.
        locations: artifact locations of experiments that were asked for, by id.
        root: URI below which all artifacts are.
    """

    store: Store
    fields: dict[str, Any] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    locations: dict[str, str] = field(default_factory=dict)
    root: str = ROOT

    def text(self, name: str) -> str:
        """Return a text field, empty where it was not sent."""
        return str(self.fields.get(name, ""))

    @property
    def run_id(self) -> str:
        """The run, under either of its two names."""
        return self.text("run_id") or self.text("run_uuid")

    def location(self, experiment: Experiment) -> str:
        """Return where an experiment's files are."""
        return experiment.artifact_location or f"{self.root}/{experiment.experiment_id}"

    def uri(self, run: Run) -> str:
        """Return where the files of a run, or of a logged model, are."""
        root = self.locations.get(run.experiment_id)
        if root is None:
            found = experiments.get(self.store, run.experiment_id)
            root = self.locations[run.experiment_id] = self.location(found).rstrip("/")
        models = "models/" if run.lifecycle_stage in {STAGE, STAGE_DELETED} else ""
        return f"{root}/{models}{run.run_id}/artifacts"
