"""Tools that keep large files, each driven the way its users drive it; what is timed is one command."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent


class FailedError(Exception):
    """A command of a tool failed."""


def command(argv: list[str], cwd: Path, environ: dict[str, str]) -> float:
    """Run a command and return the seconds it took."""
    os.sync()
    began = time.perf_counter()
    done = subprocess.run(
        argv, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - began
    if done.returncode:
        raise FailedError(f"{' '.join(argv[:4])}: {(done.stderr or done.stdout)[-600:]}")
    return took


def peak_memory(argv: list[str], cwd: Path, environ: dict[str, str]) -> float:
    """Run a command and return its largest resident size in MB."""
    script = (
        "import resource, subprocess, sys;"
        "subprocess.run(sys.argv[1:], check=True, stdout=2);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *argv],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FailedError(done.stderr[-600:])
    return int(done.stdout.split()[-1]) * resource.getpagesize() / 4096 / 1000


def stored(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


class Tool:
    """One tool in one new folder."""

    name = ""
    kept = ""

    def __init__(self, place: Path, endpoint: str = "", peers: Path = BIN) -> None:
        self.place = place
        self.endpoint = endpoint
        self.peers = peers
        home = place.with_name(f"{place.name}-home")
        place.mkdir(parents=True)
        home.mkdir()
        self.environ = {
            "PATH": f"{peers}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "b", "GIT_AUTHOR_EMAIL": "b@example.org",
            "GIT_COMMITTER_NAME": "b", "GIT_COMMITTER_EMAIL": "b@example.org",
            "AWS_ACCESS_KEY_ID": os.environ.get("BENCH_KEY", ""),
            "AWS_SECRET_ACCESS_KEY": os.environ.get("BENCH_SECRET", ""),
            "AWS_DEFAULT_REGION": "eu-x-1", "AWS_ENDPOINT_URL": endpoint, "AWS_EC2_METADATA_DISABLED": "true",
            # rclone's server does not know the trailing checksums that newer clients of AWS send.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "DVC_NO_ANALYTICS": "1", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes", "BORG_BASE_DIR": str(home),
        }  # fmt: skip
        self.start()

    def run(self, *argv: str) -> float:
        """Run a command in the folder."""
        return command(list(argv), self.place, self.environ)

    def start(self) -> None:
        """Prepare a repository; not timed."""

    def put(self, name: str) -> float:
        """Store a file or folder of the folder."""
        raise NotImplementedError

    def get(self, name: str) -> float:
        """Bring it back."""
        raise NotImplementedError

    def stored(self) -> int:
        """Return the bytes that the store has."""
        return stored(self.place / self.kept)

    def git_init(self) -> None:
        """Make a git repository with one commit."""
        self.run("git", "init", "-q", "-b", "main")
        self.run("git", "commit", "-q", "--allow-empty", "-m", "start")


class Gml(Tool):
    """gml."""

    name = "gml"
    kept = ".git/gml/cas"

    def start(self) -> None:
        self.environ["PATH"] = f"{BIN}:{self.environ['PATH']}"
        self.git_init()
        self.run("gml", "log", "-q", "--", "true")
        if self.endpoint:
            self.run("gml", "config", "artifacts.remote.s3.url", "s3://bench/gml")

    def put(self, name: str) -> float:
        return self.run("gml", "artifacts", "put", "@", name)

    def get(self, name: str) -> float:
        return self.run("gml", "artifacts", "get", "@", name, "-o", "out")

    def push(self) -> float:
        return self.run("gml", "artifacts", "push", "-q")

    def pull(self) -> float:
        shutil.rmtree(self.place / self.kept)
        return self.run("gml", "artifacts", "pull", "-q")

    def stored(self) -> int:
        return sum(stored(self.place / self.kept / one) for one in ("sha256", "packs", "recipes"))


class Dvc(Tool):
    """DVC."""

    name = "dvc"
    kept = ".dvc/cache"

    def start(self) -> None:
        self.git_init()
        self.run("dvc", "init", "-q")
        self.run("dvc", "config", "core.analytics", "false")
        if self.endpoint:
            self.run("dvc", "remote", "add", "-d", "s3", "s3://bench/dvc")
            self.run("dvc", "remote", "modify", "s3", "endpointurl", self.endpoint)

    def put(self, name: str) -> float:
        return self.run("dvc", "add", "-q", name)

    def get(self, name: str) -> float:
        path = self.place / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self.run("dvc", "checkout", "-q", f"{name}.dvc")

    def push(self) -> float:
        return self.run("dvc", "push", "-q")

    def pull(self) -> float:
        shutil.rmtree(self.place / self.kept)
        return self.run("dvc", "fetch", "-q")


class Lfs(Tool):
    """git-lfs."""

    name = "git-lfs"
    kept = ".git/lfs"

    def start(self) -> None:
        self.git_init()
        self.run("git", "lfs", "install", "--local")
        (self.place / ".gitattributes").write_text(
            "*.bin filter=lfs -text\n*.csv filter=lfs -text\n*.parquet filter=lfs -text\n"
        )

    def put(self, name: str) -> float:
        return self.run("git", "add", name)

    def get(self, name: str) -> float:
        (self.place / name).unlink()
        return self.run("git", "checkout", "-q", "--", name)


class Borg(Tool):
    """BorgBackup, not encrypted, lz4 as it does by itself."""

    name = "borg"
    kept = "repository"

    def start(self) -> None:
        self.run("borg", "init", "-e", "none", "repository")
        self.count = 0

    def put(self, name: str) -> float:
        self.count += 1
        return self.run("borg", "create", f"repository::{self.count}", name)

    def get(self, name: str) -> float:
        out = self.place / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        return command(["borg", "extract", f"{self.place}/repository::{self.count}", name], out, self.environ)


class Aws(Tool):
    """`aws s3 cp --recursive`: no store, only the transfer."""

    name = "aws s3 cp"

    def push_folder(self, name: str) -> float:
        return self.run("aws", "s3", "cp", "--quiet", "--recursive", name, "s3://bench/aws")

    def pull_folder(self) -> float:
        return self.run("aws", "s3", "cp", "--quiet", "--recursive", "s3://bench/aws", "out")
