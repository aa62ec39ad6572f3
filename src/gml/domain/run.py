"""A run as readers see it: the record of its creator with all later edits folded in.

A run is stored as documents (JSON objects): one *record* written by the session that created it and
any number of *edits*, each written by one later session (a resume, a tag set from another clone, a
deletion). Documents and their keys are specified in docs/format.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gml.domain.metrics import MetricSummary
from gml.domain.names import TAG_NOTE, TAG_PARENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Document: TypeAlias = "dict[str, Any]"

RECORD_FORMAT: Final = "gml-run 1"
EDIT_FORMAT: Final = "gml-edit 1"

RUNNING: Final = "RUNNING"
SCHEDULED: Final = "SCHEDULED"
FINISHED: Final = "FINISHED"
FAILED: Final = "FAILED"
KILLED: Final = "KILLED"
STATUSES: Final = (RUNNING, SCHEDULED, FINISHED, FAILED, KILLED)

SHREDDED: Final = "shredded"
LINKED: Final = "link"

ACTIVE: Final = "active"
DELETED: Final = "deleted"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a run.

    Attributes:
        sha256: digest of its bytes, hexadecimal.
        size: bytes.
        at: `git` when the bytes are a blob in the ledger tree, `cas` in the artifact store, `stage`
            while a live run keeps them beside its journal, `link` when they stay at `url`, `shredded` when
            they were deleted on purpose.
        tombstone: of a shredded one `reason`, `by` and `time` (milliseconds since the epoch).
        url: of a linked one.
    """

    sha256: str
    size: int
    at: str = "cas"
    tombstone: Mapping[str, Any] | None = None
    url: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's form."""
        more = {"url": self.url} if self.url is not None else self.tombstone or {}
        return {"at": self.at, "sha256": self.sha256, "size": self.size, **more}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Artifact:
        """Inverse of `to_json`."""
        at = str(data.get("at", "cas"))
        tombstone = {key: data.get(key) for key in ("reason", "by", "time")} if at == SHREDDED else None
        url = str(data.get("url", "")) if at == LINKED else None
        return cls(str(data["sha256"]), int(data["size"]), at, tombstone, url)


@dataclass(frozen=True, slots=True)
class HistoryPart:
    """Where the points of one document are.

    Attributes:
        session: session that wrote the document; empty for the record.
        inline: key -> list of [step, timestamp, value].
        segments: descriptors of history files, oldest first.
    """

    session: str
    inline: Mapping[str, list[list[Any]]]
    segments: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One run. Times are milliseconds since the epoch.

    Attributes:
        run_id: 32 hexadecimal digits, or what an importer found.
        experiment_id: decimal digits derived from the experiment's first name.
        name: display name, not unique.
        user: who started it.
        status: RUNNING, SCHEDULED, FINISHED, FAILED or KILLED.
        start_time: when it started.
        end_time: when it ended, None while it runs.
        lifecycle_stage: `active` or `deleted`.
        params: write-once inputs.
        tags: labels that may change.
        metrics: summaries by key.
        artifacts: files by path.
        inputs: data sets that were read.
        outputs: models and the like that were produced.
        source: code and command that ran.
        environment: digest and main facts of the environment.
        process: exit code and resource use of the tracked process.
        history: where the metric points are.
        live: whether a process still writes to it.
    """

    run_id: str
    experiment_id: str
    name: str
    user: str
    status: str
    start_time: int
    end_time: int | None
    lifecycle_stage: str = ACTIVE
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, MetricSummary] = field(default_factory=dict)
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    inputs: tuple[Mapping[str, Any], ...] = ()
    outputs: tuple[Mapping[str, Any], ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    process: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[HistoryPart, ...] = ()
    live: bool = False

    @property
    def parent_run_id(self) -> str | None:
        """Id of the run this one is nested in."""
        return self.tags.get(TAG_PARENT)

    @property
    def description(self) -> str | None:
        """The note that people write about a run."""
        return self.tags.get(TAG_NOTE)

    @property
    def duration(self) -> int | None:
        """Milliseconds from start to end, None while it runs."""
        return None if self.end_time is None else max(0, self.end_time - self.start_time)


def fold(run_id: str, record: Document | None, edits: Iterable[Document]) -> Run:
    """Return the run that a record and its edits describe.

    Edits apply in the order of (clock, session), which is the same in every clone whatever the
    clocks said. Params keep their first value; everything else takes the latest.

    Args:
        run_id: the run's id.
        record: the creator's document; None where only edits have arrived so far.
        edits: all edit documents, in any order.
    """
    base: Document = record or {}
    ordered = sorted(edits, key=lambda e: (e.get("clock", 0), str(e.get("session", ""))))
    documents = [base, *ordered]
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: dict[str, MetricSummary] = {}
    artifacts: dict[str, Artifact] = {}
    inputs: dict[str, Mapping[str, Any]] = {}
    outputs: dict[str, Mapping[str, Any]] = {}
    scalars: dict[str, Any] = {}
    sections: dict[str, Mapping[str, Any]] = {}
    history: list[HistoryPart] = []
    for document in documents:
        for key, value in document.get("params", {}).items():
            params.setdefault(key, value)
        for key, value in document.get("tags", {}).items():
            if value is None:
                tags.pop(key, None)
            else:
                tags[key] = value
        for key, value in document.get("artifacts", {}).items():
            if value is None:
                artifacts.pop(key, None)
            else:
                artifacts[key] = Artifact.from_json(value)
        for entry in document.get("inputs", ()):
            inputs[f"{entry.get('name')}\n{entry.get('digest')}\n{entry.get('tags')}"] = entry
        for entry in document.get("outputs", ()):
            outputs[str(entry)] = entry
        for key in ("experiment_id", "name", "user", "status", "end_time", "lifecycle_stage"):
            if key in document:
                scalars[key] = document[key]
        for key in ("source", "environment", "process"):
            if document.get(key):
                sections[key] = document[key] if key == "process" else sections.get(key, document[key])
        _fold_metrics(document, metrics, history)
    return Run(
        run_id=run_id,
        experiment_id=scalars.get("experiment_id", "0"),
        name=scalars.get("name", ""),
        user=scalars.get("user", ""),
        status=scalars.get("status", RUNNING),
        start_time=next((d["start_time"] for d in documents if "start_time" in d), 0),
        end_time=scalars.get("end_time"),
        lifecycle_stage=scalars.get("lifecycle_stage", ACTIVE),
        params=params,
        tags=tags,
        metrics=metrics,
        artifacts=artifacts,
        inputs=tuple(inputs.values()),
        outputs=tuple(outputs.values()),
        source=sections.get("source", {}),
        environment=sections.get("environment", {}),
        process=sections.get("process", {}),
        history=tuple(history),
    )


def _fold_metrics(document: Document, metrics: dict[str, MetricSummary], history: list[HistoryPart]) -> None:
    summaries = document.get("metrics")
    if not summaries:
        return
    inline = dict(document.get("history", {}))
    for key, data in summaries.items():
        summary = MetricSummary.from_json(data)
        known = metrics.get(key)
        metrics[key] = summary if known is None else known.combine(summary)
        if summary.count == 1 and key not in inline:
            inline[key] = [[data["step"], data["timestamp"], data["last"]]]
    session = document.get("session", "") if document.get("format") == EDIT_FORMAT else ""
    history.append(HistoryPart(session, inline, tuple(document.get("hist", ()))))
