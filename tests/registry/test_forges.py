"""Pull requests on forges: reviews become signed statements; payloads have the shapes that the forges document.

No live forge was at hand: `forge_server` answers in its place.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
import yaml
from forge_server import TOKEN, FakeForge, review, serve, user
from registry_lab import BRANCH, KEYS, NOW, Lab, policy_text
from team import write_key

from gml.domain.errors import ConflictError, RemoteError, UsageError
from gml.git.discover import open_store
from gml.policy import names
from gml.policy.records import read_stage_statement
from gml.registry.branch import Registry
from gml.registry.forge import read_reviews
from gml.registry.forge_api import MARK, Forge
from gml.registry.gate import Gate, Update
from gml.registry.pulls import judge_pull
from gml.registry.verify import verify
from gml.workspace import Workspace
from support import GML

PROPOSAL = "refs/heads/gml/propose/churn-2-production-2"


class Scene:
    """A server with a proposal of alice, a forge with its pull request, and the clone of a CI job."""

    def __init__(self, top, forge: FakeForge) -> None:
        self.forge, self.top = forge, top
        text = policy_text().replace(b"github", forge.name.encode())
        self.lab = Lab(text)
        self.tip = self.lab.start()
        self.record = self.lab.stage(self.tip, 2)
        self.head = self.lab.commit(self.tip, self.lab.change(self.tip, 2, approvers=()))
        self.bare, self.clone = top / "server.git", top / "clone"
        git("init", "-q", "--bare", "-b", "main", str(self.bare))
        git("init", "-q", "-b", "main", str(self.clone))
        git("-C", str(self.clone), "config", "remote.origin.url", str(self.bare))
        self.key = write_key(top, "ci")
        self.publish(BRANCH, self.tip)
        self.propose(self.head)

    def publish(self, ref: str, new: str) -> None:
        store = open_store(self.bare, environ=dict(os.environ))
        store.write_pack(list(self.lab.objects.values()))
        store.update_ref(ref, new, expected=store.ref(ref), message="test")

    def propose(self, new: str) -> None:
        pull = "refs/merge-requests/7/head" if self.forge.name == "gitlab" else "refs/pull/7/head"
        self.publish(PROPOSAL, new)
        self.publish(pull, new)
        self.forge.head, self.forge.branch = new, PROPOSAL.removeprefix("refs/heads/")

    def approve(self, *who: int, commit: str | None = None) -> None:
        self.forge.reviews += [
            review(len(self.forge.reviews) + n, w, commit or self.head) for n, w in enumerate(who)
        ]

    def judge(self, *, key: bool = True):
        git("-C", str(self.clone), "fetch", "-q", "origin", "+refs/heads/gml/*:refs/remotes/origin/gml/*")
        there = Forge.of(self.forge.name, self.forge.environ())
        registry = Registry(Workspace.open(self.clone))
        return judge_pull(registry, there, 7, remote="origin", key=str(self.key) if key else None)

    @property
    def status(self):
        commit, said = self.forge.statuses[-1]
        return commit, said["state"]


def git(*args: str) -> str:
    return subprocess.run(["git", *args], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def scene(tmp_path):
    made = []

    def make(name: str = "github") -> Scene:
        forge = FakeForge(name)
        running = serve(forge)
        running.__enter__()
        made.append(running)
        return Scene(tmp_path, forge)

    yield make
    for running in made:
        running.__exit__(None, None, None)
    for path in (tmp_path / "server.git", tmp_path / "clone"):
        if path.exists():
            git("-C", str(path), "fsck", "--strict")


# --- what counts -----------------------------------------------------------------------------------


def payload(*reviews, commits=(), author=100, forge="github"):
    pull = {"head": {"sha": "h"}, "user": user(author)}
    return {"forge": forge, "pull_request": pull, "reviews": list(reviews), "commits": list(commits)}


def by(author=None, committer=None):
    return {"sha": "c", "author": author, "committer": committer}


COUNTED = {
    "approved": ([review(1, 101, "h")], [101]),
    "approved_by_two": ([review(1, 101, "h"), review(2, 102, "h")], [101, 102]),
    "only_commented": ([review(1, 101, "h", "COMMENTED")], []),
    "pending": ([review(1, 101, "h", "PENDING")], []),
    "a_comment_takes_nothing_back": ([review(1, 101, "h"), review(2, 101, "h", "COMMENTED")], [101]),
    "dismissed": ([review(1, 101, "h"), review(1, 101, "h", "DISMISSED")], []),
    "dismissed_on_gitea": ([review(1, 101, "h", dismissed=True)], []),
    "stale_on_gitea": ([review(1, 101, "h", stale=True)], []),
    "by_the_author": ([review(1, 100, "h")], []),
    "by_a_bot": ([review(1, 101, "h", user=user(101, type="Bot"))], []),
    "by_an_app": ([review(1, 101, "h", user=user(101, login="deploy[bot]"))], []),
    "by_a_deleted_account": ([review(1, 101, "h", user=None)], []),
    "by_a_text": ([review(1, 101, "h", user=user("101"))], []),
    "twice_by_one": ([review(1, 101, "h"), review(2, 101, "h")], [101]),
    "changes_after_all": ([review(1, 101, "h"), review(2, 101, "h", "CHANGES_REQUESTED")], []),
    "approved_after_all": ([review(1, 101, "h", "REQUEST_CHANGES"), review(2, 101, "h")], [101]),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTED)
def test_which_reviews_stand(name):
    reviews, expected = COUNTED[name]
    found = read_reviews(payload(*reviews))
    assert [each.user for each in found.found if not each.against] == expected


def test_authors_and_committers_of_commits_do_not_review():
    reviews = [review(1, 101, "h"), review(2, 102, "h"), review(3, 103, "h")]
    found = read_reviews(payload(*reviews, commits=[by(user(101), user(102)), by()]))
    assert [each.user for each in found.found] == [103]


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"forge": "sourcehut"},
        {"forge": "github"},
        {
            "forge": "github",
            "pull_request": {"head": {"sha": "h"}, "user": None},
            "reviews": [],
            "commits": [],
        },
        {"forge": "github", "pull_request": {"head": {"sha": "h"}, "user": user(1)}, "reviews": []},
        {
            "forge": "github",
            "pull_request": {"head": {"sha": "h"}, "user": user(1)},
            "reviews": [1],
            "commits": [],
        },
        {"forge": "gitlab", "merge_request": {"sha": "h"}},
        {
            "forge": "gitlab",
            "merge_request": {"sha": "h", "author": {"id": 1}},
            "approvals": {"approved_by": [{}]},
        },
    ],
)
def test_other_shapes_are_refused(broken):
    with pytest.raises(UsageError):
        read_reviews(broken)


# --- judging ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["github", "gitlab", "gitea"])
def test_reviews_become_statements(scene, name):
    scene = scene(name)
    waiting = scene.judge()
    assert (waiting.state, scene.status) == ("pending", (scene.head, "pending"))
    assert "0 of 2 approvals" in waiting.text
    scene.approve(101, 102, 9999)
    judged = scene.judge()
    assert (judged.state, judged.recorded) == ("success", ("bob", "carol"))
    assert judged.head == git("-C", str(scene.bare), "rev-parse", PROPOSAL) != scene.head
    assert scene.status == (judged.head, "success")
    (comment,) = scene.forge.comments
    assert comment["body"].startswith(MARK)
    assert "Approvals: 2 of 2" in comment["body"]
    registry = Registry(Workspace.open(scene.clone))
    path = names.approval_path("churn", "Production", 2, "bob")
    said, _ = read_stage_statement(registry.chain.tree(judged.head).read(path), path)
    assert said.review | {"review": ""} == {
        "forge": name, "service": "ci", "user": "101", "commit": scene.head, "review": ""
    }  # fmt: skip
    # with the statements in it the branch stands on its own: for the server's gate, and for a consumer
    store = open_store(scene.bare, environ=dict(os.environ))
    Gate(store, now=NOW).judge([Update(BRANCH, scene.tip, judged.head)])
    store.update_ref(BRANCH, judged.head, expected=scene.tip, message="merged")
    git("-C", str(scene.clone), "fetch", "-q", "origin", "+refs/heads/gml/*:refs/remotes/origin/gml/*")
    done = verify(Registry(Workspace.open(scene.clone))).accepted[-1]
    assert [(v.person, v.type, v.counted) for v in done.votes] == [
        ("alice", "request", False), ("bob", "evidence", True), ("carol", "evidence", True)
    ]  # fmt: skip


def test_what_is_recorded_stays_when_the_branch_moves_on(scene):
    scene = scene()
    scene.approve(101)
    first = scene.judge()
    assert (first.state, first.recorded) == ("pending", ("bob",))
    git("-C", str(scene.bare), "update-ref", "refs/pull/7/head", first.head)
    scene.forge.head = first.head
    # carol looked at the commit before the statement was added: it says the same
    scene.approve(102)
    assert scene.judge().recorded == ("carol",)


def test_reviews_of_something_else_do_not_count(scene):
    scene = scene()
    other = scene.lab.commit(scene.tip, scene.lab.change(scene.tip, 1, "Shadow", approvers=()))
    scene.publish("refs/heads/other", other)
    git("-C", str(scene.clone), "fetch", "-q", "origin", "+refs/heads/other:refs/remotes/origin/other")
    scene.approve(101, 102, commit=other)
    scene.approve(101, 102, commit="f" * 40)
    judged = scene.judge()
    assert (judged.state, judged.recorded) == ("pending", ())
    assert "0 of 2" in judged.text


def test_reviews_after_the_base_moved_on(scene):
    scene = scene()
    scene.approve(101, 102)
    base = scene.lab.commit(scene.tip, {names.version_path("churn", 4): scene.lab.version(4)})
    scene.publish(BRANCH, base)
    scene.propose(scene.lab.merge(scene.head, base))
    judged = scene.judge()
    assert (judged.state, judged.recorded) == ("success", ("bob", "carol"))


def test_who_asks_for_changes_holds_it_up(scene):
    scene = scene()
    scene.approve(101)
    scene.forge.reviews.append(review(9, 102, scene.head, "CHANGES_REQUESTED"))
    judged = scene.judge()
    assert (judged.state, judged.recorded) == ("failure", ())
    assert "carol asks for changes" in judged.text


def test_a_fork_cannot_be_pushed_to(scene):
    scene = scene()
    scene.forge.fork = True
    scene.approve(101, 102)
    judged = scene.judge()
    assert (judged.state, judged.recorded, judged.head) == ("pending", (), scene.head)


def test_without_a_key_reviews_do_not_count(scene):
    scene = scene()
    scene.approve(101, 102)
    assert scene.judge(key=False).state == "pending"


def test_a_key_of_nobody_vouches_for_nothing(scene):
    scene = scene()
    scene.approve(101, 102)
    scene.key = write_key(scene.top, "mallory")
    judged = scene.judge()
    assert judged.state == "failure"
    assert "not the key of a service" in judged.text


def test_gitlab_must_drop_approvals_when_a_branch_moves(scene):
    scene = scene("gitlab")
    scene.forge.settings["reset_approvals_on_push"] = False
    scene.approve(101, 102)
    judged = scene.judge()
    assert judged.state == "failure"
    assert scene.status == (scene.head, "failed")
    assert "keeps approvals" in judged.text


def test_a_branch_that_moves_is_judged_again_later(scene):
    scene = scene()
    scene.forge.head = scene.tip
    with pytest.raises(ConflictError, match="is moving"):
        scene.judge()
    assert scene.forge.statuses == []


def test_other_branches_are_none_of_its_business(scene):
    scene = scene()
    scene.forge.base = "main"
    with pytest.raises(UsageError, match="goes into main"):
        scene.judge()


def test_a_token_without_the_right(scene):
    scene = scene()
    scene.forge.refuses = "statuses"
    with pytest.raises(RemoteError, match=r"403 Forbidden"):
        scene.judge()


def test_many_reviews_come_in_pages(scene):
    scene = scene()
    scene.forge.reviews = [review(n, 5_000 + n, scene.head) for n in range(120)]
    scene.approve(101, 102)
    assert scene.judge().recorded == ("bob", "carol")


def test_evidence_in_a_file_counts_once_it_is_recorded(scene, monkeypatch):
    scene = scene()
    scene.approve(101, 102)
    scene.judge(key=False)
    there = Forge.of("github", scene.forge.environ())
    file = scene.top / "evidence.json"
    file.write_text(json.dumps(there.pull(7).payload))
    argv = ["-C", str(scene.clone), "registry", "check", "origin/gml/registry", scene.head, "--forge-evidence", str(file),
            "--key", str(scene.key)]  # fmt: skip

    def run(*args):
        done = subprocess.run([str(GML), *args], capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        return done

    done = run(*argv)
    assert done.returncode == 13
    assert "does not hold them yet" in done.stderr
    done = run(*argv, "--record", "refs/heads/reviewed", "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert (report["ok"], report["recorded"]) == (True, ["bob", "carol"])
    assert git("-C", str(scene.clone), "rev-parse", "reviewed") == report["head"]


# --- the files of a forge --------------------------------------------------------------------------


def setup(repo, forge, *args):
    done = subprocess.run(
        [str(GML), "registry", "setup", forge, *args],
        cwd=repo.path,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea"])
def test_the_files_of_a_forge(repo, forge):
    owners = repo.path / f".{forge}" / "CODEOWNERS"
    owners.parent.mkdir()
    owners.write_text("* @everybody\n")
    code, _ = setup(repo, forge, "--owner", "@acme/admins")
    assert code == 0
    files = sorted(p for p in (repo.path / f".{forge}").rglob("*") if p.is_file())
    assert not any("@BRANCH@" in p.read_text() or "@STEPS@" in p.read_text() for p in files)
    jobs = [yaml.safe_load(p.read_text()) for p in files if p.suffix == ".yml"]
    assert len(jobs) == 1
    for path in files:
        if path.suffix == ".json":
            text = path.read_text()
            assert isinstance(json.loads(text), dict)
            assert "gml/registry" in text or "refs/tags/gml/" in text
    lines = (repo.path / f".{forge}" / "CODEOWNERS").read_text().splitlines()
    assert lines[0] == "* @everybody"
    assert all(line.endswith(" @acme/admins") for line in lines[1:])
    assert len(lines) == len(files) + 1
    assert setup(repo, forge, "--owner", "@acme/admins") == (0, "")
    files[-1].write_text("mine\n")
    owners.write_text("* @everybody\n")
    code, said = setup(repo, forge)
    assert code != 0
    assert "--force" in said
    assert setup(repo, forge, "--force")[0] == 0


def script_of(repo, forge) -> str:
    setup(repo, forge)
    (job,) = [yaml.safe_load(p.read_text()) for p in (repo.path / f".{forge}").rglob("*.yml")]
    if forge == "gitlab":
        return job["gml-registry"]["script"][0]
    (step,) = job["jobs"]["registry"]["steps"]
    return step["run"]


@pytest.mark.parametrize("forge", ["github", pytest.param("gitlab", marks=pytest.mark.heavy)])
def test_the_job_runs(scene, repo, tmp_path, forge):
    """The script of the job as it was written, with a venv that has this gml in it instead of one from PyPI."""
    scene = scene(forge)
    scene.approve(101, 102)
    tools = tmp_path / "tools"
    tools.mkdir()
    fake = tools / "python3"
    fake.write_text(
        f'#!/bin/sh\n[ "$2" = venv ] || exit 9\nmkdir -p "$3/bin"\nln -s {GML} "$3/bin/gml"\n'
        'printf "#!/bin/sh\\n" > "$3/bin/pip"\nchmod +x "$3/bin/pip"\n'
    )
    fake.chmod(0o755)
    folder = tmp_path / "job"
    folder.mkdir()
    server = tmp_path / "acme" / "models.git"
    server.parent.mkdir()
    server.symlink_to(scene.bare)
    environ = {
        **os.environ, **scene.forge.environ(), "PATH": f"{tools}:{os.environ['PATH']}", "RUNNER_TEMP": str(folder),
        "GML_SERVICE_KEY": scene.key.read_text().rstrip("\n"), "GITHUB_SERVER_URL": str(tmp_path),
        "CI_SERVER_URL": str(tmp_path), "CI_PROJECT_PATH": "acme/models",
    }  # fmt: skip
    script = script_of(repo, forge)

    def job():
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        assert TOKEN not in done.stdout + done.stderr
        assert "PRIVATE" not in done.stdout + done.stderr
        return done.stdout

    assert "7  success" in job()
    new = scene.forge.statuses[-1][0]
    assert new == git("-C", str(scene.bare), "rev-parse", PROPOSAL)
    # merged: the next job makes the tags, three at a time
    shutil.rmtree(scene.bare / "hooks", ignore_errors=True)
    (scene.bare / "hooks").mkdir()
    hook = scene.bare / "hooks" / "pre-receive"
    hook.write_text('#!/bin/sh\nn=$(grep -c refs/tags/)\n[ "$n" -le 3 ] || exit 1\n')
    hook.chmod(0o755)
    pull = "refs/merge-requests/7/head" if forge == "gitlab" else "refs/pull/7/head"
    for ref in (BRANCH, pull):
        git("-C", str(scene.bare), "update-ref", ref, new)
    scene.forge.head = new
    assert "gml/churn/Production/2" in job()
    tags = git("-C", str(scene.bare), "tag").split()
    assert len(tags) == 7
    assert KEYS["ci"].public.type == "ssh-ed25519"
