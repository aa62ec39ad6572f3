import posixpath
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gml.tracking.capture.argv import params_from_argv
from gml.tracking.capture.command import parse_command


def params(line):
    return params_from_argv(line.split(" "))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--lr 0.1", {"lr": "0.1"}),
        ("--lr=0.1", {"lr": "0.1"}),
        ("--lr=", {"lr": ""}),
        ("lr=0.1 model.depth=4 +x=1 ++y=2", {"lr": "0.1", "model.depth": "4", "x": "1", "y": "2"}),
        ("--amp --lr 1", {"amp": "true", "lr": "1"}),
        ("--lr 1 --amp", {"lr": "1", "amp": "true"}),
        ("--no-cache", {"no-cache": "true"}),
        ("-e 5 -v", {"e": "5", "v": "true"}),
        ("--shift -0.5 -b -3", {"shift": "-0.5", "b": "-3"}),
        ("--low -inf --high 1e-3", {"low": "-inf", "high": "1e-3"}),
        ("--tag a --tag b", {"tag": "a,b"}),
        ("--layers 64 32 16 --lr 1", {"layers": "64,32,16", "lr": "1"}),
        ("--data a.csv b.csv", {"data": "a.csv"}),
        ("--lr 1 -- --x 2", {"lr": "1"}),
        ("data.csv --lr 1", {"lr": "1"}),
        (
            "--password hunter2 --api-key=abc --hf_token x",
            {"password": "***", "api-key": "***", "hf_token": "***"},
        ),
        ("client.secret=1 AWS_CREDENTIALS=x", {"client.secret": "***", "AWS_CREDENTIALS": "***"}),
        (
            "--token 12 --max-tokens 4096 --pad_token_id -1 --tokenizer bert",
            {"token": "***", "max-tokens": "4096", "pad_token_id": "-1", "tokenizer": "bert"},
        ),
        ("--db pg://me:pw@host/x", {"db": "pg://***@host/x"}),
        ("db@pkg=x --we!rd 1", {"db_pkg": "x", "we_rd": "1"}),
        ("--../up 1 --/abs 2 --a//b 3 --. 4", {}),
        ("https://host/?a=b s3://bucket/k=v", {}),
        ("- --", {}),
        ("", {}),
    ],
)
def test_forms(line, expected):
    assert params("python train.py " + line) == expected
    assert list(params("python train.py " + line)) == list(expected)


@pytest.mark.parametrize(
    "before",
    [
        "python train.py",
        "python -u train.py",
        "/usr/bin/python3.12 -X dev -W error -Xutf8 train.py",
        "python -m pkg.train",
        "python -um pkg.train",
        "python -mpkg.train",
        "python -c pass",
        "python -",
        "./train.py",
        "my-trainer",
        "torchrun --nproc 2 train.py",
        "torchrun --nnodes=1 --standalone -m pkg.train",
        "python -m torch.distributed.run --nproc_per_node 2 train.py",
        "accelerate launch --num_processes 2 --mixed_precision fp16 train.py",
        "deepspeed --num_gpus 2 train.py",
        "uv run train.py",
        "uv run --with rich --python 3.12 python train.py",
        "uv run --frozen -- python -u train.py",
        "uv run -m pkg.train",
        "poetry run python train.py",
        "conda run -n env python train.py",
        "mpirun -n 4 python train.py",
        "mpirun -np 4 --mca btl tcp -x PATH python train.py",
        "mpiexec -n 4 my-trainer",
        "srun -N 2 --gres=gpu:1 python train.py",
        "bash run.sh",
        "bash -eu -o pipefail run.sh",
        "env A=1 python train.py",
        "env -i -u B A=1 --x=1 python train.py".replace(" --x=1", ""),
        "nohup nice -n 5 timeout 10m python train.py",
        "taskset 0x3 python train.py",
        "env A=1 mpirun -n 2 uv run torchrun --nproc 2 train.py",
    ],
)
def test_only_what_follows_the_script(before):
    assert params(before + " --lr 1 x=2") == {"lr": "1", "x": "2"}


def test_env_split_string():
    assert params_from_argv(["env", "-S", "A=1 python -u", "train.py", "--lr", "1"]) == {"lr": "1"}
    assert params_from_argv(["env", "-Spython 'x", "train.py", "--lr", "1"]) == {"lr": "1"}


def test_nothing_to_run():
    for argv in [
        [],
        ["env"],
        ["env", "A=1"],
        ["python"],
        ["bash", "-c"],
        ["torchrun", "--nproc", "2"],
        ["uv", "run"],
    ]:
        assert params_from_argv(argv) == {}
    assert parse_command(["env", "A=1", "python", "x"]).assigned == {"A": "1"}


def test_long_values_are_cut():
    (value,) = params_from_argv(["x", "--a", "v" * 7000]).values()
    assert value == "v" * 6000
    (value,) = params_from_argv(["x", *["--a=" + "v" * 4000] * 2]).values()
    assert len(value) == 6000
    assert [len(key) for key in params_from_argv(["x", "--" + "k" * 300])] == [250]


def test_bytes_that_are_no_text():
    found = params_from_argv(["x", "--path", b"a\xff".decode("utf-8", "surrogateescape")])
    assert found == {"path": "a?"}


WORDS = st.one_of(
    st.text(max_size=12),
    st.text(st.sampled_from("-=+:/.a1 \n@~"), max_size=12),
    st.sampled_from(
        ["python", "env", "uv", "run", "-m", "-c", "--", "torchrun", "bash", "mpirun", "-S", "x.py"]
    ),
    st.sampled_from(["accelerate", "launch", "-", "--mca", "-n", "timeout", "--token", "-um", "password=x"]),
)


@given(st.lists(WORDS, max_size=12))
def test_never_raises_and_keys_are_valid(argv):
    found = params_from_argv(argv)
    assert list(found) == list(params_from_argv(argv))
    for key, value in found.items():
        assert re.fullmatch(r"[/\w.\- :]{1,250}", key)
        assert posixpath.normpath(key) == key
        assert not key.startswith(("/", ".."))
        assert len(value) <= 6000
        value.encode()


@given(st.text(min_size=1).filter(lambda text: not text.startswith("-")))
def test_secret_never_shows(value):
    assert params_from_argv(["python", "t.py", "--password", value]) == {"password": "***"}
