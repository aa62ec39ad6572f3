"""Ledgers of generated runs, written as documents, and the naive answer to every question."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "index"))

import pytest
from index_cases import Lab


@pytest.fixture
def lab(make_repo):
    """Return a repository whose ledger is written document by document."""
    return Lab(make_repo("lab"))
