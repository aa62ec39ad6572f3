"""The throw-away work tree of `gml bisect --run`: clean, found, and gone afterwards."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from code_lab import import_history, state_of

GML = Path(sysconfig.get_path("scripts")) / "gml"
RUN = f"{shlex.quote(sys.executable)} train.py"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_bisection_cleans_up(lab, tmp_path, monkeypatch, number):
    script = (
        "import os, pathlib, time\npathlib.Path(os.environ['LOG']).write_text(os.getcwd())\ntime.sleep(60)\n"
    )
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    commits = import_history(lab.repo, [0.9, 0.8], {"train.py": script})
    before = state_of(lab.repo)
    child = subprocess.Popen(
        [str(GML), "bisect", "auc", "--good", commits[0], "--run", RUN], cwd=lab.repo.path, env=lab.repo.env(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    place = tmp_path / "log"
    while not (place.exists() and place.read_text()):
        assert child.poll() is None
        time.sleep(0.02)
    if number == signal.SIGINT:
        os.killpg(child.pid, number)  # as a terminal does
    else:
        child.send_signal(number)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in err.replace(
        'Traceback (most recent call last):\n  File "' + place.read_text(), ""
    )
    assert not Path(place.read_text()).exists()
    assert state_of(lab.repo) == before


def test_what_a_killed_bisection_left_is_removed_by_the_next(lab):
    from gml.git.checkout import PREFIX, throw_away_checkout

    space = lab.repo.workspace()
    ended = subprocess.Popen(["true"])
    ended.wait()
    top = Path(lab.repo.path).parent / f"{PREFIX}left"
    place = top / f"{PREFIX}{ended.pid}-01234567"
    lab.repo.git("worktree", "add", "-q", "--detach", str(place), "HEAD")
    mine = Path(lab.repo.path).parent / "mine"
    lab.repo.git("worktree", "add", "-q", "--detach", str(mine), "HEAD")
    with throw_away_checkout(space.store) as checkout:
        assert not top.exists()
        used = checkout.switch(lab.repo.git("rev-parse", "HEAD"))
        assert (used / "train.py").exists()
    listed = lab.repo.git("worktree", "list")
    assert str(mine) in listed
    assert PREFIX not in listed


def test_each_commit_gets_a_clean_tree_and_hooks_do_not_run(lab):
    from gml.git.checkout import throw_away_checkout

    hook = lab.repo.file(".git/hooks/post-checkout", "#!/bin/sh\ntouch hook-ran\n")
    hook.chmod(0o755)
    one = lab.repo.commit("one", **{".gitignore": "*.o\n", "a": "1\n"})
    two = lab.repo.commit("two", a="2\n")
    with throw_away_checkout(lab.repo.workspace().store) as checkout:
        place = checkout.switch(two)
        (place / "a").write_text("changed")
        (place / "x.o").write_text("ignored")
        (place / "left").mkdir()
        (place / "left" / "file").write_text("untracked")
        assert checkout.switch(one) == place
        assert sorted(p.name for p in place.iterdir()) == [".git", ".gitignore", "a", "train.py"]
        assert (place / "a").read_text() == "1\n"


def test_the_command_sees_where_it_is(lab, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(lab.repo.path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere")
    monkeypatch.setenv("GML_RUN_ID", "ab" * 16)
    seen = tmp_path / "seen"
    script = f"import json, os\njson.dump([dict(os.environ), os.getcwd()], open({str(seen)!r}, 'w'))\n"
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    commits = import_history(lab.repo, [0.9, 0.8], {"sub/train.py": script})
    monkeypatch.chdir(lab.repo.path / "sub")
    monkeypatch.setenv("GIT_PREFIX", "sub/")
    lab.gml("bisect", "auc", "--good", commits[0], "--run", RUN, code=4)
    environ, place = json.loads(seen.read_text())
    assert environ["GML_BISECT_TOP"] == str(lab.repo.path)
    assert place == f"{environ['GML_REPO']}/sub"
    assert "GML_RUN_ID" not in environ
    assert "GIT_PREFIX" not in environ
