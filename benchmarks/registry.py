"""Measure the registry: fresh processes, medians. `gto` is the peer where it is installed (--gto PYTHON).

python benchmarks/registry.py                         # everything; about three minutes
python benchmarks/registry.py --records 1000 --repeat 2
python benchmarks/registry.py --gto ~/gto/bin/python --tags 1200
python benchmarks/registry.py --gto ~/gto/bin/python --attacks --write     # into docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "registry"))

from registry_lab import KEYS, Lab

from gml.git.discover import open_store
from gml.policy import names

BIN = Path(sys.executable).parent
BRANCH = "refs/heads/gml/registry"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- registry: begin -->", "<!-- registry: end -->"
# what is measured -> what it should be, in seconds
AIMS = {
    "gate": 0.3, "show": 0.3, "history": 0.3, "blame": 0.3, "verify --full": 2.0, "verify, nothing new": 0.1,
    "register": 0.3, "promote": 0.3,
}  # fmt: skip


def environ(home: Path) -> dict[str, str]:
    return {
        **os.environ, "HOME": str(home), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "alice", "GIT_AUTHOR_EMAIL": "alice@example.org", "GIT_COMMITTER_NAME": "alice",
        "GIT_COMMITTER_EMAIL": "alice@example.org", "PATH": f"{BIN}:{os.environ['PATH']}",
    }  # fmt: skip


def build(path: Path, versions: int, changes: int, home: Path) -> Lab:
    """Write a repository with so many versions, spread over models, and so many changes of one stage."""
    subprocess.run(["git", "init", "-q", "-b", "main", str(path)], check=True, env=environ(home))
    lab = Lab()
    lab.clock = int(time.time()) - 20 * (versions + changes) - 1_000
    tip = lab.commit(None, {"format": b"gml-registry 1\n", "policy.yaml": lab.policy_bytes})
    for number in (1, 2):
        tip = lab.commit(tip, {names.version_path("churn", number): lab.version(number)})
    for turn in range(changes):
        tip = lab.commit(tip, lab.change(tip, turn % 2 + 1, "Staging", approvers=()))
    made = 2
    while made < versions:
        count = min(100, versions - made)
        at = (made - 2) % 1_000
        model = f"model-{(made - 2) // 1_000}"
        count = min(count, 1_000 - at)
        numbers = range(at + 1, at + count + 1)
        tip = lab.commit(tip, {names.version_path(model, n): lab.version(n, model=model) for n in numbers})
        made += count
    store = open_store(path, environ=environ(home))
    store.write_pack(list(lab.objects.values()))
    store.update_ref(BRANCH, tip, expected=None, message="built")
    return lab


def timed(argv: list[str], cwd: Path, home: Path, repeat: int) -> float:
    found = []
    for _ in range(repeat):
        start = time.perf_counter()
        done = subprocess.run(argv, cwd=cwd, env=environ(home), capture_output=True, text=True, check=False)
        found.append(time.perf_counter() - start)
        if done.returncode:
            raise SystemExit(f"{argv} ended with {done.returncode}: {done.stderr}")
    return statistics.median(found)


def gate(lab: Lab, path: Path, home: Path, repeat: int) -> float:
    """Return the seconds of the hook alone, for a push of one more version."""
    store = open_store(path, environ=environ(home))
    tip = store.ref(BRANCH)
    lab.clock = int(time.time())
    new = lab.commit(tip, {names.version_path("churn", 3): lab.version(3)})
    store.write_pack(list(lab.objects.values())[-12:])
    line = f"{tip} {new} {BRANCH}\n"
    found = []
    for _ in range(repeat):
        start = time.perf_counter()
        done = subprocess.run(
            [str(BIN / "gml"), "hooks", "run", "pre-receive"], input=line, text=True, capture_output=True,
            env=environ(home) | {"GIT_DIR": str(path / ".git")}, check=False,
        )  # fmt: skip
        found.append(time.perf_counter() - start)
        if done.returncode:
            raise SystemExit(done.stderr)
    return statistics.median(found)


def run_once(path: Path, home: Path) -> None:
    code = 'import gml\nwith gml.start_run():\n    gml.log_metric("auc", 0.9)\n    gml.log_text("{}", "model/w.json")\n'
    subprocess.run([sys.executable, "-c", code], cwd=path, env=environ(home), check=True, capture_output=True)


def write_key(home: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    (home / ".ssh").mkdir(parents=True)
    private = home / ".ssh" / "id_ed25519"
    private.write_bytes(
        KEYS["alice"].private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    )
    private.chmod(0o600)
    (home / ".ssh" / "id_ed25519.pub").write_text(f"{KEYS['alice'].public}\n")


def measure(records: int, changes: int, repeat: int) -> dict[str, float]:
    """Return seconds by what was measured; one line a kind of `AIMS`."""
    gml = str(BIN / "gml")
    rows: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as top:
        home = Path(top) / "home"
        write_key(home)
        small, middle, large = (Path(top) / name for name in ("small", "middle", "large"))
        build(small, 10, 2, home)
        build(middle, 10, 1_000, home)
        lab = build(large, records, changes, home)
        rows[f"gate: the hook of a push of one more version, {records:,} records"] = gate(
            lab, large, home, repeat
        )
        for name, argv in (
            ("show", ["show", "churn"]), ("history", ["history", "churn"]), ("blame", ["blame", "churn", "Staging"]),
        ):  # fmt: skip
            found = []
            for _ in range(repeat):
                shutil.rmtree(large / ".git" / "gml", ignore_errors=True)
                found.append(timed([gml, "registry", *argv], large, home, 1))
            rows[f"{name}: {changes:,} stage changes, nothing remembered"] = statistics.median(found)
        full = [gml, "registry", "verify", "--full"]
        rows["verify --full: 1,000 stage changes"] = timed(full, middle, home, repeat)
        rows[f"verify --full: {changes:,} stage changes, {records:,} versions"] = timed(full, large, home, 1)
        again = [gml, "registry", "verify"]
        rows["verify, nothing new: the same"] = timed(again, large, home, repeat)
        for path, size in ((small, 10), (large, records)):
            run_once(path, home)
            argv = [gml, "registry", "register", "churn", "--path", "model"]
            rows[f"register: at {size:,} records"] = timed(argv, path, home, repeat)
            found = []
            for number in range(repeat):
                version = str(number % 2 + 1) if size == 10 else str(3 + number % 2)
                argv = [gml, "registry", "promote", "churn", version, "--to", "Staging"]
                found.append(timed(argv, path, home, 1))
            rows[f"promote: at {size:,} records"] = statistics.median(found)
    return rows


GTO = """
import subprocess, sys, time
from pathlib import Path
count = int(sys.argv[1])
subprocess.run(["git", "init", "-q", "."], check=True)
heads = []
for n in (1, 2, 3):
    subprocess.run(["git", "commit", "-q", "--allow-empty", "-m", str(n)], check=True)
    heads.append(subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip())
def tag(name, head, when):
    body = f"object {head}\\ntype commit\\ntag {name}\\ntagger a <a@b> {when} +0000\\n\\nx\\n"
    done = subprocess.run(["git", "hash-object", "-t", "tag", "-w", "--stdin"], input=body, text=True,
                          capture_output=True, check=True)
    return f"create refs/tags/{name} {done.stdout.strip()}"
lines = [tag(f"churn@v0.0.{n}", heads[n - 1], 1690000000 + n) for n in (1, 2)]
lines += [tag(f"churn#prod#{n}", heads[n % 2], 1700000000 + n) for n in range(1, count + 1)]
subprocess.run(["git", "update-ref", "--stdin"], input="\\n".join(lines) + "\\n", text=True, check=True)
assign = ["assign", "churn", "--version", "v0.0.3", "--stage", "prod"]
for argv in (["show"], ["history"], ["register", "churn"], assign):
    start = time.perf_counter()
    done = subprocess.run([str(Path(sys.executable).parent / "gto"), *argv], capture_output=True, text=True)
    print(f"gto {argv[0]}, {count} assignments\\t{time.perf_counter() - start:.3f}\\t{done.returncode}")
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
"""


def measure_gto(python: str, tags: int) -> dict[str, float]:
    """Return the seconds of gto's verbs in a repository with so many assignments."""
    with tempfile.TemporaryDirectory() as top:
        done = subprocess.run(
            [python, "-c", GTO, str(tags)], cwd=top, env=environ(Path(top)), check=True, capture_output=True,
            text=True,
        )  # fmt: skip
    rows = {}
    for line in done.stdout.splitlines():
        parts = line.split("\t")
        if len(parts) == 3 and parts[2] == "0":
            rows[parts[0].split(",")[0].removeprefix("gto ")] = float(parts[1])
    return rows


def attack() -> list[str]:
    """Return the totals of benchmarks/attacks.py for the gate and for git's own settings."""
    lines = []
    for server, title in (("gml", "the gate"), ("plain", "git's own settings")):
        script = Path(__file__).with_name("attacks.py")
        done = subprocess.run(
            [sys.executable, str(script), "--server", server], check=True, capture_output=True, text=True
        )
        lines.append(f"- {title}: {', '.join(done.stdout.strip().splitlines())}")
    return lines


def table(rows: dict[str, float], peer: dict[str, float], tags: int) -> list[str]:
    """Return the figures as Markdown."""
    like = {"show": "show", "history": "history", "register": "register", "promote": "assign"}
    lines = [f"| what | gml | gto, {tags:,} tags | aim |", "|---|---:|---:|---|"]
    for name, seconds in rows.items():
        kind = name.split(":")[0]
        other = peer.get(like.get(kind, ""))
        aim = f"< {AIMS[kind]:g} s" if kind in AIMS and "versions" not in name else ""
        lines.append(f"| {name} | {seconds:.3g} s | {f'{other:.3g} s' if other else '–'} | {aim} |")
    return lines


def write(lines: list[str]) -> None:
    """Put the figures into the documentation."""
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=3_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--gto", help="a Python that has gto installed")
    parser.add_argument("--tags", type=int, default=1_200, help="assignments for gto")
    parser.add_argument(
        "--attacks", action="store_true", help="also count refused attacks, about six minutes"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    rows = measure(options.records, options.changes, options.repeat)
    peer = measure_gto(options.gto, options.tags) if options.gto else {}
    lines = table(rows, peer, options.tags)
    if options.attacks:
        lines += ["", "Attacks and honest changes, pushed at a real server:", "", *attack()]
    if options.write:
        write(lines)
    print(json.dumps({"gml": rows, "gto": peer}, indent=1) if options.json else "\n".join(lines))


if __name__ == "__main__":
    main()
