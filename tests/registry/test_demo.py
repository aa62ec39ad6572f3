"""examples/approval: the two-person flow in clones of its own, against a server over file, ssh and HTTP."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from support import GML

DEMO = Path(__file__).parents[2] / "examples" / "approval" / "demo.sh"


def play(top: Path, *args: str, **environ: str) -> str:
    path = f"{GML.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [str(DEMO), *args], env={**os.environ, **environ, "PATH": path, "TMPDIR": str(top)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def check_story(said: str) -> None:
    refusals = re.findall(r"refused: gml: (.*)", said)
    assert len(refusals) == 3
    assert "asked for this change" in refusals[0]
    assert "0 of 2 approvals" in refusals[1]
    assert "1 of 2 approvals" in refusals[2]
    proof = said.split("$ gml registry verify", 1)[1]
    for link in ("churn Production holds v2 (turn 2)", "requested  ada", "approved   bob", "approved   eve",
                 "1 of 1 read and in order", "gml/churn/Production/2", "before the policy"):  # fmt: skip
        assert link in proof, link


def test_the_demonstration(tmp_path):
    check_story(play(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.heavy
@pytest.mark.parametrize("how", ["ssh", "http"])
def test_the_demonstration_over_a_server(make_team, tmp_path, how):
    team = make_team(how)
    top = tmp_path / "demo"
    check_story(play(tmp_path, "--server", team.url, "--keep", str(top), **team._environ))
    done = subprocess.run(["git", "-C", str(team.bare), "fsck", "--strict"], capture_output=True, check=False)
    assert done.returncode == 0
