"""`gml log`: what passes through, what is kept."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PYTHON = sys.executable


def test_a_command_becomes_a_run_with_its_arguments_code_and_output(gml, repo):
    repo.file("train.py", "import sys\nprint('out', sys.argv[1:])\nprint('err', file=sys.stderr)\n")
    done = gml("log", "-x", "churn", "-n", "forest", "-p", "data=v3", "-t", "team=risk", "-m", "first",
               "--", "python", "train.py", "--lr", "0.1", "depth=3")  # fmt: skip
    assert done.out == "out ['--lr', '0.1', 'depth=3']\n"
    assert done.err.startswith("err\ngml: run ")
    run = gml("show", "@", "--json").json
    assert run["name"] == "forest"
    assert run["experiment"] == "churn"
    assert run["status"] == "FINISHED"
    assert run["params"] == {"data": "v3", "lr": "0.1", "depth": "3"}
    assert run["tags"] == {"team": "risk", "mlflow.note.content": "first"}
    assert run["source"]["commit"] == repo.git("rev-parse", "HEAD")
    assert run["source"]["branch"] == "main"
    assert run["source"]["dirty"] is True
    assert run["source"]["changed"] == ["train.py"]
    assert run["environment"]["python"]["version"]
    assert run["environment"]["packages"]["click"]
    assert run["process"]["exit_code"] == 0
    assert run["process"]["max_memory_bytes"] > 1_000_000
    assert set(run["artifacts"]) == {"logs/stdout.txt", "logs/stderr.txt"}
    assert gml("artifacts", "cat", "@", "logs/stderr.txt").out == "err\n"
    assert repo.git("show", f"{run['source']['snapshot']}:train.py").startswith("import sys")


def test_secrets_in_arguments_are_masked_everywhere(gml, repo):
    gml("log", "--", "true", "--api-key", "abc123", "--password=hunter2", "pg://me:sesame@host/db")
    run = gml("show", "--json").json
    assert run["params"]["api-key"] == "***"
    assert run["source"]["argv"] == ["true", "--api-key", "***", "--password=***", "pg://***@host/db"]
    gml("rm", "@")
    record = repo.git("log", "-p", "refs/gml/ledger", "--", "runs")
    assert not any(secret in record for secret in ("abc123", "hunter2", "sesame"))


def test_its_own_arguments_are_not_taken_when_told_so(gml):
    gml("log", "--no-argv-params", "--", "python", "-c", "pass", "--lr", "0.1")
    assert gml("show", "--json").json["params"] == {}


@pytest.mark.parametrize(("code", "status"), [(0, "FINISHED"), (1, "FAILED"), (42, "FAILED")])
def test_the_exit_code_passes_through(gml, code, status):
    gml("log", "--", "bash", "-c", f"exit {code}", code=code)
    run = gml("show", "--json").json
    assert (run["status"], run["process"]["exit_code"]) == (status, code)


def test_a_command_killed_by_a_signal_gives_the_shells_code(gml):
    gml("log", "--", "bash", "-c", "kill -SEGV $$", code=128 + signal.SIGSEGV)
    assert gml("show", "--json").json["status"] == "FAILED"
    gml("log", "--", "bash", "-c", "kill -KILL $$", code=128 + signal.SIGKILL)
    run = gml("show", "--json").json
    assert (run["status"], run["process"]["signal"]) == ("KILLED", "SIGKILL")


def test_the_script_logs_into_the_same_run(gml, repo):
    repo.file(
        "train.py",
        "import gml\nfor i in range(300): gml.log_metric('loss', 1/(i+1), step=i)\n"
        "gml.log_param('b', 2)\ngml.log_text('hi', 'a.txt')\n",
    )
    repo.file("explicit.py", "import gml as mlflow\nwith mlflow.start_run(): mlflow.log_metric('loss', 1)\n")
    gml("log", "-p", "a=1", "--", "python", "train.py")
    run = gml("show", "--json").json
    assert run["params"] == {"a": "1", "b": "2"}
    assert run["metric_summary"]["loss"]["count"] == 300
    assert run["metrics"]["loss"] == pytest.approx(1 / 300)
    assert "a.txt" in run["artifacts"]
    gml("log", "-n", "second", "--", "python", "explicit.py")
    assert gml("show", "second", "--json").json["metrics"] == {"loss": 1.0}
    assert len(gml("ls", "--json").json) == 2


def test_further_runs_of_the_script_are_children(gml, repo):
    repo.file("sweep.py", "import gml\nwith gml.start_run(): gml.log_param('first', 1)\n"
              "for i in range(2):\n  with gml.start_run(): gml.log_param('i', i)\n")  # fmt: skip
    gml("log", "-n", "sweep", "--", "python", "sweep.py")
    parent = gml("show", "sweep", "--json").json
    assert parent["params"] == {"first": "1"}
    assert len(parent["children"]) == 2


def test_the_run_moves_to_the_experiment_that_the_script_chooses(gml, repo):
    repo.file(
        "train.py",
        "import gml as mlflow\nmlflow.set_experiment('iris')\n"
        "for n in (5, 50):\n  with mlflow.start_run(run_name=f'rf{n}'): mlflow.log_param('n', n)\n",
    )
    gml("log", "--", "python", "train.py")
    assert {r["name"]: r["experiment"] for r in gml("ls", "--json").json} == {"rf5": "iris", "rf50": "iris"}
    assert len(gml("ls", "-x", "iris", "--json").json) == 2
    done = gml("log", "-x", "mine", "--", "python", "train.py")
    assert "stays in experiment 'mine'" in done.err
    assert gml("ls", "-x", "mine", "--json").json[0]["name"] == "rf5"


def test_artifacts_outside_the_directory_keep_apart(gml, repo):
    repo.file("a/m.bin", "a")
    repo.file("b/m.bin", "b")
    (repo.path / "work").mkdir()
    gml("log", "-a", "../a/m.bin", "-a", "../b/m.bin", "--", "true", cwd=repo.path / "work")
    assert {"a/m.bin", "b/m.bin"} <= set(gml("show", "--json").json["artifacts"])
    gml("log", "-a", repo.path / "a/m.bin", "-a", repo.path / "b/m.bin", "--", "true")
    assert {"m.bin", "b/m.bin"} <= set(gml("show", "--json").json["artifacts"])


def test_metrics_params_and_artifacts_come_from_files(gml, repo):
    repo.file("stale/metrics.json", '{"old": 1}')
    repo.file("job.sh", 'echo \'{"auc": 0.9, "nested": {"f1": 0.5}}\' > metrics.json\n'
              'echo \'{"loss": 2, "step": 1}\' > curve.jsonl; echo \'{"loss": 1, "step": 2}\' >> curve.jsonl\n'
              "echo 'lr: 0.1' > params.yaml; mkdir -p out; echo x > out/model.bin\n")  # fmt: skip
    gml("log", "--metrics-file", "curve.jsonl", "-a", "out", "-a", "*.yaml", "--", "bash", "job.sh")
    run = gml("show", "--json").json
    assert run["metrics"] == {"auc": 0.9, "nested.f1": 0.5, "loss": 1.0}
    assert run["metric_summary"]["loss"]["count"] == 2
    assert run["params"] == {"lr": "0.1"}
    assert {"out/model.bin", "params.yaml"} <= set(run["artifacts"])


def test_files_that_the_command_did_not_touch_are_not_taken(gml, repo):
    repo.file("metrics.json", '{"old": 1}')
    gml("log", "--", "true")
    assert gml("show", "--json").json["metrics"] == {}


def test_system_use_is_sampled_when_asked_for(gml):
    gml("log", "--system", "0.05", "--", "python", "-c", "sum(range(10**7))")
    metrics = gml("show", "--json").json["metric_summary"]
    assert metrics["system/memory_bytes"]["max"] > 1_000_000
    assert metrics["system/cpu_percent"]["count"] >= 1


def test_a_running_command_is_committed_at_checkpoints(gml, start, repo):
    script = (
        "import gml, subprocess, time\ngml.log_metric('a', 1)\nend = time.monotonic() + 60\n"
        "args = ['git', 'rev-parse', '-q', '--verify', 'refs/gml/ledger']\n"
        "while subprocess.run(args, capture_output=True).returncode and time.monotonic() < end: pass\n"
        "gml.log_metric('a', 2, step=1)"
    )
    gml("log", "-n", "long", "--", "python", "-c", script, GML_CHECKPOINT="0.5")
    subjects = repo.git("log", "--format=%s", "refs/gml/ledger").split("\n")
    assert [subject.split()[-1] for subject in subjects][:1] == ["FINISHED"]
    assert "RUNNING" in [subject.split()[-1] for subject in subjects]
    run = gml("show", "long", "--json").json
    assert (run["metrics"], run["metric_summary"]["a"]["count"]) == ({"a": 2.0}, 2)


def test_metrics_come_from_the_output(gml):
    script = "for i in 1 2 3; do echo \"epoch $i: loss=0.$i\"; done; echo 'score is 0.75'"
    gml("log", "--capture", "auto", "--capture", r"score=score is ([\d.]+)", "--", "bash", "-c", script)
    run = gml("show", "--json").json
    assert run["metrics"] == {"loss": 0.3, "score": 0.75}
    assert run["metric_summary"]["loss"]["count"] == 3


def test_secrets_are_left_out_of_the_snapshot_and_named(gml, repo):
    repo.file(".env", "TOKEN=abc")
    repo.file("id_rsa", "key")
    repo.file("private/data.csv", "x")
    repo.file(".gmlignore", "private/\n")
    repo.file("new.py", "x = 1")
    gml("log", "--", "true")
    source = gml("show", "--json").json["source"]
    assert {".env", "id_rsa"} <= set(source["left_out"])
    files = repo.git("ls-tree", "-r", "--name-only", source["snapshot"]).split("\n")
    assert "new.py" in files
    assert not {".env", "id_rsa", "private/data.csv"} & set(files)
    assert "TOKEN" not in repo.git("log", "-p", "--all", "refs/gml/ledger")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_command_and_the_run_is_killed(gml, start, repo, number):
    script = "import signal, sys\nprint('ready', flush=True)\nsignal.pause()"
    child = start("log", "--", "python", "-c", script)
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(number)
    child.communicate(timeout=60)
    assert child.returncode in {130, 143, 1, 128 + number}
    assert gml("show", "--json").json["status"] == "KILLED"


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_a_signal_that_comes_before_the_command_waits_for_it(gml, start, repo, name):
    script = (
        "import signal, sys\nsignal.signal(signal.SIGUSR1, lambda *_: sys.exit(7))\n"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})\nsignal.pause()"
    )
    # A child inherits what is blocked: a warning reaches the script when it can take it.
    tracker = (
        "import os, signal, sys\nfrom gml.tracking.launch import command\nspawn = command._spawn\n"
        "def early(*args):\n"
        f"    os.kill(os.getpid(), signal.{name})\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
        "    return spawn(*args)\n"
        "command._spawn = early\nfrom gml.cli.main import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", tracker, "log", "--", sys.executable, "-c", script],
                          cwd=repo.path, env=repo.env(), capture_output=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == (7 if name == "SIGUSR1" else 143), done.stderr
    assert gml("show", "--json").json["status"] == ("FAILED" if name == "SIGUSR1" else "KILLED")


def test_a_killed_tracker_loses_neither_metrics_nor_output(gml, start):
    script = "import gml\ngml.log_metric('a', 1.5)\nprint('ready', flush=True)\nimport signal\nsignal.pause()"
    child = start("log", "-p", "x=1", "--", "python", "-c", script)
    assert child.stdout.readline() == b"ready\n"
    run_id = gml("ls", "--json").json[0]["run_id"]
    assert gml("show", "--json").json["status"] == "RUNNING"
    child.kill()
    child.communicate(timeout=60)
    # The command itself lives on and holds the run; it is asked to go.
    import psutil

    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get("GML_RUN_ID") == run_id:
            process.kill()
            process.wait(60)
    run = gml("show", "--json").json
    assert (run["run_id"], run["status"], run["metrics"], run["params"]) == (
        run_id,
        "KILLED",
        {"a": 1.5},
        {"x": "1"},
    )
    assert gml("artifacts", "cat", "@", "logs/stdout.txt").out == "ready\n"


def test_two_gigabytes_of_output_in_proportion_stay_bounded(gml, repo):
    script = "import sys\nfor i in range(3000): sys.stdout.write('x' * 9999 + '\\n')"
    done = gml("log", "--", "python", "-c", script)
    assert len(done.out) == 30_000_000
    kept = gml("show", "--json").json["artifacts"]["logs/stdout.txt"]["size"]
    assert 9_000_000 < kept < 11_000_000
    assert "bytes left out here]" in gml("artifacts", "cat", "@", "logs/stdout.txt").out


def test_a_script_that_closes_stdout_and_leaves_a_process_behind_ends_its_run(gml, repo):
    script = ("import os, sys, time\nprint('hello', flush=True)\nif os.fork() == 0:\n"
              "  os.setsid(); time.sleep(5); os._exit(0)\nos.close(1)\nos._exit(0)")  # fmt: skip
    done = gml("log", "--", "python", "-c", script)
    assert done.out == "hello\n"
    assert gml("show", "--json").json["status"] == "FINISHED"


def test_a_reader_that_leaves_does_not_stop_the_training(gml, start, repo):
    child = start("log", "--", "bash", "-c", "echo first; read -t 0.2; echo second; echo done > mark")
    child.stdout.readline()
    child.stdout.close()
    child.wait(timeout=60)
    child.stderr.close()
    assert (repo.path / "mark").exists()
    assert gml("artifacts", "cat", "@", "logs/stdout.txt").out == "first\nsecond\n"


def test_a_command_that_does_not_exist_is_not_recorded(gml, repo):
    done = gml("log", "--", "no-such-command", code=127)
    assert done.err == "gml: command 'no-such-command' was not found; check its name and PATH\n"
    repo.file("plain.txt", "x")
    done = gml("log", "--", "./plain.txt", code=126)
    assert done.err == "gml: cannot run ./plain.txt: not executable; chmod +x ./plain.txt\n"
    done = gml("log", "--", "train.py", code=127)
    assert "did you mean: python train.py" in done.err
    assert gml("ls", "--json").json == []


def test_artifacts_that_are_missing_are_named_and_do_not_change_the_exit_code(gml):
    done = gml("log", "-a", "nothing*", "--", "true")
    assert "gml: no file matches artifact 'nothing*'\n" in done.err


def test_the_environment_of_another_python_is_recorded(gml, repo, tmp_path):
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(tmp_path / "other")], check=True)
    gml("log", "--", tmp_path / "other" / "bin" / "python", "-c", "pass")
    environment = gml("show", "--json").json["environment"]
    assert environment["python"]["executable"] == str(tmp_path / "other" / "bin" / "python")
    assert "click" not in environment["packages"]


@pytest.fixture
def on_terminal(repo):
    """Return a function that runs `gml` on a pseudo-terminal and returns what appears on it."""

    def run(*args: str) -> str:
        leader, follower = pty.openpty()
        script = Path(sysconfig.get_path("scripts")) / "gml"
        child = subprocess.Popen(
            [script, *args], cwd=repo.path, env=repo.env(), stdin=follower, stdout=follower, stderr=follower
        )
        os.close(follower)
        said = b""
        with contextlib.suppress(OSError):
            while data := os.read(leader, 1000):
                said += data
        os.close(leader)
        assert child.wait(60) == 0, said
        return said.decode().replace("\r\n", "\n")

    return run


def test_a_terminal_is_a_terminal_for_the_command_too(on_terminal):
    said = on_terminal(
        "log", "-q", "--", PYTHON, "-c", "import sys; print(sys.stdout.isatty(), sys.stderr.isatty())"
    )
    assert said == "True True\n"


def test_on_a_terminal_the_lines_of_both_streams_keep_their_order(on_terminal, gml):
    lines = "for i in 1 2 3 4 5; do echo out$i; echo err$i >&2; done"
    said = on_terminal("log", "-q", "--", "bash", "-c", lines)
    assert said == "".join(f"out{i}\nerr{i}\n" for i in range(1, 6))
    assert gml("artifacts", "cat", "@", "logs/stdout.txt").out == said


def test_tables_on_a_terminal_fit_and_have_no_colour_when_told_so(on_terminal, gml, monkeypatch):
    gml("log", "-p", "lr=0.1", "--", "true")
    assert re.search(r"\x1b\[3\d", on_terminal("ls"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    said = on_terminal("ls")
    assert not re.search(r"\x1b\[3\d", said)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert all(len(line) <= 60 for line in plain.split("\n"))
