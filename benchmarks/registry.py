"""Measure the registry: fresh processes, medians. `gto` is the peer where it is installed (--gto PYTHON).

python benchmarks/registry.py                         # everything; about three minutes
python benchmarks/registry.py --records 1000 --repeat 2
python benchmarks/registry.py --gto /tmp/gto/bin/python --tags 1200
"""

from __future__ import annotations

import argparse
import json
import os
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


def measure(records: int, changes: int, repeat: int) -> list[tuple[str, float]]:
    gml = str(BIN / "gml")
    rows = []
    with tempfile.TemporaryDirectory() as top:
        home = Path(top) / "home"
        write_key(home)
        small, large = Path(top) / "small", Path(top) / "large"
        build(small, 10, 2, home)
        lab = build(large, records, changes, home)
        rows.append((f"gate, one more version at {records:,} records", gate(lab, large, home, repeat)))
        for name, argv in (
            ("show", ["show", "churn"]), ("history", ["history", "churn"]), ("blame", ["blame", "churn", "Staging"]),
        ):  # fmt: skip
            rows.append(
                (
                    f"gml registry {name}, {changes:,} stage changes",
                    timed([gml, "registry", *argv], large, home, repeat),
                )
            )
        rows.append(
            (
                f"gml registry verify --full, {changes:,} changes and more",
                timed([gml, "registry", "verify", "--full"], large, home, 1),
            )
        )
        rows.append(
            ("gml registry verify, nothing new", timed([gml, "registry", "verify"], large, home, repeat))
        )
        for path, size in ((small, 10), (large, records)):
            run_once(path, home)
            argv = [gml, "registry", "register", "churn", "--path", "model"]
            rows.append((f"gml registry register at {size:,} records", timed(argv, path, home, repeat)))
            for number in range(repeat):
                version = str(number % 2 + 1) if size == 10 else str(3 + number % 2)
                rows.append(
                    (
                        f"gml registry promote at {size:,} records",
                        timed(
                            [gml, "registry", "promote", "churn", version, "--to", "Staging"], path, home, 1
                        ),
                    )
                )
    return rows


GTO = """
import subprocess, sys, time
from pathlib import Path
count = int(sys.argv[1])
subprocess.run(["git", "init", "-q", "."], check=True)
subprocess.run(["git", "commit", "-q", "--allow-empty", "-m", "x"], check=True)
head = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
lines = [f"create refs/tags/churn@v0.0.{n} {head}" for n in range(1, 3)]
data = ""
for n in range(1, count + 1):
    name = f"churn#prod#{n}"
    body = f"object {head}\\ntype commit\\ntag {name}\\ntagger a <a@b> {1700000000 + n} +0000\\n\\nx\\n"
    oid = subprocess.run(["git", "hash-object", "-t", "tag", "-w", "--stdin"], input=body, text=True, capture_output=True, check=True).stdout.strip()
    lines.append(f"create refs/tags/{name} {oid}")
for n in range(1, 3):
    body = f"object {head}\\ntype commit\\ntag churn@v0.0.{n}\\ntagger a <a@b> {1690000000 + n} +0000\\n\\nx\\n"
    oid = subprocess.run(["git", "hash-object", "-t", "tag", "-w", "--stdin"], input=body, text=True, capture_output=True, check=True).stdout.strip()
    lines[n - 1] = f"create refs/tags/churn@v0.0.{n} {oid}"
subprocess.run(["git", "update-ref", "--stdin"], input="\\n".join(lines) + "\\n", text=True, check=True)
for argv in (["show"], ["history"], ["register", "churn"], ["assign", "churn", "--version", "v0.0.3", "--stage", "prod"]):
    start = time.perf_counter()
    done = subprocess.run([str(Path(sys.executable).parent / "gto"), *argv], capture_output=True, text=True)
    print(f"gto {argv[0]}, {count} assignments\\t{time.perf_counter() - start:.3f}\\t{done.returncode}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=3_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--gto", help="a Python that has gto installed")
    parser.add_argument("--tags", type=int, default=1_200, help="assignments for gto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options.records, options.changes, options.repeat)
    merged: dict[str, list[float]] = {}
    for name, seconds in rows:
        merged.setdefault(name, []).append(seconds)
    found = {name: statistics.median(values) for name, values in merged.items()}
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        for name, seconds in found.items():
            print(f"{name:60} {seconds:8.3f} s")
    if options.gto:
        with tempfile.TemporaryDirectory() as top:
            subprocess.run(
                [options.gto, "-c", GTO, str(options.tags)], cwd=top, env=environ(Path(top)), check=True
            )


if __name__ == "__main__":
    main()
