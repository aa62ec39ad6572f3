"""MLproject files are read strictly, and their entry points run as MLflow runs them."""

from __future__ import annotations

import os
import textwrap

import pytest

from gml.domain.errors import GmlError
from gml.projects.mlproject.parse import load_project

PROJECT = """
name: demo
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
      data: path
      where: {type: uri, default: "s3://bucket/x"}
      note: {type: string, default: a b}
    command: "python train.py --alpha {alpha} --data {data} --note {note}"
  train:
    parameters: {depth: int, name: string, rate: float}
    command: python train.py {depth} {name} {rate}
  fails:
    command: python -c "raise SystemExit(3)"
"""
SCRIPT = (
    "import sys, os, json\nprint(json.dumps({'argv': sys.argv[1:], 'mlflow': os.environ['MLFLOW_RUN_ID']}))\n"
)


@pytest.fixture
def project(repo):
    repo.commit(
        "project",
        **{"sub/MLproject": PROJECT, "sub/train.py": SCRIPT, "sub/data.csv": "1,2\n", "sub/job.sh": 'echo "sh $@"\n',
           "MLproject": "entry_points: {main: {command: python train.py}}\n"},
    )  # fmt: skip
    return repo


def latest(gml, at=None):
    return gml("show", "@", "--json", at=at).json


def test_a_run_has_what_mlflow_would_record(project, gml):
    done = gml(
        "run",
        "sub",
        "-P",
        "data=sub/data.csv",
        "-P",
        "alpha=0.1",
        "-P",
        "more=x y",
        "-x",
        "churn",
        "-n",
        "first",
    )
    run = latest(gml)
    path = str(project.path / "sub/data.csv")
    assert f'"argv": ["--alpha", "0.1", "--data", "{path}", "--note", "a b", "--more", "x y"]' in done.out
    assert f'"mlflow": "{run["run_id"]}"' in done.out
    assert run["params"] == {
        "alpha": "0.1", "data": "data.csv", "where": "s3://bucket/x", "note": "a b", "more": "x y",
    }  # fmt: skip
    assert run["tags"] == {
        "mlflow.project.entryPoint": "main", "mlflow.project.env": "local", "mlflow.project.backend": "local",
    }  # fmt: skip
    assert run["name"] == "first"
    assert run["experiment"] == "churn"
    assert run["status"] == "FINISHED"
    assert run["source"]["type"] == "PROJECT"
    assert run["source"]["name"] == "sub"
    assert run["source"]["commit"] == project.git("rev-parse", "HEAD")
    (data,) = run["inputs"]
    assert data["name"] == "data"
    assert data["source"] == '{"uri": "data.csv"}'


def test_a_failing_entry_point_fails(project, gml):
    gml("run", "sub", "-e", "fails", code=3)
    assert latest(gml)["status"] == "FAILED"


def test_files_are_entry_points(project, gml):
    assert '"argv": ["--k", "v"]' in gml("run", "sub", "-e", "train.py", "-P", "k=v").out
    assert "sh --k v" in gml("run", "sub", "-e", "job.sh", "-P", "k=v", SHELL="/bin/bash").out
    done = gml("run", "sub", "-e", "plot.R", "--dry-run", code=4)
    assert "no file 'plot.R'" in done.err
    project.file("sub/plot.R", "")
    assert gml("run", "sub", "-e", "plot.R", "--dry-run").out == "Rscript plot.R\n"
    assert "leads out" in gml("run", "sub", "-e", "../train.py", code=4).err


def test_everything_that_is_wrong_is_named_at_once(project, gml):
    err = gml("run", "sub", "-e", "train", code=2).err
    assert "'depth', 'name', 'rate'" in err
    err = gml("run", "sub", "-e", "train", "-P", "depth=x", "-P", "name=a", "-P", "rate=fast", code=7).err
    assert "depth is an integer, not 'x'; rate is a float, not 'fast'" in err
    err = gml("run", "sub", "-P", "data=nowhere", "-P", "where=here", code=7).err
    assert "there is no 'nowhere'; where is a URI, not 'here'" in err
    err = gml("run", "sub", "-e", "tarin", code=4).err
    assert "did you mean 'train'?" in err
    assert gml("ls", "--json").json == []


@pytest.mark.parametrize("value", ["../../etc/passwd", "../.git/config"])
def test_a_path_does_not_lead_out_of_the_project(project, gml, value):
    assert (
        "leads out of the project"
        in gml("run", ".", "-P", f"data={value}", cwd=project.path / "sub", code=7).err
    )


def test_a_value_is_never_a_command(project, gml):
    gml("run", "sub", "-P", "data=sub/data.csv", "-P", "note=; touch PWN", "-P", "alpha=1")
    assert not list(project.path.rglob("PWN"))


def test_secrets_are_masked_in_the_record(project, gml):
    project.file(
        "sub/MLproject",
        "entry_points: {main: {parameters: {password: string}, command: 'echo {password}; true'}}",
    )
    assert "hunter2" in gml("run", "sub", "-P", "password=hunter2").out
    project.git("add", "-A")
    assert "hunter2" not in str(latest(gml)["source"])
    assert latest(gml)["params"] == {"password": "***"}
    assert "is a secret that was not recorded" in gml("rerun", "@", code=22).err
    assert "hunter2" in gml("rerun", "@", "--set", "password=hunter2").err


# --- versions and other repositories ----------------------------------------------------------


def test_a_version_runs_in_a_checkout(project, gml, untouched):
    project.git("tag", "v1")
    project.commit("later", **{"sub/train.py": "print('later')\n"})
    before = untouched()
    done = gml("run", "sub", "-P", "data=sub/data.csv", "-v", "v1")
    assert '"argv"' in done.out
    assert untouched() == before
    assert latest(gml)["source"]["commit"] == project.git("rev-parse", "v1")
    assert "later" in gml("run", "sub", "-P", "data=sub/data.csv", "--isolated").out
    assert untouched()["worktrees"] == before["worktrees"]


def test_a_project_of_another_repository_needs_consent_and_can_be_run_again_without_it(
    project, gml, make_repo
):
    team = make_repo("team", commit=False)
    team.commit("first", **{"deep/MLproject": PROJECT, "deep/train.py": SCRIPT, "deep/d.csv": "1\n"})
    team.git("tag", "v1")
    team.commit("broken", **{"deep/train.py": "raise SystemExit(1)\n"})
    url = f"file://{team.path}#deep"
    err = gml("run", url, "-v", "v1", "-P", "data=d.csv", code=2).err
    assert "is not in this repository" in err
    assert "--trust" in err
    gml("run", url, "-v", "v1", "-P", "data=d.csv", "--trust")
    run = latest(gml)
    assert run["source"]["commit"] == team.git("rev-parse", "v1")
    assert run["source"]["remote"] == f"file://{team.path}"
    assert run["source"]["name"] == url
    assert run["params"]["data"] == "d.csv"
    assert gml("run", url, "-P", "data=d.csv", "--trust", code=1)
    # From now on the code is in this repository, the other one may go.
    team.damaged = True
    team.path.rename(team.path.with_name("gone"))
    done = gml("rerun", run["run_id"], "--exact", "--json")
    assert done.json["verdict"] == "reproduced"
    again = latest(gml)
    assert again["source"]["commit"] == run["source"]["commit"]
    assert again["source"]["tree"] == run["source"]["tree"]


def test_bad_urls_and_versions(project, gml, make_repo):
    team = make_repo("team")
    url = f"file://{team.path}"
    assert "is no project" in gml("run", "--", "-uexec", code=2).err
    assert "no commit, tag or branch 'v9'" in gml("run", url, "-v", "v9", code=4).err
    assert "no commit, tag or branch 'dead" in gml("run", url, "-v", "dead" * 10, code=4).err
    assert "is no commit" in gml("run", url, "-v=--upload-pack=touch PWN", code=2).err
    assert "leads out" in gml("run", f"{url}#../x", code=2).err
    assert "no folder 'nowhere'" in gml("run", f"{url}#nowhere", "--trust", code=4).err
    assert gml("run", "file:///nowhere/x.git", code=None).code in {4, 12}
    assert gml("run", "ext::sh -c touch% PWN", code=4).err
    assert not list(project.path.rglob("PWN"))
    assert gml("ls", "--json").json == []


def test_a_project_run_is_run_again_with_another_value(project, gml):
    gml("run", "sub", "-P", "data=sub/data.csv", "-n", "first")
    done = gml("rerun", "first", "--set", "alpha=0.9", "--json")
    assert done.json["verdict"] == "changed"
    run = latest(gml)
    assert run["params"]["alpha"] == "0.9"
    assert run["tags"]["mlflow.project.entryPoint"] == "main"
    assert "did you mean 'alpha'?" in gml("rerun", "first", "--set", "alhpa=1", code=4).err
    assert gml("rerun", "first", "--json").json["verdict"] == "reproduced"


# --- docker is rendered -----------------------------------------------------------------------


def test_a_docker_project_is_rendered(repo, gml):
    repo.commit("project", MLproject=textwrap.dedent("""
        docker_env:
          image: team/image:1
          volumes: ["/data:/data"]
          environment: ["TOKEN", ["MODE", "fast"]]
        entry_points: {main: {parameters: {a: float}, command: "python t.py {a}"}}
    """))  # fmt: skip
    words = gml("run", ".", "-P", "a=1", "-A", "gpus=all", "--dry-run", TOKEN="x").out.split()
    assert words[:3] == ["docker", "run", "--rm"]
    assert words[-4:] == ["team/image:1", "python", "t.py", "1"]
    for wanted in ("/data:/data", "TOKEN=x", "MODE=fast", "--gpus", f"{repo.path}:/gml/projects/code"):
        assert wanted in words
    assert gml("run", ".", "-P", "a=1", "--env-manager", "uv", code=2)


def test_a_container_engine_gets_the_rendered_command(repo, gml, tmp_path, monkeypatch):
    engine = tmp_path / "bin/docker"
    engine.parent.mkdir()
    engine.write_text('#!/bin/sh\necho "engine $@"\n')
    engine.chmod(0o755)
    repo.commit(
        "project", MLproject="docker_env: {image: img}\nentry_points: {main: {command: python t.py}}\n"
    )
    monkeypatch.setenv("PATH", f"{engine.parent}:{os.environ['PATH']}")
    done = gml("run", ".")
    assert done.out.startswith("engine run --rm")
    assert latest(gml)["tags"]["mlflow.project.env"] == "docker"


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("python_env: a\nconda_env: b\n", "multiple environment fields"),
        ("python_env: nowhere.yaml\n", "does not exist"),
        ("python_env: ../outside.yaml\n", "leads out of the project"),
        ("python_env: [a]\n", "name of a file"),
        ("docker_env: {volumes: []}\n", "needs an image"),
        ("docker_env: {image: --privileged}\n", "start with a dash"),
        ("docker_env: {image: a, environment: [[a, b, c]]}\n", "pairs"),
        ("entry_point: {}\n", "did you mean 'entry_points'?"),
        ("entry_points: [main]\n", "mapping of names"),
        ("entry_points: {main: python t.py}\n", "mapping with a command"),
        ("entry_points: {main: {}}\n", "needs a command"),
        ("entry_points: {main: {command: a, paramters: {}}}\n", "did you mean 'parameters'?"),
        ("entry_points: {main: {command: a, parameters: [b]}}\n", "mapping of names"),
        ("entry_points: {main: {command: a, parameters: {x: {type: matrix}}}}\n", "has the type 'matrix'"),
        ("entry_points: {main: {command: a, parameters: {x: {default: [1]}}}}\n", "single value"),
        ("a: &x [1]\nb: *x\n", "aliases are not allowed"),
        ("name: a\nname: b\n", "'name' is given twice"),
        ("name: [\n", "not YAML"),
        ("- a\n", "a mapping was expected"),
        ("name: !!python/object/apply:os.system ['touch PWN']\n", "not YAML"),
        ("name: " + "[" * 5000 + "\n", "not YAML"),
    ],
)
def test_malformed_projects_are_refused_in_one_line(tmp_path, text, said):
    (tmp_path / "MLproject").write_text(text)
    with pytest.raises(GmlError) as caught:
        load_project(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_before_it_is_unfolded(tmp_path):
    lines = ['a0: &a0 "lol"'] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    (tmp_path / "MLproject").write_text("\n".join(lines))
    with pytest.raises(GmlError, match="aliases are not allowed"):
        load_project(tmp_path)
    (tmp_path / "MLproject").write_text("a: " + "x" * (2 << 20))
    with pytest.raises(GmlError, match="larger than"):
        load_project(tmp_path)


def test_an_environment_file_that_is_a_link_out_is_refused(tmp_path):
    (tmp_path / "secret.yaml").write_text("python: '3.11'")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "env.yaml").symlink_to(tmp_path / "secret.yaml")
    (folder / "MLproject").write_text("python_env: env.yaml\n")
    with pytest.raises(GmlError, match="leads out"):
        load_project(folder)


def test_unknown_keys_are_named_and_names_are_matched_in_any_case(tmp_path, caplog):
    (tmp_path / "mlPROJECT").write_text("entry_points: {main: {command: a}}\nx-team: {}\n")
    assert list(load_project(tmp_path).entry_points) == ["main"]
    assert "'x-team' is not known" in caplog.text


def test_a_folder_without_a_file_is_a_project(tmp_path):
    assert load_project(tmp_path).env_kind == "none"
    (tmp_path / "conda.yaml").write_text("dependencies: []\n")
    assert load_project(tmp_path).env_kind == "conda"
    (tmp_path / "python_env.yaml").write_text("python: '3.11'\n")
    assert load_project(tmp_path).env_kind == "python"
