"""Names that are legal in the registry, and what each path of its tree is.

A name becomes a path, a tag and part of a signed statement on every system, so the grammar is narrow:
ASCII, no leading dot or dash, nothing that a file system or git gives a meaning of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gml.domain.errors import InvalidValueError

MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
STAGE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
PERSON: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,38}")
ALIAS: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
DIGEST: Final = re.compile(r"[0-9a-f]{64}")

_RESERVED: Final = frozenset(
    ("con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10)))
)
# `models:/churn/4`, `latest` and the like must keep meaning one thing.
_NOT_STAGES: Final = frozenset({"none", "archived", "latest"})
_VERSION_LIKE: Final = re.compile(r"v?[0-9]+", re.IGNORECASE)

FORMAT: Final = "format"
POLICY: Final = "policy"
META: Final = "meta"
VERSION: Final = "version"
STAGE_RECORD: Final = "stage"
APPROVAL: Final = "approval"
POLICY_APPROVAL: Final = "policy-approval"

POLICY_PATH: Final = "policy.yaml"
FORMAT_PATH: Final = "format"
FORMAT_FILE: Final = b"gml-registry 1\n"


def _portable(name: str) -> bool:
    stem = name.split(".", 1)[0].lower()
    return (
        not name.endswith((".", ".lock", ".git"))
        and ".." not in name
        and stem not in _RESERVED
        and not name.lower().startswith("git~")
    )


def is_model(name: object) -> bool:
    """Whether a text is a legal model name."""
    return isinstance(name, str) and MODEL.fullmatch(name) is not None and _portable(name)


def is_stage(name: object) -> bool:
    """Whether a text is a legal stage name; `None`, `Archived` and `latest` mean something else."""
    return (
        isinstance(name, str)
        and STAGE.fullmatch(name) is not None
        and name.lower() not in _NOT_STAGES
        and _VERSION_LIKE.fullmatch(name) is None
        and _portable(name)
    )


def is_person(name: object) -> bool:
    """Whether a text is a legal name of a person in a policy: lower case, so that no two look alike."""
    return isinstance(name, str) and PERSON.fullmatch(name) is not None and _portable(name)


def is_alias(name: object) -> bool:
    """Whether a text is a legal alias; what looks like a version number is none, as in MLflow."""
    return (
        isinstance(name, str)
        and ALIAS.fullmatch(name) is not None
        and _VERSION_LIKE.fullmatch(name) is None
        and name.lower() != "latest"
    )


def is_digest(value: object) -> bool:
    """Whether a value is a SHA-256 digest as gml writes it."""
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def check_model(name: str) -> str:
    """Return a legal model name unchanged.

    Raises:
        InvalidValueError: it is not one.

    Example:
        >>> check_model("churn")
        'churn'
    """
    if not is_model(name):
        raise InvalidValueError(
            f"{name!r:.120} is not a model name",
            hint="use up to 100 ASCII letters, digits and ._- that start with a letter or digit",
        )
    return name


def check_stage(name: str) -> str:
    """Return a legal stage name unchanged.

    Raises:
        InvalidValueError: it is not one.
    """
    if not is_stage(name):
        raise InvalidValueError(
            f"{name!r:.120} is not a stage",
            hint="such as Staging or Production: ASCII letters, digits, _ and -",
        )
    return name


def check_alias(name: str) -> str:
    """Return a legal alias unchanged.

    Raises:
        InvalidValueError: it is not one.
    """
    if not is_alias(name):
        raise InvalidValueError(
            f"{name!r:.120} is not an alias", hint="such as champion; `latest` and numbers are taken"
        )
    return name


def check_person(name: str) -> str:
    """Return a legal name of a person unchanged.

    Raises:
        InvalidValueError: it is not one.
    """
    if not is_person(name):
        raise InvalidValueError(
            f"{name!r:.120} cannot name a person", hint="use lower-case ASCII letters, digits, _ and -"
        )
    return name


@dataclass(frozen=True, slots=True)
class Place:
    """What a path of the registry's tree is.

    Attributes:
        kind: one of the constants of this module.
        model: for META, VERSION, STAGE_RECORD and APPROVAL.
        stage: for STAGE_RECORD and APPROVAL.
        number: version of VERSION and POLICY_APPROVAL, turn of APPROVAL.
        person: who made an APPROVAL or POLICY_APPROVAL.
    """

    kind: str
    model: str = ""
    stage: str = ""
    number: int = 0
    person: str = ""


def classify(path: str) -> Place | None:
    """Return what a path is, None for one that does not belong into a registry.

    Example:
        >>> classify("models/churn/versions/4.json")
        Place(kind='version', model='churn', stage='', number=4, person='')
        >>> classify("models/churn/versions/04.json") is None
        True
    """
    if path == FORMAT_PATH:
        return Place(FORMAT)
    if path == POLICY_PATH:
        return Place(POLICY)
    match path.split("/"):
        case ["models", model, "model.json"] if is_model(model):
            return Place(META, model)
        case ["models", model, "versions", file] if is_model(model) and _numbered(file):
            return Place(VERSION, model, number=int(file[:-5]))
        case ["models", model, "stages", file] if (
            is_model(model) and file.endswith(".json") and is_stage(file[:-5])
        ):
            return Place(STAGE_RECORD, model, file[:-5])
        case ["approvals", model, stage, turn, file] if (
            is_model(model) and is_stage(stage) and NUMBER.fullmatch(turn) and _personal(file)
        ):
            return Place(APPROVAL, model, stage, int(turn), file[:-5])
        case ["policy-approvals", turn, file] if NUMBER.fullmatch(turn) and _personal(file):
            return Place(POLICY_APPROVAL, number=int(turn), person=file[:-5])
        case _:
            return None


def _numbered(file: str) -> bool:
    return file.endswith(".json") and NUMBER.fullmatch(file[:-5]) is not None


def _personal(file: str) -> bool:
    return file.endswith(".json") and is_person(file[:-5])


def version_path(model: str, number: int) -> str:
    """Return where a version's record is."""
    return f"models/{model}/versions/{number}.json"


def stage_path(model: str, stage: str) -> str:
    """Return where a stage's record is."""
    return f"models/{model}/stages/{stage}.json"


def meta_path(model: str) -> str:
    """Return where a model's own record is."""
    return f"models/{model}/model.json"


def approval_path(model: str, stage: str, seq: int, person: str) -> str:
    """Return where a person's statement about a turn of a stage is."""
    return f"approvals/{model}/{stage}/{seq}/{person}.json"


def policy_approval_path(version: int, person: str) -> str:
    """Return where an admin's statement about a policy is."""
    return f"policy-approvals/{version}/{person}.json"
