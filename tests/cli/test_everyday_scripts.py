"""What ordinary training scripts do under `gml log`: nothing of it may end the training, or say something wrong."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import argparse
import gml as mlflow

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--amp", action="store_true")
parser.add_argument("--layers", type=int, default=2)
args = parser.parse_args()
with mlflow.start_run(run_name="inside"):
    mlflow.log_params(vars(args))
"""


def latest(gml) -> dict:
    return gml("show", "@", "--json").json


@pytest.mark.parametrize(
    ("given", "params"),
    [
        (["--lr", "1"], {"lr": "1.0", "amp": "False", "layers": "2"}),
        (["--lr", "1e-3", "--amp"], {"lr": "0.001", "amp": "True", "layers": "2"}),
        (["--layers=03"], {"lr": "0.1", "amp": "False", "layers": "3"}),
    ],
)
def test_what_the_script_logs_goes_before_its_command_line(repo, gml, given, params):
    repo.file("t.py", SCRIPT)
    gml("log", "--", sys.executable, "t.py", *given)
    assert latest(gml)["params"] == params


def test_a_param_that_was_given_may_be_spelled_otherwise_but_not_changed(repo, gml):
    repo.file("t.py", SCRIPT)
    gml("log", "-p", "lr=1", "-p", "amp=true", "--", sys.executable, "t.py", "--lr", "1", "--amp")
    assert latest(gml)["params"] == {"lr": "1", "amp": "true", "layers": "2"}
    done = gml("log", "-p", "lr=2", "--", sys.executable, "-c",
               "import gml, gml.domain.errors as e\ntry: gml.log_param('lr', 3)\nexcept e.GmlError as error: print(error)")  # fmt: skip
    assert "param 'lr' is '2' in this run and cannot become '3'" in done.out


def test_the_name_that_was_given_stays_and_the_last_line_says_the_runs_name(repo, gml):
    repo.file("t.py", SCRIPT)
    assert " outer FINISHED" in gml("log", "-n", "outer", "--", sys.executable, "t.py").err
    assert latest(gml)["name"] == "outer"
    assert " inside FINISHED" in gml("log", "--", sys.executable, "t.py").err
    assert latest(gml)["name"] == "inside"


def test_a_process_that_outlives_its_run_adds_to_it_and_does_not_open_it(repo, gml):
    script = """
import os, sys
if os.fork() == 0:
    os.setsid()
    os.close(1), os.close(2)
    sys.stdin.close()
    while not os.path.exists("go"): pass
    import gml
    gml.log_metric("late", 1)
    open("logged", "w").close()
    os._exit(0)
"""
    gml("log", "-n", "left", "--", sys.executable, "-c", script)
    before = latest(gml)
    repo.file("go")
    end = time.monotonic() + 60
    while not (repo.path / "logged").exists():
        assert time.monotonic() < end
    after = latest(gml)
    assert (after["status"], after["end_time"]) == ("FINISHED", before["end_time"])
    assert after["metrics"] == {"late": 1.0}


def test_folders_leave_out_git_and_what_looks_like_a_secret(repo, gml):
    for name in ("out/a.txt", "out/.env", "out/deep/id_rsa", "out/sub/.git/config", "server.key"):
        repo.file(name, name)
    done = gml("log", "-q", "-a", ".", "-a", "*.key", "--", "true")
    assert "server.key" in done.err
    assert "out/.env, out/deep/id_rsa" in done.err
    assert list(artifacts(gml)) == ["out/a.txt", "train.py"]
    gml("log", "-q", "-a", "out/.env", "--", "true")
    assert list(artifacts(gml)) == ["out/.env"]
    script = "import gml\nwith gml.start_run(): gml.log_artifacts('.')"
    assert "look like secrets" in gml("log", "-q", "--", sys.executable, "-c", script).err
    assert list(artifacts(gml)) == ["out/a.txt", "train.py"]


def artifacts(gml):
    rows = gml("artifacts", "ls", "@").rows
    return [row["path"] for row in rows if not row["path"].startswith("logs/")]


def test_metrics_of_the_system_without_their_package_start_nothing(repo, gml, tmp_path):
    (tmp_path / "psutil.py").write_text("raise ImportError('no psutil here')\n")
    done = gml("log", "--system", "1", "--", "true", code=11, PYTHONPATH=str(tmp_path))
    assert "system metrics need the package psutil" in done.err
    assert gml("ls", "--json").json == []


# --- tables on a terminal -----------------------------------------------------------------------


def on_terminal(repo, width: int, *args: str) -> str:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        ["gml", *args], cwd=repo.path, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
        env=repo.env(COLUMNS=str(width), NO_COLOR="1", TERM="dumb",
                     PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
    )  # fmt: skip
    os.close(theirs)
    out = bytearray()
    try:
        while data := os.read(ours, 65536):
            out += data
    except OSError:
        pass
    os.close(ours)
    child.wait(60)
    return out.decode().replace("\r\n", "\n")


@pytest.fixture
def three(repo):
    repo.python(
        """
import gml
for n in range(3):
    with gml.start_run(run_name=f"a-rather-long-name-of-a-run-{n}"):
        gml.log_params({"model": ["forest", "boosting", "linear"][n], "rate": 0.1 / (n + 1)})
        gml.log_metric("steps_total", 1234567 + n)
        gml.log_metric("val_loss", 1.2345e-05 * (n + 1))
        for step in range(3):
            gml.log_metric("loss", 1 / (1 + n + step), step=step)
"""
    )
    return repo


@pytest.mark.parametrize("width", [50, 80, 100, 200])
def test_ids_and_numbers_are_whole_at_any_width(three, gml, width):
    shown = on_terminal(three, width, "ls")
    lines = shown.splitlines()
    heads = lines[0].split()
    for run, line in zip(gml("ls", "--json").json, lines[2:], strict=False):
        cells = line.split()
        assert cells[0] == run["run_id"][-8:]
        assert "FINISHED" in cells
        for key, value in run["metrics"].items():
            if key in heads:
                assert float(cells[len(cells) - (len(heads) - heads.index(key))]) == pytest.approx(
                    value, rel=1e-4
                )
    left = 5 - len({"model", "rate", "steps_total", "val_loss", "loss"} & set(heads))
    assert (f"no room for {left} column" in shown) == (left > 0)


def test_columns_are_fields_of_a_query(three, gml):
    wanted = "params.model,metrics.loss.min,metrics.loss@step=1,user,code.branch,experiment,metrics.`loss`"
    head, first, *_ = gml("ls", "--csv", "--columns", wanted).out.splitlines()
    assert head.split(",")[6:] == wanted.split(",")
    assert first.split(",")[6:] == [
        "linear",
        "0.2",
        "0.25",
        gml("ls", "--json").json[0]["user"],
        "main",
        "Default",
        "0.2",
    ]
    assert gml("ls", "--columns", "metrics.loss.max,duration").rows[0]["loss.max"] == "0.33333"
    assert "unknown attribute 'usr'" in gml("ls", "--columns", "usr", code=2).err


def test_a_single_run_shows_all_it_has(repo, gml):
    gml("log", "-q", "-p", "lr=1", "--", "true")
    assert gml("ls").rows[0]["lr"] == "1"


def test_a_wrong_query_is_pointed_at_on_a_terminal(three):
    shown = on_terminal(three, 100, "ls", "metrics.loss > 0 and statis = 'x'").splitlines()
    assert shown[1] == "  metrics.loss > 0 and statis = 'x'"
    assert shown[2].index("^") == shown[1].index("statis")


def test_a_progress_bar_is_lines(repo, gml):
    script = "for step in range(3): print(f'loss={1 / (1 + step)}', end='\\r', flush=True)"
    gml("log", "--capture", "auto", "--", sys.executable, "-c", script)
    assert gml("show", "@", "--json").json["metric_summary"]["loss"]["count"] == 3


def test_json_and_csv_are_one_or_the_other(repo, gml):
    assert "exclude each other" in gml("ls", "--json", "--csv", code=2).err
