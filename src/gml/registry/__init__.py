"""The model registry: versions, stages and approvals on a branch of the user's repository."""
