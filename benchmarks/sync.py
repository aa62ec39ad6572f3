"""Measure sharing: pushes, merges, clones, fleets, and a machine without git; prints one table.

    python benchmarks/sync.py                                  # everything at 100,000 runs, about ten minutes
    python benchmarks/sync.py --runs 1000 --clones 20 --only one --only merge
    python benchmarks/sync.py --keep /tmp/runs --write         # generated repositories are kept; into docs/benchmarks.md

Remotes are bare repositories on this machine's disk. Times are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from run import DOCS, machine, prepared, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEGIN, END = "<!-- sync: begin -->", "<!-- sync: end -->"
LEDGER = "refs/gml/ledger"
IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "gc.auto=0")
MINUTE = 60.0


def git(repo: Path, *args: str) -> str:
    """Run git and return what it said on both streams."""
    done = subprocess.run(
        ["git", *IDENTITY, "-C", str(repo), *args], capture_output=True, text=True, check=True
    )
    return (done.stdout + done.stderr).strip()


def gml(repo: Path, *args: str) -> str:
    """Run the command line and return what it said."""
    command = [sys.executable, "-m", "gml", "-C", str(repo), *args]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    """Add the seconds that a block takes to a list."""
    begun = time.perf_counter()
    yield
    into.append(time.perf_counter() - begun)


def size_of(directory: Path) -> int:
    """Return the bytes of all files below a directory."""
    return sum(
        path.stat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink()
    )


def copy(source: Path, target: Path) -> Path:
    """Copy a generated repository."""
    shutil.copytree(source, target, symlinks=True)
    git(target, "config", "gml.code", "none")
    return target


def share(top: Path, source: Path, *names: str) -> list[Path]:
    """Return clones that have all runs, and have seen their common remote."""
    bare = top / "bare.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    git(bare, "config", "uploadpack.allowFilter", "true")
    git(bare, "config", "gc.auto", "0")
    git(source, "push", "-q", str(bare), f"{LEDGER}:{LEDGER}")
    made = []
    for name in names:
        repo = copy(source, top / name)
        git(repo, "remote", "add", "origin", str(bare))
        git(repo, "fetch", "-q", "origin", f"+{LEDGER}:refs/gml/remotes/origin/ledger")
        made.append(repo)
    return made


def sync(repo: Path, which: str):
    """Push or pull in this process and return the report."""
    from gml.sync.pull import pull
    from gml.sync.push import push
    from gml.sync.remotes import open_remote
    from gml.workspace import Workspace

    workspace = Workspace.open(repo)
    return (push if which == "push" else pull)(workspace, open_remote(workspace, unattended=True))


def add_runs(repo: Path, count: int, seed: int) -> None:
    """Append so many runs in one commit."""
    from gml.ledger import layout
    from gml.ledger.codec import encode
    from gml.ledger.ledger import Batch
    from gml.workspace import Workspace

    sys.path.insert(0, str(Path(__file__).parent / "scripts"))
    from generate import document

    rnd = random.Random(seed)
    first = 200_000 + seed * 1_000_000
    made = [document(number, rnd) for number in range(first, first + count)]
    changes = {layout.record_path(each["run_id"]): encode(each) for each in made}
    Workspace.open(repo).ledger.append(lambda _: Batch(changes, f"{count} runs\n"))


# --- rows ---------------------------------------------------------------------------------------


def one_run(top: Path, source: Path, _: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Push and fetch one new run, beside a plain commit on a branch of the same repository."""
    ada, bob = share(top, source, "ada", "bob")
    ours: list[float] = []
    plain: list[float] = []
    commands: list[float] = []
    moved = []
    for number in range(7):
        add_runs(ada, 1, number + 1)
        with timed(ours):
            sent = sync(ada, "push")
            got = sync(bob, "pull")
        assert (sent.pushed.runs, got.pulled.runs) == (1, 1)
        moved.append(sent.pushed.git_bytes + got.pulled.git_bytes)
        (ada / "file.txt").write_text(f"{number}\n" * 40)
        git(ada, "add", "file.txt")
        git(ada, "commit", "-q", "-m", "change", "--", "file.txt")
        with timed(plain):
            git(ada, "push", "-q", "origin", "HEAD:refs/heads/plain")
            git(bob, "fetch", "-q", "origin", "refs/heads/plain:refs/remotes/origin/plain")
        add_runs(ada, 1, number + 100)
        with timed(commands):
            gml(ada, "push")
            gml(bob, "pull")
    a, b, c = (statistics.median(each[1:]) for each in (ours, plain, commands))
    return [
        ("push and fetch of 1 new run, of a plain commit's push and fetch", f"{a / b:.2f}x ({a * 1000:.0f} ms, git {b * 1000:.0f} ms)", "<= 1.3x"),
        ("the same as two commands, Python's start included", f"{c * 1000:.0f} ms", ""),
        ("bytes of git objects, both ways", f"{statistics.median(moved) / 1000:.1f} kB", "<= 8 KB"),
    ]  # fmt: skip


def merge(top: Path, source: Path, options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Unite two clones with many new runs each."""
    from gml.ledger.unite import unite_ledger
    from gml.workspace import Workspace

    count = options.merged
    ada, bob = share(top, source, "ada", "bob")
    add_runs(ada, count, 1)
    add_runs(bob, count, 2)
    git(bob, "fetch", "-q", str(ada), f"{LEDGER}:refs/gml/other")
    theirs = git(bob, "rev-parse", "refs/gml/other")
    workspace = Workspace.open(bob)
    alone: list[float] = []
    mine = git(bob, "rev-parse", LEDGER)
    for _ in range(3):
        with timed(alone):
            unite_ledger(workspace.ledger, [theirs])
        git(bob, "update-ref", LEDGER, mine)
    sync(ada, "push")
    pushed: list[float] = []
    with timed(pushed):
        report = sync(bob, "push")
    assert report.pushed.runs >= count
    what = f"merge of two clones with {count:,} new runs each"
    return [
        (what, f"{statistics.median(alone):.2f} s", "< 3 s"),
        ("the push that meets the other's: fetch, merge, push", f"{pushed[0]:.2f} s", ""),
    ]


def clones(top: Path, source: Path, _: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Thin clones beside a whole one."""
    (ada,) = share(top, source, "ada")
    bare = ada.parent / "bare.git"
    git(ada, "commit", "-q", "--allow-empty", "-m", "start")
    git(ada, "push", "-q", "origin", "HEAD:refs/heads/main")
    rows = []
    for what, command in (
        ("`git clone` with all of `refs/gml/*`", None),
        ("`gml clone --runs-only`", ("--runs-only",)),
        ("`gml clone --since 90d`", ("--since", "90d")),
    ):
        target = top / f"clone-{len(rows)}"
        spent: list[float] = []
        first: list[float] = []
        with timed(spent):
            if command is None:
                subprocess.run(
                    [
                        "git",
                        "clone",
                        "-q",
                        "-c",
                        "remote.origin.fetch=+refs/gml/*:refs/gml/*",
                        f"file://{bare}",
                        str(target),
                    ],
                    check=True,
                )
            else:
                gml(top, "clone", f"file://{bare}", str(target), *command)
        with timed(first):
            gml(target, "ls", "-n", "5")
        aim = "usable in < 10 s" if command == ("--runs-only",) else ""
        rows.append(
            (what, f"{spent[0]:.1f} s, {size_of(target) / 1e6:.1f} MB; first `gml ls` {first[0]:.1f} s", aim)
        )
    return rows


JOB = """
import json, os, sys, time
import gml
from gml.sync.remotes import open_remote
from gml.sync.soon import push_soon
from gml.tracking import active
from gml.workspace import Workspace

top, count, over = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
begun = time.monotonic()
children = []
for number in range(count):
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(f"{top}/job-{number}")
            time.sleep(max(0.0, begun + number * over / count - time.monotonic()))
            with gml.start_run(run_name=f"job-{number}"):
                gml.log_params({"number": number})
                gml.log_metric("loss", 1 / (number + 1))
            ended = time.monotonic()
            failed = ""
            try:
                push_soon(Workspace.open())
            except Exception as error:
                failed = str(error)
            with open(f"{top}/said-{number}", "w") as file:
                json.dump([time.monotonic() - ended, failed], file)
        finally:
            os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
"""


def fleet(top: Path, _: Path, options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Jobs on clones of their own that end within a minute and push to one remote."""
    rows = []
    for mode in ("direct", "inbox"):
        place = top / mode
        place.mkdir()
        bare = place / "bare.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
        template = place / "template"
        subprocess.run(["git", "init", "-q", str(template)], check=True)
        git(template, "commit", "-q", "--allow-empty", "-m", "start")
        git(template, "remote", "add", "origin", str(bare))
        for key, value in (("gml.code", "none"), ("gml.sync.mode", mode), ("gc.auto", "0")):
            git(template, "config", key, value)
        for number in range(options.clones):
            shutil.copytree(template, place / f"job-{number}")
        span = MINUTE * options.clones / 200
        subprocess.run([sys.executable, "-c", JOB, str(place), str(options.clones), str(span)], check=True)
        said = [json.loads(path.read_text()) for path in place.glob("said-*")]
        waits = sorted(wait for wait, _ in said)
        failed = sum(bool(text) for _, text in said)
        boss = place / "boss"
        shutil.copytree(template, boss)
        gml(boss, "pull")
        found = len(json.loads(gml(boss, "ls", "-n", "1000", "--json")))
        rows.append(
            (
                f"{options.clones} clones push within {span:.0f} s, mode `{mode}`: lost, failed; wait after the end, median and longest",
                f"{options.clones - found} lost, {failed} failed; {statistics.median(waits):.1f} s, {waits[-1]:.1f} s",
                "0 lost, < 60 s",
            )
        )
    return rows


def growth(top: Path, source: Path, options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Bytes a run after packing."""
    repo = copy(source, top / "packed")
    spent: list[float] = []
    with timed(spent):
        gml(repo, "gc")
    each = size_of(repo / ".git" / "objects") / options.runs
    return [("git objects after `gml gc`, a run", f"{each:,.0f} bytes ({spent[0]:.1f} s)", "<= 2.2 KB")]


def container(top: Path, _: Path, __: argparse.Namespace) -> list[tuple[str, str, str]]:
    """A new environment without a git command: from `pip install` to a pushed run, over HTTP."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "sync"))
    import servers

    if not servers.find("lighttpd"):
        return [("machine without git", "skipped: no lighttpd here", "")]
    root = top / "served"
    bare = root / "team.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    for key in ("http.receivepack", "uploadpack.allowFilter"):
        git(bare, "config", key, "true")
    venv = top / "venv"
    installed: list[float] = []
    pushed: list[float] = []
    (top / "lighttpd").mkdir()
    with servers.http_server(top / "lighttpd", root) as server:
        with timed(installed):
            subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
            subprocess.run(
                [str(venv / "bin" / "pip"), "install", "-q", str(Path(__file__).parents[1])], check=True
            )
        environ = {
            "PATH": str(venv / "bin"), "HOME": str(top / "home"), "GML_REPO": server.url(bare.relative_to(root)),
            "GML_TOKEN": servers.TOKEN, "GML_TOKEN_USER": servers.USER, **server.environ,
        }  # fmt: skip
        (top / "home").mkdir()
        assert shutil.which("git", path=environ["PATH"]) is None
        command = [
            str(venv / "bin" / "gml"),
            "log",
            "--push",
            "-x",
            "churn",
            "--",
            str(venv / "bin" / "python"),
            "-c",
            "print('loss=0.5')",
        ]
        with timed(pushed):
            subprocess.run(command, env=environ, check=True, capture_output=True, cwd=top / "home")
    runs = git(bare, "ls-tree", "-r", "--name-only", LEDGER).count("runs/")
    assert runs >= 1
    mega = size_of(venv) / 1e6
    return [
        (
            "without a git command: `pip install`, then a run that is pushed over HTTP",
            f"{installed[0]:.0f} s and {pushed[0]:.1f} s; environment {mega:.0f} MB",
            "stated",
        )
    ]


ROWS: dict[str, Callable[[Path, Path, argparse.Namespace], list[tuple[str, str, str]]]] = {
    "one": one_run, "merge": merge, "clone": clones, "growth": growth, "fleet": fleet, "container": container,
}  # fmt: skip


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100_000, help="runs in the repository")
    parser.add_argument("--merged", type=int, default=5_000, help="new runs in each of two clones")
    parser.add_argument("--clones", type=int, default=200, help="jobs of the fleet")
    parser.add_argument("--only", action="append", choices=ROWS, default=[])
    parser.add_argument("--keep", type=Path, help="keep generated repositories here for the next time")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    lines = [
        f"{machine()}; gml {version(sys.executable, 'gml')}; {options.runs:,} runs.",
        "",
        "| what | measured | aim |",
        "|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory(prefix="gml-sync-") as scratch:
        os.environ.update(
            HOME=scratch, GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1", EMAIL="ada@example.org"
        )
        source = prepared(str(options.runs), options.keep or Path(scratch))()
        for name in options.only or ROWS:
            place = Path(scratch, name)
            place.mkdir()
            for what, measured, aim in ROWS[name](place, source, options):
                lines.append(f"| {what} | {measured} | {aim} |")
                print(lines[-1], flush=True)
            shutil.rmtree(place)
    if options.write:
        text = DOCS.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        after = rest.partition(END)[2]
        body = "\n".join(lines)
        DOCS.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
