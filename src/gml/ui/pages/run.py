"""One run: what it was, what came of it, and what is needed to run it again."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError
from gml.domain.names import TAG_NOTE, TAG_PARENT
from gml.tracking.compare import MAX_PATCH
from gml.tracking.contents import environment, open_artifact
from gml.tracking.report.patch import split
from gml.tracking.report.text import number
from gml.ui.pages.curves import keys_of, spark
from gml.ui.source import experiment_names

if TYPE_CHECKING:
    from gml.domain.run import Artifact, Run
    from gml.tracking.reader import Reader
    from gml.tracking.report.patch import FileDiff

LOG_TAIL: Final = 64 * 1024
TEXT_PREVIEW: Final = 256 * 1024
HIDDEN_TAGS: Final = frozenset({TAG_NOTE, TAG_PARENT})
KINDS: Final = {
    "image": ("png", "jpg", "jpeg", "gif", "webp", "svg", "bmp"),
    "audio": ("wav", "mp3", "ogg", "flac"),
    "html": ("html", "htm"),
    "json": ("json",),
    "table": ("csv", "tsv"),
    "text": (
        "txt",
        "md",
        "log",
        "yaml",
        "yml",
        "toml",
        "py",
        "sh",
        "cfg",
        "ini",
        "patch",
        "jsonl",
        "r",
        "sql",
    ),
}
NAMELESS: Final = {"mlmodel": "text", "dockerfile": "text", "makefile": "text", "license": "text"}


@dataclass
class Page:
    """Everything that the page of a run shows."""

    run: Run
    experiment: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    curve_keys: list[str] = field(default_factory=list)
    files: list[FileDiff] = field(default_factory=list)
    code_note: str = ""
    environment: list[tuple[str, str]] = field(default_factory=list)
    packages: list[tuple[str, str]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    logs: list[tuple[str, str]] = field(default_factory=list)
    parent: Run | None = None
    children: list[Run] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    rerun: str = ""
    problems: list[str] = field(default_factory=list)


def page(reader: Reader, run: Run) -> Page:
    """Return the page of a run; what is damaged is named on it and the rest shown."""
    names = experiment_names(reader)
    out = Page(run, names.get(run.experiment_id, run.experiment_id))
    out.curve_keys = keys_of([run])
    out.tags = {key: value for key, value in run.tags.items() if key not in HIDDEN_TAGS}
    _metrics(reader, run, out)
    for part in (_code, _environment, _logs, _lineage):
        try:
            part(reader, run, out)
        except GmlError as error:
            out.problems.append(str(error))
    out.artifacts = [
        {"path": path, "size": facts.size, "sha256": facts.sha256, "kind": kind_of(path, facts)}
        for path, facts in sorted(run.artifacts.items(), key=lambda item: natural(item[0]))
    ]
    argv = [str(word) for word in run.source.get("argv", ())]
    out.rerun = f"gml rerun {run.run_id}" if argv else ""
    out.facts = _facts(run, argv)
    return out


def _facts(run: Run, argv: list[str]) -> list[tuple[str, str]]:
    source, process = run.source, run.process
    facts = [("command", shlex.join(argv))]
    if source.get("cwd") not in {None, "."}:
        facts.append(("directory", str(source["cwd"])))
    facts += [(key, str(source[key])) for key in ("branch", "remote", "author") if source.get(key)]
    if "exit_code" in process:
        facts.append(("exit code", str(process["exit_code"])))
    if "signal" in process:
        facts.append(("signal", str(process["signal"])))
    if process.get("cpu_seconds") is not None:
        facts.append(("CPU", f"{process['cpu_seconds']} s"))
    return [(name, value) for name, value in facts if value]


def _metrics(reader: Reader, run: Run, out: Page) -> None:
    from gml.tracking.report.curves import load, thin

    points: dict[str, Any] = {}
    try:
        points = load(reader, run, out.curve_keys[:100])
    except GmlError as error:
        out.problems.append(str(error))
    for key, summary in sorted(run.metrics.items()):
        path = ""
        if key in points:
            values = points[key][2]
            path = spark([v if v - v == 0 else None for v in values[thin(values, 120)].tolist()])
        out.metrics.append(
            {
                "key": key,
                "last": number(summary.last),
                "step": summary.step,
                "min": number(summary.min),
                "max": number(summary.max),
                "count": summary.count,
                "spark": path,
            }
        )


def _code(reader: Reader, run: Run, out: Page) -> None:
    source = run.source
    tree, commit = source.get("tree"), source.get("commit")
    if source.get("error"):
        out.code_note = f"the code could not be captured: {source['error']}"
        return
    if not source.get("dirty"):
        out.code_note = "no uncommitted changes" if commit else ""
        return
    if not isinstance(tree, str) or not reader.workspace.store.contains(tree):
        out.code_note = "the snapshot of the code is not in this repository"
        return
    base = reader.workspace.store.resolve(f"{commit}^{{tree}}") if isinstance(commit, str) else None
    out.files = split(reader.workspace.worktree.diff(base, tree, max_bytes=MAX_PATCH // 4))
    if not out.files:
        out.code_note = "nothing but files that were left out differs from the commit"


def _environment(reader: Reader, run: Run, out: Page) -> None:
    full = environment(reader, run)
    packages = full.get("packages")
    if isinstance(packages, dict):
        out.packages = sorted((str(k), str(v)) for k, v in packages.items())

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{prefix} {key}".strip(), inner)
        elif value not in (None, [], ""):
            out.environment.append((prefix, str(value)))

    add("", {key: value for key, value in full.items() if key not in {"packages", "packages_digest"}})


def _logs(reader: Reader, run: Run, out: Page) -> None:
    for name in ("stdout.txt", "stderr.txt"):
        text = log_tail(reader, run, name)
        if text:
            out.logs.append((name, text))


def log_tail(reader: Reader, run: Run, name: str) -> str:
    """Return the end of what a tracked command printed, also while it runs."""
    live = reader.workspace.journal_root / run.run_id / "logs" / name
    try:
        with live.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_TAIL))
            data = file.read(LOG_TAIL)
    except OSError:
        facts = run.artifacts.get(f"logs/{name}")
        if facts is None:
            return ""
        size = facts.size
        with open_artifact(reader, run, f"logs/{name}") as stored:
            data = stored.read()[-LOG_TAIL:]
    text = data.decode("utf-8", "replace")
    return text if size <= LOG_TAIL else f"… {size - LOG_TAIL} bytes before\n{text.partition(chr(10))[2]}"


def _lineage(reader: Reader, run: Run, out: Page) -> None:
    if run.parent_run_id:
        out.parent = reader.run(run.parent_run_id)
    out.children = reader.children(run.run_id)


def natural(text: str) -> list[tuple[int, str]]:
    """Return what sorts numbers in names by their size.

    Example:
        >>> sorted(["step_10.png", "step_9.png"], key=natural)
        ['step_9.png', 'step_10.png']
    """
    parts = re.split(r"(\d+)", text)
    return [(int(part[:30]), part) if part.isdecimal() else (-1, part) for part in parts]


def kind_of(path: str, facts: Artifact) -> str:
    """Return how a file can be shown: image, audio, html, json, table, text, or nothing."""
    name = path.rpartition("/")[2].lower()
    ending = name.rpartition(".")[2] if "." in name else ""
    kind = NAMELESS.get(name, "") if not ending else ""
    for each, endings in KINDS.items():
        if ending in endings:
            kind = each
    limit = 20_000_000 if kind in {"image", "audio"} else TEXT_PREVIEW * 4
    return kind if facts.size <= limit else ""
