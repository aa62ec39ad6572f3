"""Runs made fast, the command as a real process, and text that tries to get out of where it is put."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

GML = Path(sysconfig.get_path("scripts")) / "gml"

CORPUS = [
    "<script>window.pwned=1</script>",
    '<img src=x onerror="window.pwned=1">',
    '"><svg onload=window.pwned=1>',
    "' onmouseover='window.pwned=1",
    "</style><script>window.pwned=1</script>",
    "</title><script>window.pwned=1</script>",
    "</details></summary><script>window.pwned=1</script>",
    "javascript:window.pwned=1",
    "<a href='javascript:window.pwned=1'>x</a>",
    "<meta http-equiv=refresh content='0;url=javascript:window.pwned=1'>",
    "<!-- --><script>window.pwned=1</script><!--",
    "]]><script>window.pwned=1</script>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'>",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
    "a | b \\| c \\\\| d",
    "`` ` ``` ````",
    "```\n</details>\n# heading\n",
    "@torvalds @org/team #1 org/repo#2 :smile: $x^2$",
    "[link](http://evil.example) ![image](http://evil.example/x.png) <http://evil.example>",
    "http://evil.example www.evil.example a@evil.example",
    "*bold* _em_ ~~gone~~ ^up^ ==mark==",
    "line one\nline two\r\n| a | b |\n| --- | --- |\n",
    "\u202egnp.exe\u202c \x1b[31mred\x1b[0m \x00 \ufeff",
    "\ud800 lone",
    "naïve — 数据 🎉",
]  # fmt: skip


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def start(repo):
    """Return a function that starts `gml` in the repository."""

    def run(*args: object, **how) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(GML), *map(str, args)],
            cwd=repo.path,
            env={**repo.env(), "PATH": f"{GML.parent}:{os.environ['PATH']}", "PYTHONWARNINGS": "error"},
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how},
        )

    return run


@pytest.fixture
def cli(start):
    """Return a function that runs `gml` and demands its exit code."""

    def run(*args: object, code: int = 0) -> Done:
        child = start(*args)
        out, err = child.communicate(timeout=100)
        done = Done(child.returncode, out.decode(), err.decode())
        assert done.code == code, done
        assert "Traceback" not in done.err, done.err
        return done

    return run


@pytest.fixture
def train(api, monkeypatch):
    """Return a function that makes a run in this process and returns its id."""
    monkeypatch.setenv("GML_CODE", "snapshot")

    def make(name, params=(), curves=(), metrics=(), tags=(), inputs=(), files=()):
        with api.start_run(run_name=name, tags=dict(tags)) as run:
            api.log_params(dict(params))
            for key, values in dict(curves).items():
                for step, value in enumerate(values):
                    api.log_metric(key, value, step=step)
            for key, value in dict(metrics).items():
                api.log_metric(key, value)
            for each in inputs:
                api.log_input(each, context="training")
            for path, text in dict(files).items():
                api.log_text(text, path)
        return run.run_id

    return make
