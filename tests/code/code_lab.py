"""A repository with runs at chosen commits, recorded by the real recorder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gml.cli.main import run as run_cli
from gml.git.log import CommitLog
from gml.tracking import source, start
from gml.tracking.reader import Reader
from support import Done

if TYPE_CHECKING:
    import pytest


@dataclass
class Lab:
    repo: Any
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture
    names: dict[str, str] = field(default_factory=dict)

    def record(self, name: str, *, at: str | None = None, status: str = "FINISHED", experiment: str = "churn",
               params=None, tags=None, facts=None, start_time: int | None = None, defer: bool = False, **metrics: float) -> str:  # fmt: skip
        """Record a run of the work tree as it is, or, with `at`, a clean one of a commit."""
        space = self.repo.workspace()
        new = start.NewRun(experiment=experiment, name=name, params=params or {}, tags=tags or {},
                           command=["train.py"], environment={}, start_time=start_time)  # fmt: skip
        source._captured.clear()
        with self.monkeypatch.context() as patch:
            if at is not None or facts is not None:
                made = {"type": "LOCAL", "code": "snapshot", "commit": at, "dirty": False}
                if at is not None:
                    made["tree"] = CommitLog(space.store).tree(at)
                made |= facts or {}
                patch.setattr(start, "capture_source", lambda *_, **__: source.Source(made))
            recorder = start.start_new(space, new)
        for key, value in metrics.items():
            recorder.metric(key, value, 0, None)
        recorder.end(status, defer=defer)
        self.names[recorder.run_id] = name
        return recorder.run_id

    def reader(self) -> Reader:
        return Reader(self.repo.workspace())

    def gml(self, *args: object, code: int | None = 0) -> Done:
        self.capsys.readouterr()
        result = run_cli(["-C", str(self.repo.path), *map(str, args)])
        captured = self.capsys.readouterr()
        done = Done(result, captured.out, captured.err)
        assert code is None or done.code == code, done
        assert "Traceback" not in done.err
        return done

    def ls(self, *args: object) -> list[str]:
        """Names of the runs that `gml ls` lists, newest first."""
        return [run["name"] for run in self.gml("ls", *args, "--json").json]

    def err_of_ls(self, *args: object) -> str:
        return self.gml("ls", *args).err


def import_history(repo: Any, values: list[float], files: dict[str, str] | None = None) -> list[str]:
    """Add a line of commits to main, in one process; commit n holds values[n] in the file `auc`."""
    lines = []
    for number, value in enumerate(values):
        message = f"change {number}"
        lines += [
            "commit refs/heads/main",
            f"author Ada <ada@example.org> {1_700_000_000 + number * 3600} +0000",
            f"committer Ada <ada@example.org> {1_700_000_000 + number * 3600} +0000",
            f"data {len(message)}",
            message,
        ]
        if number == 0:
            lines.append("from refs/heads/main^0")
        written = {"auc": f"{value}\n", "n": f"{number}\n", **((files or {}) if number == 0 else {})}
        for name, content in written.items():
            lines += [f"M 100644 inline {name}", f"data {len(content.encode())}", content]
        lines.append("")
    repo.git("fast-import", "--quiet", "--force", data="\n".join(lines))
    repo.git("reset", "-q", "--hard", "main")
    return repo.git("rev-list", "--reverse", f"-{len(values)}", "main").split("\n")


def state_of(repo: Any) -> dict[str, object]:
    """Everything of the user's that a command must not touch."""
    git = repo.path / ".git"
    return {
        "status": repo.git("status", "--porcelain=v2", "--branch"),
        "refs": [line for line in repo.git("for-each-ref").split("\n") if "refs/gml/" not in line],
        "head": (git / "HEAD").read_text(),
        "index": (git / "index").read_bytes(),
        "config": (git / "config").read_text(),
        "worktrees": repo.git("worktree", "list", "--porcelain"),
        "files": sorted(
            str(p.relative_to(repo.path)) for p in Path(repo.path).rglob("*") if ".git" not in p.parts
        ),
    }
