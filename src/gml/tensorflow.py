"""Models of TensorFlow's Keras: the functions of `gml.keras`, under the name that MLflow has for them."""

from __future__ import annotations

from gml.keras import autolog, load_model, log_model, save_model

__all__ = ["autolog", "load_model", "log_model", "save_model"]
