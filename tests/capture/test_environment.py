import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from gml.tracking.capture import hardware, interpreter
from gml.tracking.capture.environment import LOCK_FILES, VARIABLES, capture_environment, lock_file
from gml.tracking.capture.interpreter import interpreter_of, probe, same_interpreter
from gml.tracking.capture.packages import installed_packages, normalised_name, packages_digest

NO_GPU = {"PATH": "/nowhere"}


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_sections(tmp_path):
    found = capture_environment(NO_GPU, tmp_path)
    assert list(found) == [
        "python",
        "platform",
        "host",
        "cpu",
        "memory_bytes",
        "gpus",
        "cuda",
        "packages",
        "packages_digest",
        "lock",
        "container",
        "scheduler",
        "variables",
    ]
    json.dumps(found, allow_nan=False).encode()
    assert found["python"]["version"] == platform.python_version()
    assert found["python"]["executable"] == sys.executable
    assert found["platform"]["system"] == platform.system()
    assert found["host"] == platform.node()
    assert found["cpu"]["count"] >= found["cpu"]["available"] >= 1
    assert found["memory_bytes"] > 10**8
    assert (found["gpus"], found["cuda"], found["lock"], found["scheduler"]) == ([], None, None, None)
    assert found["packages"]["gitml"]
    assert "error" not in json.dumps(found).replace("error-", "")


def test_packages_are_those_of_importlib_metadata():
    expected = {}
    for distribution in importlib.metadata.distributions():
        expected.setdefault(normalised_name(distribution.metadata["Name"]), distribution.version)
    found = installed_packages(sys.path)
    assert found == expected
    assert list(found) == sorted(found)


def test_packages_of_all_shapes(tmp_path):
    def metadata(place, name, version):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: not this\n")

    first, second = tmp_path / "first", tmp_path / "second"
    metadata(first / "Big_Name.x-1.0+cu121.dist-info" / "METADATA", "Big_Name.x", "1.0+cu121")
    metadata(first / "odd-1.0_1.dist-info" / "METADATA", "odd", "1.0-1")
    metadata(first / "old-2.0-py3.11.egg-info" / "PKG-INFO", "old", "2.0")
    metadata(first / "older-3.0-py2.7.egg-info", "older", "3.0")
    metadata(first / "linked.egg-info" / "PKG-INFO", "linked", "0.1")
    (first / "~ip-23.0.dist-info").mkdir()
    (first / "gone-1.0.dist-info").mkdir()
    metadata(second / "old-9.dist-info" / "METADATA", "old", "9")
    egg = second / "zipped-4.0.egg"
    metadata(egg / "EGG-INFO" / "PKG-INFO", "zipped", "4.0")
    (tmp_path / "x.zip").write_bytes(b"no zip")
    path = [str(first), str(second), str(egg), str(tmp_path / "absent"), str(tmp_path / "x.zip")]
    assert installed_packages(path) == {
        "big-name-x": "1.0+cu121",
        "linked": "0.1",
        "odd": "1.0-1",
        "old": "2.0",
        "older": "3.0",
        "zipped": "4.0",
    }


def test_packages_digest_is_plain_sha256():
    assert packages_digest({"b": "2", "a": "1"}) == hashlib.sha256(b"a==1\nb==2\n").hexdigest()


def test_only_allowed_variables(tmp_path):
    environ = {
        **NO_GPU,
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "RANK": "x" * 5000,
    }
    found = capture_environment(environ, tmp_path)
    assert list(found["variables"]) == ["CUDA_VISIBLE_DEVICES", "RANK"]
    assert len(found["variables"]["RANK"]) == 1000
    assert "hunter2" not in json.dumps(found)
    words = ("TOKEN", "SECRET", "PASS", "CREDENTIAL", "API_KEY")
    assert not [name for name in VARIABLES if any(word in name.replace("TOKENIZERS", "") for word in words)]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_JWT": "x"},
            {"name": "slurm", "job_id": "7", "step_id": "0"},
        ),
        ({"LSB_JOBID": "8", "LSB_JOBINDEX": "2"}, {"name": "lsf", "job_id": "8", "array_task_id": "2"}),
        ({"PBS_JOBID": "9.head"}, {"name": "pbs", "job_id": "9.head"}),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "pod-1"},
            {"name": "kubernetes", "pod": "pod-1"},
        ),
    ],
)
def test_scheduler(tmp_path, environ, expected):
    found = capture_environment({**NO_GPU, **environ}, tmp_path)
    assert found["scheduler"] == expected
    if "KUBERNETES_SERVICE_HOST" in environ:
        assert found["container"] == "kubernetes"


def test_container_of_apptainer(tmp_path):
    assert (
        capture_environment({**NO_GPU, "APPTAINER_CONTAINER": "x.sif"}, tmp_path)["container"] == "apptainer"
    )


def test_lock_file(tmp_path):
    (tmp_path / "uv.lock").write_text("above the repository")
    top = tmp_path / "repo"
    deep = top / "a" / "b"
    deep.mkdir(parents=True)
    assert lock_file(deep) is None, "no repository: only the folder itself"
    (top / ".git").mkdir()
    assert lock_file(deep) is None, "never above the repository"
    (top / "requirements.txt").write_bytes(b"x")
    (top / "poetry.lock").write_bytes(b"y")
    assert lock_file(deep) == {"file": "poetry.lock", "sha256": hashlib.sha256(b"y").hexdigest()}
    (top / "a" / "requirements.txt").write_bytes(b"z")
    assert lock_file(deep) == {"file": "a/requirements.txt", "sha256": hashlib.sha256(b"z").hexdigest()}
    assert LOCK_FILES[0] == "uv.lock"


def test_nvidia_smi(tmp_path):
    script(
        tmp_path / "nvidia-smi",
        '#!/bin/sh\nif [ $# = 0 ]; then echo "| Driver Version: 550.1  CUDA Version: 12.4 |"; else\n'
        'echo "NVIDIA A100, SXM4, 40960, 550.1"; fi\n',
    )
    assert hardware.gpus({"PATH": str(tmp_path)}) == {
        "gpus": [{"name": "NVIDIA A100, SXM4", "memory_bytes": 40 << 30, "driver": "550.1"}],
        "cuda": "12.4",
    }


def test_failing_parts_are_reported_and_do_not_spread(tmp_path, monkeypatch):
    def fail(_name):
        raise ValueError("no")

    script(tmp_path / "nvidia-smi", '#!/bin/sh\necho "Failed to initialize NVML"; exit 9\n')
    monkeypatch.setattr(os, "sysconf", fail)
    found = capture_environment({"PATH": str(tmp_path)}, tmp_path)
    assert found["gpus"] == {"error": "ValueError: nvidia-smi failed: Failed to initialize NVML"}
    assert found["memory_bytes"] == {"error": "ValueError: no"}
    assert found["cuda"] is None
    assert found["packages"]["gitml"]


def test_hanging_nvidia_smi_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_SMI_SECONDS", 0.01)
    script(tmp_path / "nvidia-smi", "#!/bin/sh\nread line < /dev/zero\n")
    assert "TimeoutExpired" in capture_environment({"PATH": str(tmp_path)}, tmp_path)["gpus"]["error"]


def test_cpu_model(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Fast One\n")
    assert hardware._cpu_model(info) == "Fast One"
    info.write_text("processor\t: 0\n")
    assert hardware._cpu_model(info) is None


# Other interpreters


def test_interpreter_of(tmp_path):
    bin_dir = tmp_path / "bin"
    python = script(bin_dir / "python3.12", "#!/bin/sh\n")
    script(bin_dir / "trainer", f"#!{python}\n")
    script(bin_dir / "by-env", "#!/usr/bin/env -S python3.12 -u\n")
    script(bin_dir / "long", f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n")
    script(bin_dir / "shell", "#!/bin/bash\n")
    script(bin_dir / "torchrun", f"#!{python}\n")
    (bin_dir / "binary").write_bytes(b"\x7fELF\xff")
    (bin_dir / "binary").chmod(0o755)
    environ = {"PATH": str(bin_dir)}

    def of(line, **kwargs):
        return interpreter_of(line.split(), environ, **kwargs)

    for line in [
        "python3.12 train.py",
        f"{python} train.py",
        "env A=1 mpirun -n 2 python3.12 train.py",
        "trainer --lr 1",
        "by-env",
        "long",
        "torchrun --nproc 2 train.py",
    ]:
        assert of(line) == python, line
    assert of("./bin/python3.12 x", cwd=tmp_path) == python
    for line in [
        "uv run python3.12 x",
        "poetry run trainer",
        "shell",
        "binary",
        "python3.13 x",
        "bash x",
        "env",
        "./no",
    ]:
        assert of(line) is None, line
    assert interpreter_of([], environ) is None
    assert interpreter_of(["env", f"PATH={bin_dir}", "python3.12"], {}) == python


def test_a_virtual_environment_is_not_its_base(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    assert not same_interpreter(python, sys.executable)
    assert same_interpreter(python, str(tmp_path / "venv" / "bin" / "python3"))
    site = next((tmp_path / "venv" / "lib").glob("python*")) / "site-packages"
    (site / "only_here-1.5.dist-info").mkdir()
    (site / "only_here-1.5.dist-info" / "METADATA").write_text("Name: only-here\nVersion: 1.5\n")
    cache = tmp_path / "cache"
    found = capture_environment(NO_GPU, tmp_path, python=python, cache_dir=cache)
    assert found["packages"] == {"only-here": "1.5"}
    assert found["python"]["executable"] == python
    assert found["python"]["version"] == platform.python_version()
    assert len(list(cache.iterdir())) == 1
    # The answer is kept, the list of packages is not.
    (site / "only_here-1.5.dist-info").rename(site / "only_here-1.6.dist-info")
    found = capture_environment(NO_GPU, tmp_path, python=python, cache_dir=cache)
    assert found["packages"] == {"only-here": "1.6"}


def test_own_interpreter_is_not_started(tmp_path, monkeypatch):
    monkeypatch.setattr(interpreter, "_ask", lambda *_: pytest.fail("started"))
    assert capture_environment(NO_GPU, tmp_path, python=sys.executable)["packages"]["gitml"]


def test_probe_is_asked_once(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = probe(sys.executable, NO_GPU, cache)
    (kept,) = cache.iterdir()
    monkeypatch.setattr(interpreter, "_ask", lambda *_: pytest.fail("asked again"))
    assert probe(sys.executable, NO_GPU, cache) == first
    found = probe(sys.executable, {**NO_GPU, "PYTHONPATH": "/mine"}, cache)
    assert found["path"][0] == "/mine"
    monkeypatch.undo()
    for torn in ("", "{", "[]", '{"path": [1]}'):
        kept.write_text(torn)
        assert probe(sys.executable, NO_GPU, cache)["version"] == platform.python_version()


def test_cache_that_cannot_be_written_does_not_matter(tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert probe(sys.executable, NO_GPU, tmp_path / "cache")["prefix"] == sys.prefix


def test_shim_is_not_cached(tmp_path):
    shim = script(tmp_path / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    assert probe(shim, NO_GPU, tmp_path / "cache")["executable"] == sys.executable
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#!/bin/sh\necho Unknown option: -I >&2; exit 2\n", "Unknown option"),
        ("#!/bin/sh\necho hello\n", "Error"),
        ("#!/bin/sh\necho '{}'\n", "did not answer"),
        ("#!/nowhere/at/all\n", "FileNotFoundError"),
        ("#!/bin/sh\nread line < /dev/zero\n", "TimeoutExpired"),
    ],
)
def test_interpreter_that_fails_is_reported(tmp_path, monkeypatch, text, words):
    if "TimeoutExpired" in words:
        monkeypatch.setattr(interpreter, "_SECONDS", 0.01)
    found = capture_environment(NO_GPU, tmp_path, python=script(tmp_path / "python", text))
    assert words in found["python"]["error"]
    assert found["packages"] == found["python"]
    assert found["packages_digest"] is None
    assert found["host"] == platform.node()


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from gml.tracking.capture import environment, argv, files, patterns, system;"
        "print(sorted({'numpy', 'pandas', 'psutil', 'fsspec', 'yaml', 'pynvml'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path("/")
    )
    assert said.stdout == "[]\n"
