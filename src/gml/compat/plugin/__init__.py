"""MLflow's plug-ins for `gml:` URIs; MLflow finds them by entry points and imports them on use."""
