"""Three clones and a remote in any order of work: in the end all hold the same, and nothing is lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from gml.registry.branch import Registry
from gml.registry.register import register
from gml.registry.stages import promote
from gml.sync.pull import pull
from gml.sync.push import push
from gml.sync.remotes import open_remote
from gml.tracking.edits import delete_runs, tag_runs
from gml.tracking.reader import Reader
from gml.workspace import Workspace

CLONES = ("ada", "bob", "eve")
LEDGER, REGISTRY = "refs/gml/ledger", "refs/heads/gml/registry"

# A process that forks a child for each run: it imports once, and a child that is to be killed is.
LOGGER = """
import json, os, signal, sys, warnings
import gml
from gml.tracking import active

warnings.simplefilter("ignore", DeprecationWarning)
for line in sys.stdin:
    path, name, value, run_id, kill = json.loads(line)
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(path)
            with gml.start_run(run_id=run_id, run_name=None if run_id else name) as run:
                gml.log_metric("loss", value, step=value)
                gml.log_text(name, f"model/{value}.txt")
                os.write(1, (run.run_id + "\\n").encode())
                if kill:
                    os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
"""


def git(repo: Path, *args: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(
        ["git", *identity, "-C", str(repo), *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout.strip()


class ThreeClones(RuleBasedStateMachine):
    """What people do in three clones of one remote, and what must be there afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp(prefix="gml-three-"))
        self.bare = self.top / "bare.git"
        subprocess.run(["git", "init", "-q", "--bare", "--template=", str(self.bare)], check=True)
        for name in CLONES:
            repo = self.top / name
            subprocess.run(["git", "init", "-q", "--template=", "-b", "main", str(repo)], check=True)
            git(repo, "remote", "add", "origin", str(self.bare))
            for key, value in (
                ("gml.code", "none"),
                ("user.name", name),
                ("user.email", f"{name}@example.org"),
            ):
                git(repo, "config", key, value)
        self.logger = subprocess.Popen(
            [sys.executable, "-c", LOGGER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )  # fmt: skip
        self.count = 0
        self.points: dict[str, set[int]] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.deleted: set[str] = set()
        self.versions: list[str] = []

    def space(self, clone: str) -> Workspace:
        return Workspace.open(self.top / clone)

    def runs(self, clone: str) -> list[str]:
        """Return the runs that a clone knows and nobody deleted, oldest first."""
        reader = Reader(self.space(clone))
        return sorted(run.run_id for run in reader.runs() if run.run_id not in self.deleted)

    def log(self, clone: str, run_id: str | None, *, kill: bool) -> str:
        self.count += 1
        line = json.dumps([str(self.top / clone), f"run-{self.count}", self.count, run_id, kill])
        self.logger.stdin.write(line + "\n")
        made = self.logger.stdout.readline().strip()
        assert made
        self.points.setdefault(made, set()).add(self.count)
        return made

    @initialize(clone=st.sampled_from(CLONES))
    def begin(self, clone: str) -> None:
        self.log(clone, None, kill=False)

    @rule(clone=st.sampled_from(CLONES), kill=st.booleans())
    def train(self, clone: str, kill: bool) -> None:
        self.log(clone, None, kill=kill)

    @rule(clone=st.sampled_from(CLONES), kill=st.booleans(), which=st.integers(0, 99))
    def resume(self, clone: str, kill: bool, which: int) -> None:
        known = self.runs(clone)
        if known:
            self.log(clone, known[which % len(known)], kill=kill)

    @rule(clone=st.sampled_from(CLONES), which=st.integers(0, 99))
    def edit(self, clone: str, which: int) -> None:
        known = self.runs(clone)
        if known:
            run = known[which % len(known)]
            self.count += 1
            # One key for each change: of two values for one key the later of the two counts.
            tag_runs(self.space(clone), [run], {f"t{self.count}": clone})
            self.tags[run, f"t{self.count}"] = clone

    @rule(clone=st.sampled_from(CLONES), which=st.integers(0, 99))
    def delete(self, clone: str, which: int) -> None:
        known = self.runs(clone)
        if len(known) > 1:
            run = known[which % len(known)]
            delete_runs(self.space(clone), [run])
            self.deleted.add(run)

    @rule(clone=st.sampled_from(CLONES), which=st.integers(0, 99))
    def register(self, clone: str, which: int) -> None:
        known = self.runs(clone)
        if known:
            run = known[which % len(known)]
            space = self.space(clone)
            from gml.tracking.commit import commit_sessions

            commit_sessions(space)
            register(Registry(space), "churn", run, "model")
            self.versions.append(run)

    @rule(clone=st.sampled_from(CLONES), which=st.integers(0, 99))
    def promote(self, clone: str, which: int) -> None:
        # A stage for each clone: two changes of one stage are for people to decide.
        registry = Registry(self.space(clone))
        view = registry.view()
        numbers = view.numbers("churn")
        stage = view.stage("churn", clone.title())
        number = numbers[which % len(numbers)] if numbers else None
        if number is not None and (stage is None or stage.version != number):
            promote(registry, "churn", number, clone.title())

    @rule(clone=st.sampled_from(CLONES), way=st.sampled_from([push, pull]))
    def exchange(self, clone: str, way) -> None:
        space = self.space(clone)
        assert way(space, open_remote(space)).conflicts == []

    def teardown(self) -> None:
        try:
            self._finish()
        finally:
            self.logger.stdin.close()
            self.logger.wait()
            self.logger.stdout.close()
            shutil.rmtree(self.top)

    def _finish(self) -> None:
        from gml.tracking.commit import commit_sessions

        for clone in (*CLONES, *CLONES):
            commit_sessions(self.space(clone))
            for way in (push, pull):
                self.exchange(clone, way)
        for clone in CLONES:
            self.exchange(clone, pull)
        tips = {
            git(
                self.top / clone,
                "for-each-ref",
                "--format=%(objectname) %(refname)",
                LEDGER,
                REGISTRY,
                "refs/tags",
            )
            for clone in CLONES
        }
        assert len(tips) == 1
        for clone in CLONES:
            self._check(clone)
            git(self.top / clone, "fsck", "--strict")
        git(self.bare, "fsck", "--strict")

    def _check(self, clone: str) -> None:
        reader = Reader(self.space(clone))
        for run_id, points in self.points.items():
            run = reader.run(run_id)
            assert run is not None
            assert set(reader.history(run, "loss")[0]) == points
            assert set(run.artifacts) == {f"model/{point}.txt" for point in points}
            assert (run.lifecycle_stage == "deleted") == (run_id in self.deleted)
        for (run_id, key), value in self.tags.items():
            assert reader.run(run_id).tags[key] == value
        view = Registry(self.space(clone)).view()
        found = (
            [view.version("churn", number).run for number in view.numbers("churn")] if self.versions else []
        )
        assert sorted(found) == sorted(self.versions)


QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}


@pytest.mark.usefixtures("_isolated")
@pytest.mark.parametrize(
    ("examples", "steps"),
    [(2, 14), pytest.param(60, 25, marks=[pytest.mark.heavy, pytest.mark.timeout(1800)])],
)
def test_all_clones_end_equal_and_nothing_is_lost(examples, steps):
    run_state_machine_as_test(
        ThreeClones,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, derandomize=examples < 10, **QUIET
        ),
    )
