"""Runs made fast, and the command with warnings as errors."""

from __future__ import annotations

import pytest


@pytest.fixture
def cli(gml):
    """Return `gml` as a process, in which warnings are errors."""

    def run(*args: object, code: int = 0):
        return gml(*args, code=code, PYTHONWARNINGS="error")

    return run


@pytest.fixture
def train(api, monkeypatch):
    """Return a function that makes a run in this process and returns its id."""
    monkeypatch.setenv("GML_CODE", "snapshot")

    def make(name, params=(), curves=(), metrics=(), tags=(), inputs=(), files=()):
        with api.start_run(run_name=name, tags=dict(tags)) as run:
            api.log_params(dict(params))
            for key, values in dict(curves).items():
                for step, value in enumerate(values):
                    api.log_metric(key, value, step=step)
            for key, value in dict(metrics).items():
                api.log_metric(key, value)
            for each in inputs:
                api.log_input(each, context="training")
            for path, text in dict(files).items():
                api.log_text(text, path)
        return run.run_id

    return make
