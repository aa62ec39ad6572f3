"""Storage that is full, limited, read-only, cut off or damaged."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from lab import Known, Row, check, find_lost, fsck, git, image, mount, new_repo, tmpfs, unmount, worker

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = (0, 1, 100, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 40_000, 100_000)


def gml(repo: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gml", "-C", str(repo), *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def one_line(row: Row, done: subprocess.CompletedProcess[str], what: str) -> None:
    """A command that cannot do its work says so in one line."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if not done.returncode or "Traceback" in done.stderr or len(lines) not in {1, 2}:
        row.add(f"{what}: exit {done.returncode}: {done.stderr[-300:]}", "blocked")


def full_disk(top: Path, trials: int) -> Row:
    """A file system of 1.5 MB that fills while runs are logged, and is freed again."""
    row = Row("full file system of 1.5 MB")
    for number in range(trials):
        place = top / f"full-{number}"
        with tmpfs(place, "1500k") as reason:
            row.skipped = reason
            if reason:
                return row
            _fill(place, number, row)
    return row


def _fill(place: Path, number: int, row: Row) -> None:
    repo = new_repo(place)
    known = Known()
    filler = place / "filler"
    with worker(repo) as process:
        known.note(process.do("log", 0)[0])
        free = shutil.disk_usage(place).free
        filler.write_bytes(b"x" * max(0, free - 3_000 * number))
        for operation in ("log", "log", "edit", "register", "gc", "log"):
            said, _ = process.do(operation, number)
            known.note(said)
            row.trials += 1
            if operation == "log" and any(line[0] == "began" for line in said) and said[-1][0] == "error":
                row.add(f"the training was told {said[-1]}", "blocked")
        filler.unlink()
        for operation in ("recover", "log", "edit", "register"):
            said, code = process.do(operation, 100 + number)
            known.note(said)
            if code:
                row.add(f"with space again: {operation}: {said}", "blocked")
    check(repo, row, known, f"disk {number}")


def file_limit(top: Path) -> Row:
    """No file may grow beyond a limit."""
    row = Row(f"RLIMIT_FSIZE of {LIMITS[0]} to {LIMITS[-1]:,} bytes")
    repo = new_repo(top)
    known = Known()
    with worker(repo) as process:
        known.note(process.do("log", 0)[0])
    for limit in LIMITS:
        with worker(repo, FSIZE=str(limit)) as process:
            for operation in ("log", "edit", "register"):
                said, _ = process.do(operation, limit)
                known.note(said)
                row.trials += 1
                if operation == "log" and any(line[0] == "began" for line in said) and said[-1][0] == "error":
                    row.add(f"limit {limit}: the training was told {said[-1]}", "blocked")
            if process.do("recover")[1]:
                row.add(f"limit {limit}: recover", "blocked")
    with worker(repo) as process:
        for operation in ("log", "edit", "register"):
            if process.do(operation, 7)[1]:
                row.add(f"without a limit: {operation}", "blocked")
    check(repo, row, known, "limits")
    return row


def read_only(top: Path) -> Row:
    """A file system that was mounted read-only: reads work, each write has one clear line."""
    row = Row("read-only file system")
    disk, place = top / "disk.img", top / "disk"
    row.skipped = image(disk, place, megabytes=32)
    if row.skipped:
        return row
    known = Known()
    try:
        repo = new_repo(place)
        with worker(repo) as process:
            for number in range(3):
                known.note(process.do("log", number)[0])
            known.note(process.do("register", 1)[0])
    finally:
        unmount(place)
    failed = mount(disk, place, "ro")
    if failed:
        row.skipped = failed
        return row
    try:
        for args in (
            ("ls",),
            ("show", "@"),
            ("registry", "ls"),
            ("status",),
            ("history", "loss"),
            ("doctor",),
        ):
            row.trials += 1
            done = gml(repo, *args)
            if done.returncode or not done.stdout.strip():
                row.add(f"gml {' '.join(args)}: {done.stderr[-300:]}", "blocked")
        writes = (("tag", "@", "a=b"), ("rm", "@"), ("gc",), ("registry", "alias", "churn", "best", "1"))
        for args in (*writes, ("log", "--", "true")):
            row.trials += 1
            one_line(row, gml(repo, *args), f"gml {' '.join(args)}")
        for missing in find_lost(repo, known):
            row.add(missing)
        row.acknowledged += known.count
    finally:
        unmount(place)
    return row


def cut_journal(top: Path, step: int = 1) -> Row:
    """The journal of a dead run, cut at every byte: the longest whole beginning, and nothing else."""
    from gml.domain.errors import GmlError
    from gml.tracking.journal.fold import SessionFold

    row = Row(f"journal cut at {'every byte' if step == 1 else f'every {step}th byte'}")
    repo = new_repo(top / "origin")
    known = Known()
    with worker(repo) as process:
        known.note(process.do("log", 1)[0])
        known.note(process.do("abandon", 1)[0])
    (journal,) = (repo / ".git/gml/journal").glob("[0-9a-f]" * 32)
    scratch = top / "cut" / journal.name
    for file in sorted(journal.glob("*.log")):
        data = file.read_bytes()
        for cut in range(0, len(data) + 1, step):
            row.trials += 1
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.copytree(journal, scratch)
            (scratch / file.name).write_bytes(data[:cut])
            whole = data[:cut].count(b"\n")
            fold = SessionFold(scratch, _seal)
            try:
                fold.update()
            except GmlError as error:
                row.add(f"{file.name} at {cut}: {error}", "blocked")
                continue
            _prefix(row, fold, file.name, data, whole, cut)
            if cut % (32 * step) == 0:
                _recovered(row, repo, top / "whole", journal, file, data[:cut])
    row.acknowledged = row.trials
    return row


def _seal(data: bytes, points: int) -> dict:
    return {"size": len(data), "points": points}


def _prefix(row: Row, fold, name: str, data: bytes, whole: int, cut: int) -> None:
    if not name.startswith("p-"):
        return
    logged = [json.loads(line[9:]) for line in data.split(b"\n")[:whole]]
    expected = [event[2] for event in logged if event[0] == "m"]
    facts = fold.history.metrics_json().get("loss")
    last = facts["last"] if facts else None
    if last != (expected[-1] if expected else None):
        row.add(f"{name} at {cut}: {last} instead of {expected[-1:]}", "corrupt")


def _recovered(row: Row, repo: Path, copy: Path, journal: Path, file: Path, data: bytes) -> None:
    """A whole recovery from such a journal in a copy of the repository."""
    from gml.tracking.commit import commit_sessions
    from gml.tracking.reader import Reader
    from gml.workspace import Workspace

    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(repo, copy)
    (copy / ".git/gml/journal" / journal.name / file.name).write_bytes(data)
    workspace = Workspace.open(copy)
    commit_sessions(workspace, salvage=True)
    run = Reader(workspace).run(journal.name)
    if run is None:
        row.add(f"{file.name} at {len(data)}: the run is gone")
        return
    steps = list(Reader(workspace).history(run, "loss")[0]) if "loss" in run.metrics else []
    if steps != list(range(len(steps))) or (not file.name.startswith("p-") and len(steps) != 40):
        row.add(f"{file.name} at {len(data)}: steps {steps}", "corrupt")


def stale_locks(top: Path) -> Row:
    """Lock files of git that a dead process left: the next writer goes on."""
    row = Row("stale lock files of git and gml")
    repo = new_repo(top)
    known = Known()
    names = (
        "refs/gml/ledger.lock", "refs/gml/code.lock", "refs/heads/gml/registry.lock", "refs/tags/gml/churn/v9.lock", "packed-refs.lock", "index.lock",
        "HEAD.lock", "config.lock", "shallow.lock", "gc.pid", "gml/registry.lock", "gml/ledger.lock", "objects/maintenance.lock",
    )  # fmt: skip
    with worker(repo) as process:
        known.note(process.do("log", 0)[0])
        known.note(process.do("register", 0)[0])
        for number, name in enumerate(names, 1):
            lock = repo / ".git" / name
            lock.parent.mkdir(parents=True, exist_ok=True)
            made = not lock.exists()
            if made:
                lock.write_text("999999 elsewhere\n" if name == "gc.pid" else "")
            for operation in ("log", "edit", "register"):
                row.trials += 1
                said, code = process.do(operation, number)
                known.note(said)
                if code or not any(line[0] in {"end", "t", "v"} for line in said):
                    row.add(f"{name}: {operation}: {said[-1:]}", "blocked")
            if made:
                lock.unlink(missing_ok=True)
    check(repo, row, known, "locks")
    return row


def damage(top: Path, trials: int, seed: int = 1) -> Row:
    """Missing, cut and flipped objects and packs: named by the doctor, brought back from the remote."""
    row = Row("object or pack missing, cut or flipped; gml doctor --repair")
    rng = random.Random(seed)
    origin = new_repo(top / "origin", remote=True)
    known = Known()
    with worker(origin) as process:
        for number in range(6):
            known.note(process.do("log", number)[0])
        process.do("push")
    for number in range(trials):
        copy = top / f"copy-{number}"
        shutil.copytree(origin, copy)
        packed = number % 4 == 3
        if packed:
            _pack_ledger(copy)
        else:
            _unpack(copy)
        objects = copy / ".git/objects"
        files = objects.glob("pack/*.pack") if packed else objects.glob("??/*")
        files = sorted(file for file in files if _wanted(copy, file, packed=packed))
        victim = rng.choice(files)
        how = ("missing", "cut", "flipped")[number % 3]
        _break(victim, how, rng)
        row.trials += 1
        seen = subprocess.run(["git", "-C", str(copy), "fsck", "--full"], capture_output=True, check=False)
        if not seen.returncode:
            # A cut that took nothing but a checksum that git does not look at.
            row.trials -= 1
            shutil.rmtree(copy)
            continue
        found = gml(copy, "doctor")
        if found.returncode != 9 or "Traceback" in found.stderr:
            row.add(f"{how} {victim.name}: doctor: {found.returncode} {found.stderr[-200:]}", "corrupt")
        repaired = gml(copy, "doctor", "--repair")
        if repaired.returncode or "Traceback" in repaired.stderr:
            row.add(
                f"{how} {victim.name}: repair: {repaired.stdout[-300:]} {repaired.stderr[-200:]}", "blocked"
            )
        check(copy, row, known, f"{how} {victim.name}")
        shutil.rmtree(copy)
    fsck(origin, row, "origin")
    return row


def _unpack(repo: Path) -> None:
    """Give each object a file of its own."""
    packs = list((repo / ".git/objects/pack").glob("*.pack"))
    for pack in packs:
        aside = repo / ".git" / pack.name
        pack.rename(aside)
        pack.with_suffix(".idx").unlink()
        with aside.open("rb") as file:
            subprocess.run(["git", "-C", str(repo), "unpack-objects", "-q"], stdin=file, check=True)
        aside.unlink()


def _pack_ledger(repo: Path) -> None:
    """Put the ledger into one pack; what is only the user's stays apart."""
    _unpack(repo)
    listed = git(repo, "rev-list", "--objects", "--no-object-names", "refs/gml/ledger")
    command = ["git", "-C", str(repo), "pack-objects", "-q", str(repo / ".git/objects/pack/pack")]
    subprocess.run(command, input=listed + "\n", text=True, check=True, stdout=subprocess.DEVNULL)
    git(repo, "prune-packed", "-q")


def _wanted(repo: Path, file: Path, *, packed: bool) -> bool:
    """Whether the ledger needs an object: what belongs to the user's branches is not ours to bring back."""
    if packed:
        return True
    oid = file.parent.name + file.name
    return oid in _ledger_objects(repo)


_LEDGER: dict[Path, frozenset[str]] = {}


def _ledger_objects(repo: Path) -> frozenset[str]:
    if repo not in _LEDGER:
        listed = git(repo, "rev-list", "--objects", "refs/gml/ledger")
        _LEDGER[repo] = frozenset(line.split()[0] for line in listed.splitlines())
    return _LEDGER[repo]


def _break(file: Path, how: str, rng: random.Random) -> None:
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    if how == "missing":
        file.unlink()
        return
    if how == "cut":
        del data[rng.randrange(len(data)) :]
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
