"""`gml server`: MLflow's REST API and gml's own, over HTTP, for one or several repositories."""
