"""The records of the registry: frozen values, strict readers, canonical writers.

Every record has a fixed set of keys; one more or one less is refused. docs/format.md specifies them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from gml.policy import canonical, names
from gml.policy.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VERSION_FORMAT: Final = "gml-version 1"
STAGE_FORMAT: Final = "gml-stage 1"
MODEL_FORMAT: Final = "gml-model 1"
STATEMENT_FORMAT: Final = "gml-statement 1"

DATA: Final = "data"
CODE: Final = "code"
UNKNOWN: Final = "unknown"
FORMAT_CLASSES: Final = (DATA, CODE, UNKNOWN)

REQUEST: Final = "request"
APPROVE: Final = "approval"
REJECT: Final = "rejection"
EVIDENCE: Final = "evidence"
STAGE_TYPES: Final = (REQUEST, APPROVE, REJECT, EVIDENCE)
POLICY_APPROVE: Final = "policy-approval"

NAMESPACE_APPROVAL: Final = "gml-approval-v1"
NAMESPACE_VERSION: Final = "gml-version-v1"

ARCHIVED: Final = "archived"
DELETED: Final = "deleted"

MAX_TEXT: Final = 4_000
MAX_TAGS: Final = 100
_RUN: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def _refuse(where: str, what: str) -> RefusedError:
    return RefusedError("record", f"{where}: {what}")


def _text(value: Any, limit: int = MAX_TEXT) -> bool:
    return isinstance(value, str) and len(value) <= limit and _CONTROL.search(value) is None


def _whole(value: Any, least: int = 0) -> bool:
    # `true` is an integer to Python, and no number to anybody else.
    return type(value) is int and value >= least


def _opt(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _short(value: Any) -> bool:
    return _text(value, 200) and bool(value.strip())


def _documents(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= 200
        and all(_text(path, 300) and names.is_digest(digest) for path, digest in value.items())
    )


def _tags(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_TAGS
        and all(_text(k, 250) and k and _text(v) for k, v in value.items())
    )


def _read(
    data: bytes, where: str, stated: str, checks: Mapping[str, Callable[[Any], bool]]
) -> dict[str, Any]:
    document = canonical.decode(data, where)
    if document.get("format") != stated:
        raise _refuse(where, f"format is {document.get('format')!r:.60}, expected {stated!r}")
    del document["format"]
    _match(document, where, checks)
    return document


def _match(document: dict[str, Any], where: str, checks: Mapping[str, Callable[[Any], bool]]) -> None:
    missing = sorted(checks.keys() - document.keys())
    extra = sorted(document.keys() - checks.keys())
    if missing:
        raise _refuse(where, f"the key {missing[0]!r} is missing")
    if extra:
        raise _refuse(where, f"the key {extra[0]!r:.60} does not belong there")
    for key, check in checks.items():
        if not check(document[key]):
            raise _refuse(where, f"{key} may not be {document[key]!r:.80}")


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model: append only.

    Attributes:
        model: name of the model.
        version: number; dense, from 1.
        run: id of the run that made it, None where it came from elsewhere.
        experiment: id of the run's experiment.
        path: folder or file within the run's artifacts; empty for all of them.
        digest: SHA-256 of the manifest of these files (docs/format.md).
        files: how many there are.
        size: bytes in all.
        format_class: `data`, `code` (loading runs code) or `unknown`.
        documents: ledger path -> SHA-256 of the run's record and edits as they were.
        created: milliseconds since the epoch; information only.
        creator: person of the policy, or name and address where there was none.
        description: free text.
        imported: facts of another registry, unverified; None for versions of gml.
        signature: of the creator over the record without this key; None where nobody signed.
    """

    model: str
    version: int
    run: str | None
    experiment: str | None
    path: str
    digest: str
    files: int
    size: int
    format_class: str
    documents: Mapping[str, str]
    created: int
    creator: str
    description: str = ""
    imported: Mapping[str, str] | None = None
    signature: str | None = None

    def document(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return {"format": VERSION_FORMAT} | _plain(self)

    def encode(self) -> bytes:
        """Return the record's bytes."""
        return canonical.encode(self.document())

    def payload(self) -> bytes:
        """Return what the creator signs."""
        document = self.document()
        del document["signature"]
        return canonical.encode(document)


_VERSION: Final[dict[str, Callable[[Any], bool]]] = {
    "model": names.is_model,
    "version": lambda v: _whole(v, 1),
    "run": _opt(lambda v: isinstance(v, str) and _RUN.fullmatch(v) is not None),
    "experiment": _opt(lambda v: isinstance(v, str) and v.isascii() and v.isdigit() and len(v) <= 20),
    "path": lambda v: _text(v, 1_000),
    "digest": names.is_digest,
    "files": _whole,
    "size": _whole,
    "format_class": lambda v: v in FORMAT_CLASSES,
    "documents": _documents,
    "created": _whole,
    "creator": _short,
    "description": _text,
    "imported": _opt(_tags),
    "signature": _opt(_text),
}


def _plain(record: Any) -> dict[str, Any]:
    found = {item.name: getattr(record, item.name) for item in fields(record)}
    return {key: dict(value) if isinstance(value, dict) else value for key, value in found.items()}


def read_version(data: bytes, where: str) -> Version:
    """Return the version that a file describes.

    Raises:
        RefusedError: the file breaks a rule of the format.
    """
    return Version(**_read(data, where, VERSION_FORMAT, _VERSION))


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage of a model holds.

    Attributes:
        model: name of the model.
        stage: name of the stage.
        seq: counts the changes of this stage, from 1.
        prev: SHA-256 of the record before, None for the first.
        version: number of the version, None when the stage was emptied.
        digest: digest of that version, None when the stage was emptied.
        imported: facts of another registry, unverified; None for changes made by gml.
    """

    model: str
    stage: str
    seq: int
    prev: str | None
    version: int | None
    digest: str | None
    imported: Mapping[str, str] | None = None

    def encode(self) -> bytes:
        """Return the record's bytes."""
        return canonical.encode({"format": STAGE_FORMAT} | _plain(self))


_STAGE: Final[dict[str, Callable[[Any], bool]]] = {
    "model": names.is_model,
    "stage": names.is_stage,
    "seq": lambda v: _whole(v, 1),
    "prev": _opt(names.is_digest),
    "version": _opt(lambda v: _whole(v, 1)),
    "digest": _opt(names.is_digest),
    "imported": _opt(_tags),
}


def read_stage(data: bytes, where: str) -> Stage:
    """Return the stage record that a file is.

    Raises:
        RefusedError: the file breaks a rule of the format.
    """
    record = Stage(**_read(data, where, STAGE_FORMAT, _STAGE))
    if (record.version is None) != (record.digest is None):
        raise _refuse(where, "version and digest must both be there, or both be null")
    return record


@dataclass(frozen=True, slots=True)
class VersionNote:
    """What people say about a version after it was registered.

    Attributes:
        description: replaces the one it was registered with; None keeps that.
        tags: labels.
        status: `archived`, `deleted` or None.
        reason: why it is archived or deleted.
    """

    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    status: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """What people say about a model; the one record that may change freely.

    Attributes:
        model: its name: the directory it is in.
        description: free text.
        tags: labels.
        aliases: alias -> version number.
        versions: version number as text -> what was said about it.
        alias_of: this name only stands for another model, None for a model of its own.
    """

    model: str
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, VersionNote] = field(default_factory=dict)
    alias_of: str | None = None

    def encode(self) -> bytes:
        """Return the record's bytes."""
        document = _plain(self)
        document["versions"] = {number: _plain(note) for number, note in self.versions.items()}
        return canonical.encode({"format": MODEL_FORMAT} | document)


_NOTE: Final[dict[str, Callable[[Any], bool]]] = {
    "description": _opt(_text),
    "tags": _tags,
    "status": _opt(lambda v: v in {ARCHIVED, DELETED}),
    "reason": _text,
}
_MODEL: Final[dict[str, Callable[[Any], bool]]] = {
    "model": names.is_model,
    "description": _text,
    "tags": _tags,
    "aliases": lambda v: (
        isinstance(v, dict) and all(names.is_alias(name) and _whole(number, 1) for name, number in v.items())
    ),
    "versions": lambda v: isinstance(v, dict) and all(names.NUMBER.fullmatch(number) for number in v),
    "alias_of": _opt(names.is_model),
}


def read_model(data: bytes, where: str) -> Model:
    """Return the model that a file describes.

    Raises:
        RefusedError: the file breaks a rule of the format.
    """
    document = _read(data, where, MODEL_FORMAT, _MODEL)
    notes = {}
    for number, note in document["versions"].items():
        if not isinstance(note, dict):
            raise _refuse(where, f"versions.{number} is not an object")
        _match(note, f"{where}: versions.{number}", _NOTE)
        notes[number] = VersionNote(**note)
    return Model(**(document | {"versions": notes}))


@dataclass(frozen=True, slots=True)
class StageStatement:
    """What one person signed about one change of a stage.

    Attributes:
        type: `request`, `approval`, `rejection` or `evidence` (a forge's review, signed by a service).
        repo: id of the repository, from the policy.
        policy: SHA-256 of the policy in force.
        model: name of the model.
        stage: name of the stage.
        seq: turn of the stage that the change makes.
        prev: SHA-256 of the stage's record before, None for the first.
        version: version to be put there, None to empty the stage.
        digest: its digest.
        person: who says so.
        expires: seconds since the epoch after which it does not count, None for never.
        comment: free text.
        review: of `evidence`: forge, review id, commit and user id, as text.
    """

    type: str
    repo: str
    policy: str
    model: str
    stage: str
    seq: int
    prev: str | None
    version: int | None
    digest: str | None
    person: str
    expires: int | None = None
    comment: str = ""
    review: Mapping[str, str] | None = None

    def payload(self) -> bytes:
        """Return what is signed."""
        return canonical.encode(_plain(self))


@dataclass(frozen=True, slots=True)
class PolicyStatement:
    """What one admin signed about a new policy.

    Attributes:
        type: `policy-approval`.
        repo: id of the repository.
        version: number of the new policy.
        prev: SHA-256 of the policy before.
        digest: SHA-256 of the new policy.
        person: who says so.
        expires: seconds since the epoch after which it does not count, None for never.
        comment: free text.
    """

    type: str
    repo: str
    version: int
    prev: str
    digest: str
    person: str
    expires: int | None = None
    comment: str = ""

    def payload(self) -> bytes:
        """Return what is signed."""
        return canonical.encode(_plain(self))


Statement = StageStatement | PolicyStatement


def encode_statement(statement: Statement, signature: str) -> bytes:
    """Return the bytes of a file that holds a signed statement."""
    return canonical.encode(
        {"format": STATEMENT_FORMAT, "statement": _plain(statement), "signature": signature}
    )


_COMMON: Final[dict[str, Callable[[Any], bool]]] = {
    "repo": _short,
    "person": names.is_person,
    "expires": _opt(_whole),
    "comment": _text,
}
_STAGE_STATEMENT: Final = _COMMON | {
    "type": lambda v: v in STAGE_TYPES,
    "policy": names.is_digest,
    "model": names.is_model,
    "stage": names.is_stage,
    "seq": lambda v: _whole(v, 1),
    "prev": _opt(names.is_digest),
    "version": _opt(lambda v: _whole(v, 1)),
    "digest": _opt(names.is_digest),
    "review": _opt(_tags),
}
_POLICY_STATEMENT: Final = _COMMON | {
    "type": lambda v: v == POLICY_APPROVE,
    "version": lambda v: _whole(v, 1),
    "prev": names.is_digest,
    "digest": names.is_digest,
}


def _statement(
    data: bytes, where: str, checks: Mapping[str, Callable[[Any], bool]]
) -> tuple[dict[str, Any], str]:
    document = _read(
        data, where, STATEMENT_FORMAT, {"statement": lambda v: isinstance(v, dict), "signature": _text}
    )
    _match(document["statement"], f"{where}: statement", checks)
    return document["statement"], document["signature"]


def read_stage_statement(data: bytes, where: str) -> tuple[StageStatement, str]:
    """Return a statement about a stage and its signature, which is not verified here.

    Raises:
        RefusedError: the file breaks a rule of the format.
    """
    document, signature = _statement(data, where, _STAGE_STATEMENT)
    return StageStatement(**document), signature


def read_policy_statement(data: bytes, where: str) -> tuple[PolicyStatement, str]:
    """Return a statement about a policy and its signature, which is not verified here.

    Raises:
        RefusedError: the file breaks a rule of the format.
    """
    document, signature = _statement(data, where, _POLICY_STATEMENT)
    return PolicyStatement(**document), signature
