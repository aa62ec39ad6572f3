"""The table of functions in docs/mlflow.md is what the installed MLflow has, and what calls came to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("mlflow")
sys.path.insert(0, str(Path(__file__).parent))
import parity

pytestmark = [pytest.mark.compat, pytest.mark.heavy, pytest.mark.timeout(900)]
PAGE = Path(__file__).parents[2] / "docs/mlflow.md"


def test_the_table_says_what_calls_came_to():
    made, wrong = parity.fresh()
    assert wrong == {}
    assert parity.written(PAGE.read_text()) == made, "python tests/compat/parity.py table docs/mlflow.md"
