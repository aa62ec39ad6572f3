"""Data sets by the names `mlflow.data` uses: `gml.data.from_pandas`, `from_numpy`, `from_file`, `from_folder`."""

from gml.tracking.datasets import Dataset, describe, from_file, from_folder, from_numpy, from_pandas

__all__ = ["Dataset", "describe", "from_file", "from_folder", "from_numpy", "from_pandas"]
