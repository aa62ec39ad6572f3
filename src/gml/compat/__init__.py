"""MLflow from both sides: plug-ins for its clients, import and export of what it keeps."""
