"""`gml registry watch`: a command for each verified change, once; and the jobs of examples/ci that use it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from registry_lab import BRANCH, Lab, policy_text
from test_forges import git

from gml.domain.errors import CorruptError, PolicyError
from gml.git.discover import open_store
from gml.registry.branch import Registry
from gml.registry.watch import follow
from gml.workspace import Workspace
from support import GML

CI = Path(__file__).parents[2] / "examples" / "ci"


class Followed:
    """A clone with the lab's history: Production of churn holds v1 and is at turn 1."""

    def __init__(self, path: Path, environ) -> None:
        git("init", "-q", "-b", "main", str(path))
        self.path, self.environ = path, environ
        self.lab = Lab(policy_text())
        self.tip = self.lab.start()
        self.publish()

    def publish(self) -> None:
        store = open_store(self.path, environ=self.environ)
        store.write_pack(list(self.lab.objects.values()))
        store.update_ref(BRANCH, self.tip, expected=store.ref(BRANCH), message="test")

    def change(self, version: int | None, stage: str = "Production", approvers=("bob", "carol")) -> None:
        self.tip = self.lab.commit(self.tip, self.lab.change(self.tip, version, stage, approvers=approvers))
        self.publish()

    def turns(self, *, fail: bool = False, **options) -> list[tuple[int, int | None, int | None]]:
        found = []

        def hand_over(turn):
            found.append((turn.seq, turn.version, turn.before))
            return not fail

        follow(Registry(Workspace.open(self.path)), "churn", "Production", hand_over, **options)
        return found

    def gml(self, *args, code: int = 0):
        done = subprocess.run([str(GML), *args], cwd=self.path, capture_output=True, text=True, check=False)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def followed(tmp_path):
    import os

    made = Followed(tmp_path / "clone", dict(os.environ))
    yield made
    git("-C", str(made.path), "fsck", "--strict")


def test_each_change_is_handed_over_once(followed, tmp_path):
    assert followed.turns() == [(1, 1, None)]
    assert followed.turns() == []
    followed.change(2)
    followed.change(None)
    assert followed.turns() == [(2, 2, 1), (3, None, 2)]
    assert followed.turns() == []
    assert followed.turns(follower="other") == [(3, None, 2)]
    assert followed.turns(follower="third", only_new=True) == []
    assert followed.turns(memory=tmp_path / "kept") == [(3, None, 2)]
    assert followed.turns(memory=tmp_path / "kept") == []


def test_what_failed_is_tried_again(followed):
    followed.turns()
    followed.change(2)
    followed.change(None)
    assert followed.turns(fail=True) == [(2, 2, 1)]
    assert followed.turns() == [(2, 2, 1), (3, None, 2)]


def test_nothing_runs_on_what_was_not_approved(followed):
    followed.turns()
    followed.change(2, approvers=("bob",))
    with pytest.raises(PolicyError, match="1 of 2"):
        followed.turns()


def test_a_memory_that_is_damaged_is_not_guessed(followed, tmp_path):
    followed.turns(memory=tmp_path / "kept")
    (file,) = (tmp_path / "kept").glob("*.json")
    file.write_text("{")
    with pytest.raises(CorruptError, match="remove it to start again"):
        followed.turns(memory=tmp_path / "kept")


def test_the_command_gets_the_change_and_no_shell(followed):
    script = 'import os; print(sorted((k, v) for k, v in os.environ.items() if k in ("GML_VERSION", "GML_SEQ")), "$(id)")'
    command = f"python3 -c '{script}'"
    done = followed.gml("registry", "watch", "churn", "Production", "--once", "--exec", command)
    assert "[('GML_SEQ', '1'), ('GML_VERSION', '1')] $(id)" in done.stdout
    assert "Production of churn holds v1 (turn 1)" in done.stdout
    followed.change(2)
    failing = ("registry", "watch", "churn", "Production", "--once", "--exec", "false")
    assert "ended with 1; it is tried again" in followed.gml(*failing, code=1).stderr
    followed.gml("registry", "watch", "chrun", "Production", "--once", "--exec", "true", code=4)
    said = followed.gml("registry", "watch", "churn", "Prodution", "--once", "--exec", "true", code=13).stderr
    assert "did you mean 'Production'" in said


def deploying(path: Path) -> list[str]:
    """Return the commands of an example's deployment that are gml's."""
    text = path.read_text()
    if path.suffix == ".yml":
        yaml.safe_load(text)
    found = re.findall(r"(gml (?:trust pin|pull|registry)[^'\n]*)", text[text.index("trust pin") - 10 :])
    assert len(found) >= 4
    return found


@pytest.mark.parametrize("name", ["gitlab-ci.yml", "Jenkinsfile", "deploy-on-tag.yml"])
def test_the_deployment_of_an_example(followed, tmp_path, name):
    shutil.copy(CI / "deploy.sh", followed.path)
    root = followed.lab.policy.digest
    # there is no run behind the lab's versions: the proof of bytes is test_flow's
    script = "\n".join(
        line for line in deploying(CI / name) if "registry verify" not in line and line != "gml pull"
    )
    done = subprocess.run(
        ["bash", "-euc", script], cwd=followed.path, capture_output=True, text=True, check=False,
        env={**followed.environ, "GML_ROOT_POLICY": root, "PATH": f"{GML.parent}:{followed.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "deploying churn v1 (sha256 " in done.stdout
