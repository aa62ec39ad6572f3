from __future__ import annotations

import pytest
from hostile_pages import HOST, HOSTILE
from starlette.testclient import TestClient

from gml.ui.access import Sessions
from gml.ui.app import create_app


@pytest.fixture(scope="module")
def runs_repo(tmp_path_factory, request):
    """Return a repository with some ordinary runs and one whose every text is hostile; not to be changed."""
    import subprocess

    from support import IDENTITY, Repo

    repo = Repo(tmp_path_factory.mktemp("ui") / "demo")
    environ = {"HOME": str(tmp_path_factory.mktemp("home")), "GIT_CONFIG_GLOBAL": "/dev/null"}
    repo.environ |= environ
    subprocess.run(["git", *IDENTITY, "init", "-q", "-b", "main", str(repo.path)], check=True)
    repo.commit("first model", **{"train.py": "print('training')\n"})
    repo.file("train.py", f"print('training')  # {HOSTILE[0]}\n")
    repo.file("page.html", f"<h1>hello</h1>{HOSTILE[0]}<script>parent.document.title = 'pwned'</script>")
    repo.file(
        "picture.svg", f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{HOSTILE[0]}</svg>'
    )
    repo.file("table.csv", f"a,b\n1,{HOSTILE[0]}\n")
    repo.file("tree.json", '{"a": [1, {"b": "</script><script>window.pwned = 1</script>"}]}')
    repo.python(
        """
import gml, sys
gml.set_experiment("churn")
for lr in (0.1, 0.3, 0.8):
    for depth in (2, 3):
        with gml.start_run(run_name=f"m-{lr}-{depth}"):
            gml.log_params({"lr": lr, "depth": depth, "same": 1})
            for step in range(60):
                gml.log_metrics({"loss": 1 / (step * lr + 1), "auc": 1 - 1 / (step * lr + 2)}, step=step)
            gml.log_text(f"weights {lr} {depth}", "model/weights.txt")
            gml.log_metric("odd", float("nan"), step=1)
            gml.log_metric("odd", float("-inf"), step=-5)
hostile = sys.argv[1:]
with gml.start_run(run_name=hostile[0], description=hostile[1]):
    for n, text in enumerate(hostile):
        gml.log_param(f"p{n}", text)
        gml.set_tag(f"t{n}", text)
    gml.log_metric("loss", 2.0)
    gml.log_metric("loss", float("nan"), step=1)
    for name in ("page.html", "picture.svg", "table.csv", "tree.json"):
        gml.log_artifact(name)
    gml.log_text(hostile[0], "notes & <b>more<_b>.txt")
    gml.log_text("x", "data.bin")
    gml.log_input("table.csv", context=hostile[0], name=hostile[1])
gml.set_experiment("other " + hostile[1][:40])
with gml.start_run(run_name="elsewhere"):
    pass
""",
        *HOSTILE,
    )
    repo.python(
        """
from gml.cli.main import run
import sys
for arguments in (
    ["register", "churn", "--run", "m-0.1-2", "--path", "model", "-d", sys.argv[1]],
    ["promote", "churn", "1", "--to", "Production"],
    ["register", "churn", "--run", "m-0.8-3", "--path", "model"],
    ["describe", "churn", sys.argv[2]],
):
    assert run(["registry", *arguments]) == 0, arguments
""",
        HOSTILE[0],
        HOSTILE[1],
    )
    yield repo
    repo.fsck()


@pytest.fixture
def sessions():
    return Sessions()


@pytest.fixture
def site(runs_repo, sessions):
    """Return a client that may see everything."""
    app = create_app(runs_repo.workspace(), hosts=[HOST], sessions=sessions)
    headers = {"authorization": f"Bearer {sessions.token}"}
    return TestClient(app, base_url=f"http://{HOST}", headers=headers, follow_redirects=False)


@pytest.fixture
def run_ids(runs_repo):
    """Return run ids by name."""
    return {run.name: run.run_id for run in runs_repo.workspace().ledger.view().runs()}
