"""Runs what the documentation shows, and compares or refreshes the output under it.

    python docs/blocks.py README.md docs/format.md            # compare
    python docs/blocks.py --update README.md                  # write today's output where it differs

A Markdown file is run from top to bottom in one new git repository, with an empty HOME:

- `console` blocks: each `$ command` (continued by lines that start with `> `) runs in bash on a terminal
  of 100 columns; the lines below it are its output;
- `pycon` blocks: a Python session that goes on through all neighbouring `pycon` blocks;
- `python` blocks: a script that must end well; a `text` block right after it is its output;
- `<!-- file: NAME -->` above a block: the block is written to that file instead;
- `<!-- run: COMMAND -->`: a command that readers need not see;
- `<!-- skip: REASON -->` above a block: it is not run.

Ids, times, durations and made-up names are equal to each other; `...` stands for anything within a line,
and alone on a line for any lines.
"""

# ruff: noqa: INP001, T201

from __future__ import annotations

import doctest
import json
import os
import pty
import re
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = 100
HOME = "/home/ada"
# The variables `run` and `path` go on from command to command.
_SHELL = """set -o pipefail
keep=$HOME/.variables
[ ! -f "$keep" ] || . "$keep"
{command}
code=$?
declare -p run path 2>/dev/null >"$keep"
exit $code
"""
_FENCE = re.compile(
    r"(?:<!-- (?P<mark>file|skip): (?P<value>[^\n]*?) -->\n\n?)?"
    r"^```(?P<kind>\w+)[^\n]*\n(?P<body>.*?)^```$|<!-- run: (?P<run>.*?) -->",
    re.MULTILINE | re.DOTALL,
)
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SAME = [
    (re.compile(pattern), text)
    for pattern, text in (
        (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?: ?(?:Z|[+-]\d\d:?\d\d))?", "TIME"),
        (r"\b[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4} [+-]\d{4}", "TIME"),
        (r"\b\d+ ?(?:[smhdy]|seconds?|minutes?) ago\b", "AGO"),
        (r"\b[\d.]+ [kMG]?B memory, [\d.]+ s CPU", "USE"),
        (r"\b[\d.]+ [kM]?B of git objects\b", "SIZE of git objects"),
        (r"\.gmlb \([\d.]+ [kM]?B\)", ".gmlb (SIZE)"),
        (r"\b\d{1,3}\.\ds\b|\b\d+m\d\ds\b|\b\d{1,2}s\b", "TOOK"),
        (r"\b1\d{12}\b", "MS"),
        (r"[0-9a-f]{4}/[0-9a-f]{2}/[0-9a-f]{2}/(?=[0-9a-f]{32})", "DIR/"),
        (r"(?<![0-9a-zA-Z])[0-9a-f]{2}/(?=[0-9a-f]{40,64})", "DIR/"),
        (r"(?<![0-9a-zA-Z])[0-9a-f]{7,64}(?![0-9a-zA-Z])", "HEX"),
        (r"\b[a-z]+-[a-z]+-\d{1,3}\b", "NAME"),
        (r'(?<="max_memory_bytes":)\s*\d+|(?<="cpu_seconds":)\s*[\d.]+', "N"),
        (r'(?<="points":)(\d+),"sha256":"\w+","size":\d+', r'\1,"sha256":HEX,"size":N'),
        (r"\b\d+ packages\b", "N packages"),
        (r"(?m)^host\s+\S+ \d+ x .*$", "HOST"),
        (r"\b3\.\d\d\.\d+\b", "PYTHON"),
        (r"\bPython 3\.\d+\.\d+\b", "PYTHON"),
        (r"[─━]+", "─"),
        (r"[ \t]+", " "),
    )
]
_DRIVER = """
import contextlib, io, json, pathlib, sys, traceback
space = {"__name__": "__main__"}
for source in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            exec(compile(source, "<docs>", "single"), space)
        except Exception as error:
            print("Traceback (most recent call last):\\n  ...")
            print("".join(traceback.format_exception_only(error)), end="")
    print(json.dumps(out.getvalue()), file=sys.__stdout__, flush=True)
"""


@dataclass
class Step:
    """Something to run, and the lines that the file shows as its output."""

    kind: str
    source: str
    shown: str | None = None
    start: int = 0
    end: int = 0
    name: str = ""


@dataclass
class Difference:
    """Output that is not what the file shows."""

    step: Step
    actual: str

    def __str__(self) -> str:
        """Return command, expectation and result one below the other."""
        return f"$ {self.step.source}\n--- shown\n{self.step.shown}\n--- now\n{self.actual}"


@dataclass
class Sandbox:
    """A repository with an empty home.

    Attributes:
        top: a new directory.
        programs: folder whose programs win over installed ones.
        environ: environment variables of everything that runs.
    """

    top: Path
    programs: Path | None = None
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.repo = self.top / "churn"
        home = self.top / ".home"
        home.mkdir(parents=True)
        foreign = ("GML_", "GIT_", "MLFLOW_", "PYTEST_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        self.environ = kept | {
            "HOME": str(home),
            "PATH": os.pathsep.join(
                [
                    *([str(self.programs)] if self.programs is not None else ()),
                    str(Path(sys.executable).parent),
                    os.environ.get("PATH", os.defpath),
                ]
            ),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PAGER": "cat",
            "PAGER": "cat",
            "GML_USER": "ada",
            "TERM": "xterm",
            "NO_COLOR": "1",
            "COLUMNS": str(COLUMNS),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONWARNINGS": "error",
            "MPLBACKEND": "agg",
        }
        settings = {
            "user.name": "Ada",
            "user.email": "ada@example.org",
            "init.defaultBranch": "main",
            "color.ui": "never",
        }
        for key, value in settings.items():
            self.run("git", "config", "--global", key, value, cwd=self.top)
        self.run("git", "init", "-q", str(self.repo), cwd=self.top)

    def run(self, *argv: str, cwd: Path | None = None) -> str:
        """Run a program to its good end and return what it wrote."""
        done = subprocess.run(
            argv, cwd=cwd or self.repo, env=self.environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise AssertionError(f"{argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def bash(self, command: str) -> str:
        """Run a command on a terminal and return what it shows."""
        import fcntl
        import struct
        import termios

        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
        child = subprocess.Popen(
            ["bash", "-c", _SHELL.format(command=command)],
            cwd=self.repo,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        out = bytearray()
        with suppress(OSError):
            while data := os.read(ours, 65536):
                out += data
        os.close(ours)
        text = out.decode("utf-8", "replace").replace("\r\n", "\n")
        code = child.wait(timeout=100)
        # 141: `head` had enough and left before the command was done.
        if code and not (code == 141 and "| head" in command):
            raise AssertionError(f"$ {command}\nended with {code}:\n{text}")
        return self._plain(text)

    def _plain(self, text: str) -> str:
        text = _COLOURS.sub("", text.replace(str(self.top), HOME))
        return re.sub(rf"\b{re.escape(socket.gethostname())}\b", "node1", text)

    def session(self, sources: list[str]) -> list[str]:
        """Run the statements of one Python session and return the output of each."""
        script, data = self.top / "driver.py", self.top / "session.json"
        script.write_text(_DRIVER)
        data.write_text(json.dumps(sources))
        done = subprocess.run(
            [sys.executable, str(script), str(data)],
            cwd=self.repo,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stdout.splitlines()
        if len(lines) != len(sources) or done.stderr:
            raise AssertionError(f"the session ended after {len(lines)} statements:\n{done.stderr}")
        return [self._plain(json.loads(line)) for line in lines]


def steps(text: str) -> list[Step]:
    """Return what a Markdown file wants to be run, in order."""
    found: list[Step] = []
    for match in _FENCE.finditer(text):
        if match["run"]:
            found.append(Step("run", match["run"]))
            continue
        kind, body, at = match["kind"], match["body"], match.start("body")
        if match["mark"] == "file":
            found.append(Step("file", body, name=match["value"]))
        elif match["mark"] == "skip":
            continue
        elif kind == "console":
            found += _console(body, at)
        elif kind == "pycon":
            found += _session(body, at)
        elif kind == "python":
            found.append(Step("python", body))
        elif kind == "text" and found and found[-1].kind == "python" and found[-1].shown is None:
            between = text[found[-1].end : match.start()]
            if "\n\n\n" not in between:
                found[-1].shown, found[-1].start, found[-1].end = body, at, match.end("body")
    return found


def _console(body: str, at: int) -> list[Step]:
    found: list[Step] = []
    for line in body.splitlines(keepends=True):
        here, at = at, at + len(line)
        if line.startswith("$ "):
            found.append(Step("console", line[2:].rstrip("\n"), "", at, at))
        elif line.startswith("> ") and found and not found[-1].shown:
            found[-1].source += "\n" + line[2:].rstrip("\n")
            found[-1].start = found[-1].end = at
        elif found:
            found[-1].shown = (found[-1].shown or "") + line
            found[-1].end = at
        else:
            raise ValueError(f"output without a command at {here}: {line!r}")
    return found


def _session(body: str, at: int) -> list[Step]:
    found = []
    for example in doctest.DocTestParser().get_examples(body):
        lines = body.splitlines(keepends=True)
        first = example.lineno + example.source.count("\n")
        start = at + sum(map(len, lines[:first]))
        found.append(Step("pycon", example.source, example.want, start, start + len(example.want)))
    return found


def same(shown: str, actual: str) -> bool:
    """Whether an output is the one that is shown."""
    pattern = "".join(
        "(?:.*\\n)*?" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + "\\n"
        for line in _normal(shown).splitlines()
    )
    return re.fullmatch(pattern, _normal(actual)) is not None


def _normal(text: str) -> str:
    for pattern, replacement in _SAME:
        text = pattern.sub(replacement, text)
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return "".join(f"{line}\n" for line in lines)


def check(file: Path, top: Path, programs: Path | None = None) -> list[Difference]:
    """Run everything in a Markdown file below an empty directory; return what differs."""
    box = Sandbox(top, programs)
    wanted = steps(file.read_text(encoding="utf-8"))
    found: list[Difference] = []
    position = 0
    while position < len(wanted):
        step = wanted[position]
        position += 1
        actual = ""
        if step.kind == "file":
            target = box.repo / step.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(step.source, encoding="utf-8")
            if target.suffix == ".sh":
                target.chmod(0o755)
        elif step.kind == "run":
            box.run("bash", "-c", step.source)
        elif step.kind == "console":
            actual = box.bash(step.source)
        elif step.kind == "python":
            script = box.top / "block.py"
            script.write_text(step.source)
            actual = box.run(sys.executable, str(script))
        else:
            group = [step]
            while position < len(wanted) and wanted[position].kind == "pycon":
                group.append(wanted[position])
                position += 1
            outputs = box.session([s.source for s in group])
            found += [
                Difference(s, o) for s, o in zip(group, outputs, strict=True) if not same(s.shown or "", o)
            ]
            continue
        if step.shown is not None and not same(step.shown, actual):
            found.append(Difference(step, actual))
    return found


def update(file: Path, differences: list[Difference]) -> None:
    """Write today's output over what differs."""
    text = file.read_text(encoding="utf-8")
    for difference in sorted(differences, key=lambda d: -d.step.start):
        lines = [line.rstrip() for line in difference.actual.splitlines()]
        fresh = "".join(f"{line}\n" for line in lines)
        text = text[: difference.step.start] + fresh + text[difference.step.end :]
    file.write_text(text, encoding="utf-8")


def main(args: list[str]) -> int:
    """Compare or update the named files."""
    writing = "--update" in args
    bad = 0
    for name in (arg for arg in args if not arg.startswith("-")):
        file = Path(name)
        with tempfile.TemporaryDirectory() as top:
            differences = check(file, Path(top).resolve() / "box")
        bad += len(differences)
        if writing:
            update(file, differences)
        print(f"{file}: {len(differences)} outputs {'written' if writing else 'differ'}")
        for difference in differences if not writing else ():
            print(f"\n{difference}")
    return 0 if writing or not bad else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
