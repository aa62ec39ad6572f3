"""Entry points on a scheduler: Slurm's commands played by scripts, and Slurm itself where it runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from gml.domain.errors import InvalidValueError, NotFoundError, RemoteError
from gml.projects.backends.port import Task, backend_named
from gml.projects.backends.slurm import SlurmBackend
from gml.testing.backends import BackendConformance

SBATCH = r"""#!/bin/bash
printf '%s\n' "$@" > "$SLURM_HOME/asked"
for word in "$@"; do
    case "$word" in
        --output=*) output=${word#--output=}; output=${output//%%/%} ;;
        --chdir=*) cd "${word#--chdir=}" || exit 1 ;;
        --partition=closed) echo "sbatch: error: invalid partition specified: closed" >&2; exit 1 ;;
    esac
done
file=$(mktemp "$SLURM_HOME/script-XXXXXX")
cat > "$file"
SLURM_JOB_ID=1 setsid bash "$file" > "$output" 2>&1 < /dev/null &
echo "$!;cluster"
"""
SQUEUE = r"""#!/bin/bash
for word in "$@"; do case "$word" in --jobs=*) job=${word#--jobs=} ;; esac; done
if [ "$(ps -o stat= -p "$job" | cut -c1)" ] && [ "$(ps -o stat= -p "$job" | cut -c1)" != Z ]; then echo RUNNING
else echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; fi
"""
SCANCEL = "#!/bin/bash\nkill -- -$1\n"


@pytest.fixture
def environ(tmp_path):
    """Environment variables with scripts that answer as Slurm's commands do."""
    place = tmp_path / "slurm"
    place.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", SCANCEL)):
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    return {"PATH": f"{place}:{os.environ['PATH']}", "SLURM_HOME": str(place)}


class TestPlayed(BackendConformance):
    @pytest.fixture
    def backend(self, environ):
        return SlurmBackend({**os.environ, **environ})


@pytest.mark.heavy
class TestSlurm(BackendConformance):
    @pytest.fixture
    def backend(self):
        if (
            shutil.which("sinfo") is None
            or subprocess.run(["sinfo"], capture_output=True, check=False).returncode
        ):
            pytest.skip("no Slurm runs here")
        return SlurmBackend(os.environ)


@pytest.fixture
def project(repo):
    repo.commit(
        "project",
        MLproject="entry_points:\n  main:\n    parameters: {lr: float}\n    command: 'python fit.py {lr}'\n",
        **{
            "fit.py": "import sys, gml\ngml.log_metric('loss', float(sys.argv[1]))\nsys.exit(sys.argv[1] == '9')\n"
        },
    )
    return repo


def test_a_submitted_entry_point_becomes_the_run_that_was_announced(project, gml, environ):
    options = json.dumps({"partition": "gpu", "time": 5, "exclusive": True, "requeue": False})
    done = gml("run", ".", "-P", "lr=0.5", "-n", "on slurm", "-t", "team=risk", "--backend", "slurm",
               "--backend-config", options, "--wait", **environ)  # fmt: skip
    run = gml("show", "@", "--json").json
    assert f"run {run['run_id'][-8:]} is job" in done.err
    assert (run["name"], run["status"], run["params"]["lr"], run["metrics"]) == (
        "on slurm",
        "FINISHED",
        "0.5",
        {"loss": 0.5},
    )
    assert run["tags"]["mlflow.project.backend"] == "slurm"
    assert run["tags"]["team"] == "risk"
    asked = open(f"{environ['SLURM_HOME']}/asked").read().splitlines()  # noqa: SIM115, PTH123
    assert {"--partition=gpu", "--time=5", "--exclusive", "--job-name=on slurm"} <= set(asked)
    assert not any("requeue" in word for word in asked)
    assert gml("run", ".", "-P", "lr=9", "--backend", "slurm", "--wait", code=1, **environ)
    assert gml("show", "@", "--json").json["status"] == "FAILED"


def test_setup_is_shell_and_what_never_became_a_run_is_said(project, gml, environ, tmp_path):
    config = tmp_path / "slurm.yaml"
    config.write_text("setup:\n  - export GML_EXPERIMENT=cluster\n")
    gml("run", ".", "-P", "lr=1", "--backend", "slurm", "--backend-config", str(config), "--wait", **environ)
    assert gml("show", "@", "--json").json["experiment"] == "cluster"
    config.write_text("setup: echo no modules here; exit 7\n")
    done = gml(
        "run",
        ".",
        "-P",
        "lr=1",
        "--backend",
        "slurm",
        "--backend-config",
        str(config),
        "--wait",
        code=4,
        **environ,
    )
    assert "ended without becoming run" in done.err
    assert "no modules here" in done.err


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["--backend", "slrum"], 4, "there is no backend 'slrum'; there are: local, slurm"),
        (["--backend", "slurm", "-P", "lr=x"], 7, "lr is a float, not 'x'"),
        (["--backend", "slurm", "--backend-config", '{"partition": "closed"}'], 12, "sbatch refused: sbatch: error: invalid partition"),
        (["--backend", "slurm", "--backend-config", '{"output": "x"}'], 7, "'output' is no option that can be given to sbatch"),
        (["--backend", "slurm", "--backend-config", '{"-x": 1}'], 7, "'-x' is no option"),
        (["--backend", "slurm", "--backend-config", '{"gres": ["gpu"]}'], 7, "'gres' of sbatch is a text or number"),
        (["--backend", "slurm", "--backend-config", "nothing.yaml"], 4, "there is no file 'nothing.yaml'"),
        (["--backend", "slurm", "--backend-config", "{"], 2, "is no JSON"),
        (["--wait"], 2, "--backend-config and --wait go with --backend"),
    ],
)  # fmt: skip
def test_bad_input(project, gml, environ, args, code, told):
    given = args if "-P" in args else ["-P", "lr=1", *args]
    assert told in gml("run", ".", *given, code=code, **environ).err
    assert gml("ls", "--json").json == []


def test_without_slurm_its_commands_are_named(tmp_path):
    backend = backend_named("slurm", {"PATH": str(tmp_path)})
    with pytest.raises(NotFoundError, match="sbatch was not found"):
        backend.submit(Task("x", ["true"], tmp_path, tmp_path / "out"))
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho surprise\n")
    (tmp_path / "sbatch").chmod(0o755)
    with pytest.raises(RemoteError, match="instead of the number of a job"):
        backend.submit(Task("x", ["true"], tmp_path, tmp_path / "out"))
    with pytest.raises(InvalidValueError, match="no option"):
        backend.submit(Task("x", ["true"], tmp_path, tmp_path / "out", options={"wrap": "rm"}))
