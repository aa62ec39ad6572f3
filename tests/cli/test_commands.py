"""The everyday commands as a user types them."""

from __future__ import annotations

import subprocess
import sys
import sysconfig

import pytest


@pytest.fixture
def runs(gml, repo, prepared):
    """Three runs of two experiments, the code changed in between; returns their ids, oldest first."""
    return prepared(repo, "runs", lambda: three_runs(gml, repo))


def three_runs(gml, repo):
    gml("log", "-x", "churn", "-n", "forest", "-p", "lr=0.1", "--capture", "auto", "--", "echo", "auc: 0.8")
    repo.commit("better", **{"train.py": "print('better')\n"})
    repo.file("notes.txt", "not committed\n")
    gml("log", "-x", "churn", "-n", "boost", "-p", "lr=0.2", "--capture", "auto", "--", "echo", "auc: 0.9")
    gml("log", "-n", "other", "--", "true")
    return [run["run_id"] for run in reversed(gml("ls", "--json").json)]


def test_ls_lists_newest_first_with_what_differs(gml, runs):
    rows = gml("ls", "-x", "churn").rows
    assert [row["name"] for row in rows] == ["boost", "forest"]
    assert [row["auc"] for row in rows] == ["0.9", "0.8"]
    assert [row["lr"] for row in rows] == ["0.2", "0.1"]
    assert rows[0]["status"] == "FINISHED *"
    assert rows[0]["id"] == runs[1][-8:]
    assert [run["name"] for run in gml("ls", "metrics.auc > 0.85", "--json").json] == ["boost"]
    assert [run["name"] for run in gml("ls", "--sort", "metrics.auc", "-n", "2", "--json").json] == [
        "forest",
        "boost",
    ]


def test_ls_json_has_the_documented_fields(gml, runs):
    expected = {
        "run_id", "name", "experiment_id", "experiment", "status", "start_time", "end_time", "user",
        "lifecycle_stage", "params", "metrics", "tags", "source", "artifact_digest",
    }  # fmt: skip
    assert all(set(run) == expected for run in gml("ls", "--json").json)
    more = {"metric_summary", "inputs", "outputs", "environment", "children"}
    assert expected | more <= set(gml("show", "--json").json)


def test_ls_csv_has_all_keys(gml, runs):
    lines = gml("ls", "--csv").out.splitlines()
    assert lines[0] == "run_id,name,experiment,status,start_time,end_time,params.lr,metrics.auc"
    assert len(lines) == 4


@pytest.mark.parametrize("how", ["@", "other", "whole", "end", "start"])
def test_a_run_is_found_by_any_name(gml, runs, how):
    text = {"whole": runs[2], "end": runs[2][-8:], "start": runs[2][:24]}.get(how, how)
    assert gml("show", text, "--json").json["run_id"] == runs[2]


def test_relative_names_count_back(gml, runs):
    assert [gml("show", name, "--json").json["run_id"] for name in ("@~0", "@~1", "@~2")] == runs[::-1]


def test_diff_has_the_documented_shape_and_the_real_code(gml, runs):
    diff = gml("diff", "forest", "boost", "--json").json
    assert (diff["a"], diff["b"]) == (runs[0], runs[1])
    assert diff["params"]["changed"] == {"lr": ["0.1", "0.2"]}
    assert diff["metrics"]["changed"] == {"auc": [0.8, 0.9]}
    assert diff["metrics"]["delta"]["auc"] == pytest.approx(0.1)
    for section in ("params", "metrics", "tags", "code", "environment", "artifacts"):
        assert {"changed", "only_a", "only_b"} <= set(diff[section])
    assert set(diff["code"]["changed"]) == {"train.py"}
    assert set(diff["code"]["only_b"]) == {"notes.txt"}
    assert "+print('better')" in diff["code"]["patch"]
    assert "+not committed" in gml("diff", "forest", "boost").out


def test_tags_notes_and_names_change_as_commits(gml, runs, repo):
    gml("tag", "@", "team=risk", "seen=yes")
    gml("tag", "@", "-d", "seen")
    gml("note", "@", "a note")
    gml("rename", "@", "renamed")
    run = gml("show", "renamed", "--json").json
    assert run["run_id"] == runs[2]
    assert run["tags"] == {"team": "risk", "mlflow.note.content": "a note"}
    assert gml("tag", "@").out == "mlflow.note.content=a note\nteam=risk\n"
    subjects = repo.git("log", "--format=%s", "refs/gml/ledger").split("\n")[:4]
    assert [s.split(" run ")[0] for s in subjects] == ["rename", "note on", "tag", "tag"]


def test_a_deleted_run_can_be_restored(gml, runs):
    gml("rm", "other")
    assert runs[2] not in [run["run_id"] for run in gml("ls", "--json").json]
    assert [run["run_id"] for run in gml("ls", "--deleted", "--json").json] == [runs[2]]
    gml("restore", runs[2])
    assert gml("ls", "--json").json[0]["run_id"] == runs[2]


def test_experiments_live_and_die_with_their_runs(gml, runs):
    number = gml("exp", "create", "fraud", "-t", "team=risk").out.strip()
    listed = {e["name"]: e for e in gml("exp", "ls", "--json").json}
    assert listed["fraud"]["experiment_id"] == number
    assert {name: e["runs"] for name, e in listed.items()} == {"Default": 1, "churn": 2, "fraud": 0}
    gml("exp", "rename", "churn", "churn-old")
    gml("log", "-x", "churn", "--", "true")
    listed = {e["name"]: e["runs"] for e in gml("exp", "ls", "--json").json}
    assert listed == {"Default": 1, "churn": 1, "churn-old": 2, "fraud": 0}
    gml("exp", "rm", "churn-old")
    assert len(gml("ls", "--json").json) == 2
    assert "deleted" in gml("log", "-x", "churn-old", "--", "true", code=6).err
    gml("exp", "restore", "churn-old")
    assert len(gml("ls", "--json").json) == 4
    assert gml("exp", "show", "churn-old", "--json").json["statuses"] == {"FINISHED": 2}


def test_artifacts_go_in_and_out(gml, runs, repo, tmp_path):
    repo.file("model/weights.bin", b"\0" * 200_000)
    repo.file("model/MLmodel", "flavors: {}\n")
    gml("artifacts", "put", "@", "model", "train.py", "--to", "final")
    listed = {a["path"]: a for a in gml("artifacts", "ls", "@", "final", "--json").json}
    assert {name: a["at"].partition(":")[0] for name, a in listed.items()} == {
        "final/model/weights.bin": "cas", "final/model/MLmodel": "git", "final/train.py": "git",
    }  # fmt: skip
    gml("artifacts", "get", "@", "final/model", "-o", tmp_path / "out")
    assert (tmp_path / "out/final/model/weights.bin").read_bytes() == b"\0" * 200_000
    assert gml("artifacts", "cat", "@", "final/train.py").out == "print('better')\n"
    run = gml("show", "--json").json
    assert (run["run_id"], run["status"]) == (runs[2], "FINISHED")
    assert run["artifact_digest"]


def test_init_is_optional_and_says_what_it_will_do(gml, repo):
    said = gml("init", "--experiment", "churn").out
    assert "refs/gml/ledger" in said
    gml("log", "--", "true")
    assert gml("show", "--json").json["experiment"] == "churn"
    assert gml("init").out == said


def test_status_recover_and_doctor_agree_on_an_interrupted_run(gml, repo, start):
    child = repo.start("import gml, os\ngml.start_run()\ngml.log_metric('a', 1)\nos.kill(os.getpid(), 9)")
    child.communicate(timeout=60)
    status = gml("status", "--json").json
    assert len(status["interrupted"]) == 1
    assert "was interrupted" in gml("doctor").out
    assert gml("recover", "--json").json == {"recovered": status["interrupted"]}
    assert gml("recover").out == "nothing to recover\n"
    run = gml("show", "--json").json
    assert (run["status"], run["metrics"]) == ("KILLED", {"a": 1.0})


@pytest.mark.parametrize("kind", ["bare", "empty", "detached", "worktree", "subdirectory", "sha256"])
def test_every_kind_of_repository_works(gml, repo, make_repo, kind):
    cwd = repo.path
    if kind == "bare":
        cwd = make_repo("bare", "--bare").path
    elif kind == "empty":
        cwd = make_repo("empty", commit=False).path
    elif kind == "sha256":
        cwd = make_repo("sha256", "--object-format=sha256").path
    elif kind == "detached":
        repo.git("checkout", "-q", "--detach")
    elif kind == "worktree":
        cwd = repo.path.parent / "linked"
        repo.git("worktree", "add", "-q", str(cwd))
    else:
        cwd = repo.path / "deep" / "down"
        cwd.mkdir(parents=True)
    gml("log", "-n", "first", "-p", "a=1", "--", "true", cwd=cwd)
    gml("log", "-n", "second", "-p", "a=2", "--", "true", cwd=cwd)
    assert [run["name"] for run in gml("ls", "--json", cwd=cwd).json] == ["second", "first"]
    assert gml("diff", "@~1", "@", "--json", cwd=cwd).json["params"]["changed"] == {"a": ["1", "2"]}
    assert gml("doctor", cwd=cwd).code == 0
    if kind == "worktree":
        assert len(gml("ls", "--json").json) == 2


def test_the_option_c_and_gml_repo_name_another_repository(gml, repo, tmp_path):
    gml("log", "--", "true")
    assert len(gml("-C", repo.path, "ls", "--json", cwd=tmp_path).json) == 1
    assert len(gml("ls", "--json", cwd=tmp_path, GML_REPO=str(repo.path)).json) == 1


def test_starting_imports_nothing_heavy(repo):
    script = (
        "import sys\nfrom gml.cli.main import run\nrun(['--version'])\nimport gml\n"
        "heavy = {'pandas', 'numpy', 'fsspec', 'pygit2', 'dulwich', 'rich', 'orjson', 'yaml', 'sqlite3'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert repo.python(script).splitlines()[-1] == "[]"


def test_a_reader_that_leaves_early_is_no_error(gml, start):
    gml("log", "--", "true")
    child = start("ls", "--json")
    child.stdout.close()
    assert child.wait(60) in {0, 141}
    assert child.stderr.read() == b""
    child.stderr.close()


def test_help_and_version(gml):
    assert gml("--version").out.startswith("gml ")
    assert "gml log" in gml("--help").out
    assert gml().out.startswith("Usage: gml")


def test_the_module_runs_without_a_git_command_on_the_path(gml, repo):
    environ = {"PATH": sysconfig.get_path("scripts")}
    done = subprocess.run(
        [sys.executable, "-m", "gml", "log", "-n", "no-git", "--", sys.executable, "-c", "print(1)"],
        cwd=repo.path, env={**repo.env(), **environ}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert gml("show", "no-git", "--json").json["source"]["commit"] == repo.git("rev-parse", "HEAD")
