"""Environments: built once for each content, whole or not at all, with uv and with pip."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from gml.domain.errors import GmlError, InvalidValueError, NotFoundError
from gml.projects.environments import build
from gml.projects.environments.build import MARK, build_at, cached_environment, choose_tool, find_python
from gml.projects.environments.spec import EnvSpec, expand, read_conda, read_python_env, spec_of_record


def make_wheel(folder, name="planted", version="1.0", requires=()):
    """A wheel by hand, so that no index is asked."""
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {line}\n" for line in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder)
    make_wheel(folder, "deep", "2.0", ["planted>=1"])
    return folder


@pytest.fixture
def environ(tmp_path, wheels):
    """Variables under which uv and pip find only the wheels made here."""
    return {
        **os.environ, "GML_CACHE_DIR": str(tmp_path / "cache"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels),
        "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(wheels), "UV_CACHE_DIR": str(tmp_path / "uv"),
    }  # fmt: skip


def version_in(path, package="planted"):
    done = subprocess.run(
        [path / "bin/python", "-c", f"import {package}; print({package}.VERSION)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("tool", ["uv", "venv"])
def test_an_environment_is_built_once_and_then_found(environ, tmp_path, tool, wheels):
    spec = EnvSpec(lines=("deep==2.0",))
    first = cached_environment(spec, environ, tool=tool)
    assert (first.cached, first.tool) == (False, tool)
    assert version_in(first.path) == "1.0"
    for wheel in wheels.iterdir():
        wheel.unlink()
    again = cached_environment(spec, environ, tool=tool, offline=True)
    assert (again.cached, again.path) == (True, first.path)


@pytest.mark.parametrize("tool", ["uv", "venv"])
def test_what_cannot_be_solved_says_why_and_leaves_nothing(environ, tmp_path, tool):
    spec = EnvSpec(lines=("planted==9",))
    with pytest.raises(GmlError) as caught:
        cached_environment(spec, environ, tool=tool)
    assert "planted" in str(caught.value)
    assert "--env-manager local" in str(caught.value)
    folder = tmp_path / "cache/environments"
    assert [path.name for path in folder.iterdir() if not path.name.endswith(".lock")] == []


def test_a_half_built_environment_is_built_again(environ):
    spec = EnvSpec()
    made = cached_environment(spec, environ, tool="uv")
    (made.path / MARK).unlink()
    (made.path / "rubbish").touch()
    assert cached_environment(spec, environ, tool="uv").cached is False
    assert not (made.path / "rubbish").exists()


def test_an_interrupted_build_leaves_nothing(environ, tmp_path, monkeypatch):
    def interrupt(*_args, **_more):
        (tmp_path / "target").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "_make", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_at(EnvSpec(), tmp_path / "target", environ, tool="uv")
    assert not (tmp_path / "target").exists()


def test_a_full_disk_is_called_by_its_name(environ, tmp_path, monkeypatch):
    script = tmp_path / "bin/uv"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho 'error: No space left on device (os error 28)' >&2\nexit 2\n")
    script.chmod(0o755)
    with pytest.raises(GmlError, match="no space left on the disk"):
        cached_environment(EnvSpec(), {**environ, "PATH": f"{script.parent}:{environ['PATH']}"}, tool="uv")


def test_several_who_want_the_same_build_it_once(environ):
    spec = EnvSpec(lines=("planted",))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: cached_environment(spec, environ, tool="uv"), range(4)))
    assert sorted(built.cached for built in found) == [False, True, True, True]


def test_a_folder_of_the_users_is_not_overwritten(environ, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    with pytest.raises(GmlError, match="is there already"):
        build_at(EnvSpec(), tmp_path / "mine", environ, tool="uv")
    assert (tmp_path / "mine/file").exists()


def test_the_tool_is_uv_where_it_is(environ, monkeypatch):
    assert choose_tool(None, environ) == "uv"
    assert choose_tool("virtualenv", environ) == "venv"
    monkeypatch.setattr(build, "_uv", lambda _environ: None)
    assert choose_tool(None, environ) == "venv"
    with pytest.raises(NotFoundError):
        choose_tool("uv", environ)


def test_a_python_of_another_minor_version_is_an_error():
    with pytest.raises(NotFoundError, match=r"no Python 3\.2\.1"):
        find_python("3.2.1", {"PATH": "/nowhere", "HOME": "/nowhere"})
    minor = ".".join(map(str, sys.version_info[:2]))
    assert find_python(f"{minor}.99", {"PATH": "/nowhere", "HOME": "/nowhere"})


# --- what is asked for ------------------------------------------------------------------------


def test_files_that_are_named_count_to_the_digest(tmp_path):
    (tmp_path / "python_env.yaml").write_text(
        "python: '3.11'\nbuild_dependencies: [pip]\ndependencies: [-r requirements.txt, a]\n"
    )
    (tmp_path / "requirements.txt").write_text("# comment\nnumpy==1 # why\n-r more.txt\n")
    (tmp_path / "more.txt").write_text("scipy\n")
    spec = read_python_env(tmp_path / "python_env.yaml")
    assert spec.lines == ("pip", "numpy==1", "scipy", "a")
    (tmp_path / "more.txt").write_text("scipy==2\n")
    assert read_python_env(tmp_path / "python_env.yaml").digest != spec.digest
    (tmp_path / "more.txt").write_text("-r requirements.txt\n")
    with pytest.raises(InvalidValueError, match="include each other"):
        read_python_env(tmp_path / "python_env.yaml")
    with pytest.raises(NotFoundError):
        expand(["-r nowhere.txt"], tmp_path)


def test_of_a_conda_file_the_pip_part_is_taken(tmp_path):
    (tmp_path / "conda.yaml").write_text(
        "dependencies: [python=3.11, pip, cudatoolkit=11, {pip: [numpy==2]}]\nchannels: [x]\n"
    )
    spec, others = read_conda(tmp_path / "conda.yaml")
    assert (spec.python, spec.lines, others) == ("3.11", ("numpy==2",), ["cudatoolkit=11"])


@pytest.mark.parametrize(
    "text", ["python: [3]", "dependencies: numpy", "dependencies: [1]", "pythn: '3.11'", "python: three"]
)
def test_malformed_environments_are_refused(tmp_path, text):
    (tmp_path / "python_env.yaml").write_text(text)
    with pytest.raises(InvalidValueError):
        read_python_env(tmp_path / "python_env.yaml")


def test_a_record_is_a_lock_and_never_an_option_of_the_installer():
    document = {"python": {"version": "3.11.7"}, "packages": {"b": "2", "a": "1.0+cpu", "pip": "9"}}
    spec = spec_of_record(document)
    assert (spec.lines, spec.locked, spec.python) == (("a==1.0+cpu", "b==2"), True, "3.11.7")
    for bad in ({"-r": "x"}, {"a b": "1"}, {"a": "1 --index-url http://evil"}, {"a": "1\n-r x"}, {"a": ""}):
        with pytest.raises(InvalidValueError):
            spec_of_record({"packages": bad})
    with pytest.raises(NotFoundError):
        spec_of_record({"packages": {"error": "no"}})


# --- commands ---------------------------------------------------------------------------------


def test_a_project_runs_in_the_environment_that_it_asks_for(repo, gml, environ):
    repo.commit("project", **{
        "MLproject": "python_env: env.yaml\nentry_points: {main: {command: python t.py}}\n",
        "env.yaml": "dependencies: [planted==1.0]\n",
        "t.py": "import planted, sys\nprint('planted', planted.VERSION)\n",
    })  # fmt: skip
    done = gml("run", ".", **environ)
    assert "planted 1.0" in done.out
    run = gml("show", "@", "--json").json
    assert run["tags"]["mlflow.project.env"] == "uv"
    assert run["environment"]["packages"]["planted"] == "1.0"
    assert "numpy" not in run["environment"]["packages"]
    again = gml("rerun", "@", "--exact", "--json", **environ)
    assert again.json["verdict"] == "reproduced"
    assert not any(d["part"] == "environment" for d in again.json["differences"])


def test_the_environment_of_a_run_is_shown_and_restored(repo, gml, environ, tmp_path):
    made = build_at(EnvSpec(lines=("deep",)), tmp_path / "first", environ, tool="uv")
    repo.commit("code", **{"t.py": "import planted\nprint('planted', planted.VERSION)\n"})
    gml("log", "-n", "first", "--", made.bin / "python", "t.py", **environ)
    lock = gml("env", "show", "first").out
    assert lock.splitlines()[1:] == ["deep==2.0", "planted==1.0"]
    gml("env", "restore", "first", "-o", tmp_path / "venv", **environ)
    assert version_in(tmp_path / "venv") == "1.0"
    assert "is there already" in gml("env", "restore", "first", "-o", repo.path, code=2, **environ).err
    assert gml("env", "show", "first", "--json").json["packages"] == {"deep": "2.0", "planted": "1.0"}


def test_a_rerun_restores_the_environment_first(repo, gml, environ, tmp_path):
    made = build_at(EnvSpec(lines=("planted",)), tmp_path / "first", environ, tool="uv")
    repo.commit("code", **{"t.py": "import planted\nprint('planted', planted.VERSION)\n"})
    path = f"{made.bin}:{os.environ['PATH']}"
    gml("log", "-n", "first", "--", "env", f"PATH={path}", "python", "t.py", **environ)
    gml("log", "-n", "plain", "--", made.bin / "python", "t.py", **environ)
    made.path.rename(tmp_path / "gone")
    done = gml("rerun", "plain", "--env", "restore", "--json", **environ)
    assert "planted 1.0" in done.err
    assert not any(d["part"] == "environment" for d in done.json["differences"])
