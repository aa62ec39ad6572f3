"""A recorded run is run again from its record alone, and what drifted is named."""

from __future__ import annotations

import os
import signal
import time

import pytest

TRAIN = """
import argparse, json, os, pathlib, sys
import helper
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--layers", type=int, nargs="*")
parser.add_argument("--amp", action="store_true")
args = parser.parse_args()
loss = helper.loss(args.lr) + sum(args.layers or []) + args.amp
pathlib.Path("model.bin").write_text(f"weights {loss}")
pathlib.Path("metrics.json").write_text(json.dumps({"loss": loss}))
print("hash seed", os.environ.get("PYTHONHASHSEED"))
"""
HELPER = "def loss(lr):\n    return lr * 2\n"
DATA = """
import gml
gml.log_input("data/train.csv", context="train")
text = open("data/train.csv").read()
gml.log_metric("rows", text.count("\\n"))
gml.log_text(text.upper(), "model.txt")
"""


@pytest.fixture
def dirty(repo):
    """Return a repository whose code is partly uncommitted and partly untracked."""
    repo.file("train.py", TRAIN)
    repo.file(".gitignore", "data/\nmodel.bin\nmetrics.json\n__pycache__/\n")
    repo.commit("code")
    repo.file("train.py", TRAIN.replace("lr * 2", "lr * 2") + "# changed\n")
    repo.file("helper.py", HELPER)
    return repo


def differences(done, part):
    return {d["key"]: (d["original"], d["rerun"]) for d in done.json["differences"] if d["part"] == part}


def latest(gml, at=None):
    return gml("show", "@", "--json", at=at).json


def test_a_dirty_run_is_reproduced_and_nothing_of_the_user_s_changes(dirty, gml, untouched):
    gml("log", "-n", "first", "-a", "model.bin", "-p", "data=v1", "--", "python", "train.py", "--lr", "0.1")
    original = latest(gml)
    (dirty.path / "helper.py").write_text("def loss(lr):\n    return 0\n")
    dirty.commit("something else")
    before = untouched()
    done = gml("rerun", "first", "--exact", "--json")
    assert untouched() == before
    assert done.json["verdict"] == "reproduced"
    assert done.json["equal"] == {
        "status": 1, "code": 1, "params": 2, "metrics": 1, "artifacts": 1,
    }  # fmt: skip
    again = latest(gml)
    assert again["source"]["tree"] == original["source"]["tree"]
    assert again["source"]["commit"] == original["source"]["commit"]
    assert again["source"]["dirty"] is True
    assert again["name"] == "first-rerun"
    assert again["experiment_id"] == original["experiment_id"]
    assert again["source"]["rerun"] == {"of": original["run_id"]}
    assert again["tags"] == {"gml.rerun.of": original["run_id"], "gml.rerun.result": "reproduced"}
    assert again["artifacts"]["model.bin"]["sha256"] == original["artifacts"]["model.bin"]["sha256"]


def test_another_clone_reproduces_it_from_the_ledger_and_the_code_ref_alone(dirty, gml, make_repo):
    gml("log", "-n", "first", "-a", "model.bin", "--", "python", "train.py", "--lr", "0.3")
    other = make_repo("other", commit=False)
    other.git(
        "fetch", "-q", str(dirty.path), "refs/gml/ledger:refs/gml/ledger", "refs/gml/code:refs/gml/code"
    )
    done = gml("rerun", "first", at=other, code=2)
    assert "recorded in another clone" in done.err
    assert "python train.py --lr 0.3" in done.err
    done = gml("rerun", "first", "--trust", "--exact", "--json", at=other)
    assert done.json["verdict"] == "reproduced"
    assert done.json["equal"]["artifacts"] == 1
    assert sorted(path.name for path in other.path.iterdir()) == [".git"]


def test_a_clone_without_the_code_says_what_to_fetch(dirty, gml, make_repo):
    gml("log", "-n", "first", "--", "python", "train.py")
    other = make_repo("other", commit=False)
    other.git("fetch", "-q", str(dirty.path), "refs/gml/ledger:refs/gml/ledger")
    done = gml("rerun", "first", "--trust", at=other, code=22)
    assert "fetch refs/gml/code" in done.err


@pytest.mark.parametrize(
    ("given", "change", "wanted"),
    [
        (["--lr", "0.1"], "lr=0.2", ["--lr", "0.2"]),
        (["--lr=0.1", "--amp"], "lr=0.2", ["--lr=0.2", "--amp"]),
        (["--amp", "--lr", "0.1"], "amp=false", ["--lr", "0.1"]),
        (["--layers", "1", "2", "--amp"], "layers=3,4,5", ["--layers", "3", "4", "5", "--amp"]),
    ],
)
def test_params_are_changed_where_the_command_line_sets_them(dirty, gml, given, change, wanted):
    gml("log", "--", "python", "train.py", *given)
    done = gml("rerun", "@", "--set", change, "--json")
    assert done.json["verdict"] == "changed"
    again = latest(gml)
    assert again["source"]["argv"] == ["python", "train.py", *wanted]
    key, _, value = change.partition("=")
    assert again["params"].get(key, "false") == value
    assert again["source"]["rerun"]["set"] == {key: value}
    assert all(not d["counts"] for d in done.json["differences"])


def test_a_param_that_is_not_there_is_named_with_the_nearest(dirty, gml):
    gml("log", "--", "python", "train.py", "--lr", "0.1")
    done = gml("rerun", "@", "--set", "lrr=1", code=4)
    assert "did you mean 'lr'?" in done.err


def test_a_param_of_a_file_is_not_changed_on_the_command_line(repo, gml):
    repo.commit(
        "code", **{"params.yaml": "depth: 3\n", "train.py": "open('params.yaml', 'a').write('\\n')\n"}
    )
    gml("log", "--", "python", "train.py")
    done = gml("rerun", "@", "--set", "depth=4", code=2)
    assert "comes from a params file" in done.err


def test_a_param_that_the_script_logged_itself_is_added_to_the_command(repo, gml):
    repo.commit("code", **{"train.py": """
import argparse, gml
parser = argparse.ArgumentParser()
parser.add_argument("--depth", type=int, default=3)
gml.log_param("depth", parser.parse_args().depth)
"""})  # fmt: skip
    gml("log", "--", "python", "train.py")
    done = gml("rerun", "@", "--set", "depth=4")
    assert "added as an option" in done.err
    assert latest(gml)["params"] == {"depth": "4"}


def test_params_given_to_gml_log_are_given_again_and_can_be_changed(dirty, gml):
    gml("log", "-p", "data=v1", "--", "python", "train.py")
    gml("rerun", "@", "--set", "data=v2")
    assert latest(gml)["params"] == {"data": "v2"}


# --- data -------------------------------------------------------------------------------------


@pytest.fixture
def with_data(repo, gml):
    repo.file("data/train.csv", "a\nb\n")
    repo.commit("code", **{"train.py": DATA, ".gitignore": "data/\n"})
    gml("log", "-n", "first", "--", "python", "train.py")
    return repo


def test_ignored_data_is_brought_from_the_work_tree_as_a_copy(with_data, gml, untouched):
    before = untouched()
    done = gml("rerun", "first", "--exact", "--json")
    assert done.json["equal"]["data"] == 1
    assert untouched() == before


def test_data_that_changed_is_named_before_anything_runs(with_data, gml):
    with_data.file("data/train.csv", "a\nb\nc\n")
    runs = len(gml("ls", "--json").json)
    done = gml("rerun", "first", code=22)
    assert "data: train.csv: data/train.csv has digest" in done.err
    assert len(gml("ls", "--json").json) == runs
    done = gml("rerun", "first", "--force", "--json", code=20)
    assert list(differences(done, "data")) == ["train.csv [train]"]
    assert differences(done, "metrics")["rows"] == (2, 3)


def test_everything_that_is_missing_is_said_in_one_list(with_data, gml):
    (with_data.path / "data/train.csv").unlink()
    with_data.file("tool.sh", "#!/bin/sh\ncat data/train.csv\n").chmod(0o755)
    done = gml("rerun", "first", "--dry-run", "--json", "--bring", "weights", code=22)
    assert [(n["part"], n["name"]) for n in done.json["needs"] if n["blocking"]] == [
        ("data", "train.csv"),
        ("data", "weights"),
    ]


def test_data_is_taken_from_the_artifact_store_where_it_is_nowhere_else(with_data, gml):
    with_data.workspace().blobs.put_bytes(b"a\nb\n")
    (with_data.path / "data/train.csv").unlink()
    assert gml("rerun", "first", "--json").json["verdict"] == "reproduced"


# --- drift ------------------------------------------------------------------------------------


def test_code_drift_names_the_files(dirty, gml):
    gml("log", "-n", "first", "--", "python", "train.py", "--lr", "0.1")
    dirty.file("helper.py", "def loss(lr):\n    return lr * 3\n")
    dirty.commit("better")
    done = gml("rerun", "first", "--code", "HEAD", "--json", code=20)
    assert done.json["verdict"] == "drifted"
    assert differences(done, "code") == {"helper.py": ("", "changed")}
    assert differences(done, "metrics") == {"loss": (0.2, pytest.approx(0.3))}


def test_tolerances_are_for_each_metric(dirty, gml):
    gml("log", "-n", "first", "--", "python", "train.py", "--lr", "0.1")
    dirty.file("helper.py", "def loss(lr):\n    return lr * 2.01\n")
    dirty.commit("a little off")
    for tolerance, verdict, code in (
        ("loss=0.1%", "drifted", 20),
        ("loss=1%", "reproduced", 0),
        ("l*=0.01", "reproduced", 0),
        ("auc=1", "drifted", 20),
    ):
        done = gml("rerun", "first", "--code", "HEAD", "--tolerance", tolerance, "--json", code=None)
        # The code differs as well, which always counts.
        assert ("loss" in differences(done, "metrics")) == (verdict == "drifted"), tolerance
        assert done.code == 20
        assert code in {0, 20}
    assert "no tolerance" in gml("rerun", "first", "--tolerance", "loss=-1", code=2).err


def test_artifacts_count_only_when_asked(repo, gml):
    repo.commit("code", **{"train.py": "import os\nopen('out', 'w').write(os.urandom(8).hex())\n"})
    gml("log", "-n", "first", "-a", "out", "--", "python", "train.py")
    (repo.path / "out").unlink()
    done = gml("rerun", "first", "--json")
    assert list(differences(done, "artifacts")) == ["out"]
    assert gml("rerun", "first", "--exact", "--json", code=20).json["verdict"] == "drifted"


def test_an_environment_that_differs_is_named_before_and_after(repo, gml, start, tmp_path):
    extra = tmp_path / "site"
    (extra / "planted-1.0.dist-info").mkdir(parents=True)
    (extra / "planted-1.0.dist-info/METADATA").write_text("Name: planted\nVersion: 1.0\n")
    child = start("log", "-n", "first", "--", "python", "train.py", PYTHONPATH=str(extra))
    child.communicate(timeout=60)
    assert child.returncode == 0
    done = gml("rerun", "first", "--json")
    assert "environment: planted: is not installed here, recorded was 1.0" in done.err
    assert differences(done, "environment") == {"planted": (None, "is not installed here, recorded was 1.0")}


def test_seeds_of_the_environment_are_set_again(dirty, gml):
    gml("log", "-n", "first", "--", "python", "train.py", PYTHONHASHSEED="7")
    done = gml("rerun", "first")
    assert "hash seed 7" in done.err
    gml("log", "-n", "second", "--", "python", "train.py")
    assert "hash seed None" in gml("rerun", "second", PYTHONHASHSEED="9").err


# --- failures ---------------------------------------------------------------------------------


def test_a_rerun_that_fails_says_so(repo, gml):
    repo.commit("code", **{"train.py": "import sys, os\nsys.exit(3 if os.path.exists('/nowhere') else 0)\n"})
    gml("log", "-n", "first", "--", "python", "train.py")
    repo.commit("broken", **{"train.py": "import sys\nsys.exit(3)\n"})
    done = gml("rerun", "first", "--code", "HEAD", "--json", code=21)
    assert differences(done, "status") == {"status and exit code": ("FINISHED 0", "FAILED 3")}


def test_a_failure_that_happens_again_is_reproduced(repo, gml):
    repo.commit("code", **{"train.py": "import sys\nsys.exit(3)\n"})
    gml("log", "-n", "first", "--", "python", "train.py", code=3)
    assert gml("rerun", "first", "--json").json["verdict"] == "reproduced"


def test_secrets_that_were_masked_have_to_be_given(repo, gml):
    repo.commit("code", **{"train.py": "import sys\nassert sys.argv[2] == 'hunter2'\n"})
    gml("log", "-n", "first", "--", "python", "train.py", "--password", "hunter2")
    assert "password: its value is a secret" in gml("rerun", "first", code=22).err
    gml("rerun", "first", "--set", "password=hunter2")


def test_a_program_that_is_gone_is_missing(repo, gml, tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\ntrue\n")
    tool.chmod(0o755)
    gml("log", "-n", "first", "--", tool)
    tool.unlink()
    assert "the program is not here" in gml("rerun", "first", code=22).err


def test_a_script_that_recorded_itself_is_run_again(repo, gml):
    repo.commit("code", **{"train.py": "import sys, gml\nwith gml.start_run(run_name='own'):\n"
                                       "    gml.log_metric('n', len(sys.argv))\n"})  # fmt: skip
    repo.git("status")
    done = repo.python("import runpy, sys; sys.argv = ['train.py', 'x']; runpy.run_path('train.py')")
    assert done == ""
    assert gml("rerun", "own", "--json").json["equal"]["metrics"] == 1


def test_a_package_installed_in_place_is_imported_from_the_recorded_code(repo, gml, tmp_path):
    """An editable install names the user's work tree, whose code is another one by now."""
    repo.commit("code", **{"src/mylib/__init__.py": "VALUE = 1\n", "train.py": "import mylib, gml\n"
                           "gml.log_metric('value', mylib.VALUE)\n"})  # fmt: skip
    gml("log", "-n", "first", "--", "python", "train.py", PYTHONPATH=str(repo.path / "src"))
    repo.commit("later", **{"src/mylib/__init__.py": "VALUE = 2\n"})
    done = gml("rerun", "first", "--json", PYTHONPATH=str(repo.path / "src"))
    assert done.json["verdict"] == "reproduced"


def test_changes_that_were_kept_as_a_patch_are_applied(dirty, gml):
    (dirty.path / "helper.py").unlink()
    dirty.file(
        "train.py", TRAIN.replace("import helper\n", "").replace("helper.loss(args.lr)", "args.lr * 5")
    )
    gml("log", "-n", "first", "--", "python", "train.py", GML_CODE="patch")
    dirty.git("checkout", "-q", "train.py")
    done = gml("rerun", "first", "--json")
    assert done.json["equal"]["metrics"] == 1


def test_changes_that_were_not_kept_are_missing(dirty, gml):
    gml("log", "-n", "first", "--", "python", "train.py", GML_CODE="none")
    assert "uncommitted changes: were not kept" in gml("rerun", "first", code=22).err


def test_the_checkout_is_kept_where_the_user_wants_it(dirty, gml, tmp_path):
    gml("log", "-n", "first", "--", "python", "train.py")
    gml("rerun", "first", "--keep", tmp_path / "kept")
    assert (tmp_path / "kept/model.bin").is_file()
    assert (tmp_path / "kept/helper.py").read_text() == HELPER
    assert str(tmp_path / "kept") in dirty.git("worktree", "list")
    assert "is there already" in gml("rerun", "first", "--keep", tmp_path / "kept", code=2).err
    dirty.git("worktree", "remove", "--force", str(tmp_path / "kept"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_rerun_leaves_nothing_half_made(repo, gml, start, tmp_path, number):
    mark = tmp_path / "mark"
    repo.commit("code", **{"train.py": f"import os, time\nopen({str(mark)!r}, 'a').write('x')\n"
                                       "time.sleep(60 if os.environ.get('SLOW') else 0)\n"})  # fmt: skip
    gml("log", "-n", "first", "--", "python", "train.py")
    child = start("rerun", "first", SLOW="1")
    deadline = time.monotonic() + 60
    while mark.read_text() != "xx":
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(child.pid, number)
    child.communicate(timeout=60)
    assert child.returncode == 21
    assert latest(gml)["status"] == "KILLED"
    assert len(repo.git("worktree", "list").splitlines()) == 1


def test_submodules_and_large_file_pointers_are_named(repo, gml, make_repo):
    part = make_repo("part")
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(part.path), "vendor")
    repo.file(".gitattributes", "*.big filter=lfs\n")
    repo.file("model.big", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    repo.commit("parts")
    gml("log", "-n", "first", "--", "python", "train.py")
    err = gml("rerun", "first").err
    assert "code: vendor: is a submodule" in err
    assert "code: model.big: is a Git LFS pointer" in err


def test_the_answer_for_people(dirty, gml):
    gml("log", "-n", "first", "--", "python", "train.py")
    done = gml("rerun", "first", "--diff")
    assert done.out.startswith("reproduced: run ")
    assert "equal: 1 status, 1 code, 1 metrics" in done.out
    assert "gml.rerun.of" in done.out
