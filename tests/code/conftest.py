from __future__ import annotations

import pytest
from code_lab import Lab

from gml.tracking import active


@pytest.fixture
def lab(repo, monkeypatch, capsys):
    monkeypatch.chdir(repo.path)
    repo.git("config", "user.name", "Ada")
    repo.git("config", "user.email", "ada@example.org")
    active._workspaces.clear()
    return Lab(repo, monkeypatch, capsys)
