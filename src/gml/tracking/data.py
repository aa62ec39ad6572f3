"""Data sets by the names `mlflow.data` uses: `gml.data.from_pandas` and its siblings."""

from gml.tracking.datasets import Dataset, describe, from_file, from_folder, from_numpy, from_pandas

__all__ = ["Dataset", "describe", "from_file", "from_folder", "from_numpy", "from_pandas"]
