"""Each example is run as its README says; the runs are looked at through the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


class Example:
    """A copy of an example in a repository of its own."""

    def __init__(self, repo, name: str) -> None:
        self.folder = repo.path / name
        shutil.copytree(EXAMPLES / name, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        repo.commit("example")
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environ = repo.env(PATH=path, PYTHONWARNINGS="error", MPLBACKEND="agg")
        self.readme = (self.folder / "README.md").read_text()

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def follow_readme(self) -> list[str]:
        commands = re.findall(r"^\$ (.*)$", self.readme, re.MULTILINE)
        assert commands
        return [self.run(command) for command in commands]

    def ls(self, *args: str) -> list[dict]:
        return json.loads(self.run(" ".join(["gml ls --json", *args])))

    def show(self, run: str = "@") -> dict:
        return json.loads(self.run(f"gml show {run} --json"))


@pytest.fixture
def example(repo):
    return lambda name: Example(repo, name)


def needs(*modules: str):
    missing = [name for name in modules if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}, not installed here")


def test_every_example_is_listed_and_has_a_readme():
    listed = set(re.findall(r"\]\((\w+)/README\.md\)", (EXAMPLES / "README.md").read_text()))
    there = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert listed == there
    assert all((EXAMPLES / name / "README.md").is_file() for name in there)


@needs("sklearn", "matplotlib")
def test_sklearn_forest(example):
    forest = example("sklearn_forest")
    forest.follow_readme()
    runs = forest.ls("-x breast-cancer")
    assert [run["name"] for run in runs] == ["forest-6", "forest-3", "forest-1"]
    assert [run["params"]["max_depth"] for run in runs] == ["6", "3", "1"]
    assert all(run["status"] == "FINISHED" and run["metrics"]["auc"] > 0.9 for run in runs)
    assert len({run["artifact_digest"] for run in runs}) == 3
    shown = forest.show("forest-3")
    assert set(shown["artifacts"]) == {"importances.json", "model/model.joblib", "plots/roc.png"}
    assert [(data["name"], data["tags"]) for data in shown["inputs"]] == [
        ("breast-cancer", {"mlflow.data.context": "train"})
    ]
    assert "scikit-learn" in shown["environment"]["packages"]
    assert (forest.folder / "out/plots/roc.png").read_bytes().startswith(b"\x89PNG")
    importances = json.loads(forest.run("gml artifacts cat @ importances.json"))
    assert importances["columns"] == ["feature", "importance"]


@pytest.mark.heavy
@needs("sklearn", "skops")
def test_churn(example):
    churn = example("churn")
    *before, serve, curl = re.findall(r"^\$ (.*)$", churn.readme, re.MULTILINE)
    said = {command: churn.run(command) for command in before}
    runs = churn.ls("-x churn --sort -metrics.auc")
    assert len(runs) == 10
    version = json.loads(churn.run("gml registry show churn --json"))["versions"][0]
    assert version["run"] == runs[0]["run_id"]
    verified = next(text for command, text in said.items() if command.startswith("gml registry verify"))
    assert re.search(r"^requested +ada\napproved +bob$", verified, re.MULTILINE)
    predicted = (churn.folder / "leaving.csv").read_text().splitlines()
    assert (predicted[0], len(predicted)) == ("prediction", 301)
    assert set(predicted[1:]) == {"0", "1"}
    command = serve.replace("-p 5001 &", "-p 0").split()
    server = subprocess.Popen(command, cwd=churn.folder, env=churn.environ, stderr=subprocess.PIPE, text=True)
    try:
        port = re.search(r"ready on http://127.0.0.1:(\d+)", server.stderr.readline()).group(1)
        assert churn.run(curl.replace(":5001", f":{port}")) == '{"predictions":[1]}'
    finally:
        server.terminate()
        assert server.wait(30) in {0, -signal.SIGTERM}
        server.stderr.close()


def test_shell_script(example):
    script = example("shell_script")
    *_, log = script.follow_readme()
    (run,) = script.ls("-x shell")
    assert run["params"] == {"rounds": "4"}
    assert run["metrics"] == {"loss": 0.062, "error": 0.062, "rounds_done": 4.0}
    shown = script.show()
    assert shown["metric_summary"]["loss"]["count"] == 4
    assert shown["metric_summary"]["loss"]["step"] == 3
    assert set(shown["artifacts"]) == {"model.txt", "logs/stdout.txt"}
    assert shown["process"]["exit_code"] == 0
    assert log.splitlines()[0] == "epoch 0: loss=0.500"


def test_sweep(example):
    sweep = example("sweep")
    sweep.follow_readme()
    runs = sweep.ls("-x sweep")
    assert len(runs) == 25
    shown = sweep.show("sweep")
    assert len(shown["children"]) == 24
    assert shown["tags"]["best.depth"] == "4"
    assert shown["metrics"]["best_score"] == pytest.approx(1.0)
    commits = sweep.run("git rev-list --count refs/gml/ledger")
    assert int(commits) < 6


@pytest.mark.heavy
@needs("torch")
def test_pytorch_loop(example):
    loop = example("pytorch_loop")
    loop.follow_readme()
    (run,) = loop.ls("-x sine")
    shown = loop.show()
    assert shown["status"] == "FINISHED"
    assert run["params"] == {"lr": "0.01", "hidden": "32"}
    assert shown["metric_summary"]["loss"]["count"] == 4 * 8
    assert shown["metric_summary"]["loss"]["step"] == 31
    assert set(shown["artifacts"]) == {"checkpoint.pt"}


@pytest.mark.heavy
@needs("nbclient", "ipykernel")
def test_notebook(example):
    notebook = example("notebook")
    import nbformat
    from nbclient import NotebookClient

    document = nbformat.read(notebook.folder / "explore.ipynb", as_version=4)
    client = NotebookClient(document, timeout=90, resources={"metadata": {"path": str(notebook.folder)}})
    client.execute(env=notebook.environ)
    runs = notebook.ls("-x notebook")
    assert [run["name"] for run in runs] == ["degree-5", "degree-3", "degree-1"]
    assert all(run["source"]["type"] == "NOTEBOOK" for run in runs)
    assert "noisy sine" in str(notebook.show()["inputs"])
