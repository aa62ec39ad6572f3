"""MLflow's semantics over a repository: what `gml server` and the MLflow plug-in both answer from.

`Store` opens a repository for a long-lived process with many threads; the modules beside it are the
verbs: `experiments`, `runs`, `models` (logged models), `search`, `history` and `artifacts`. Nothing here
knows HTTP or imports mlflow. What a changing call returned from is in the run's journal, and the end of a
run is in the ledger.
"""

from gml.service.errors import ServiceError
from gml.service.store import Store

__all__ = ["ServiceError", "Store"]
