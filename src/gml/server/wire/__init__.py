"""MLflow's REST dialect as a pure codec: requests to values, values to responses, no I/O."""
