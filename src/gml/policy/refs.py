"""What a ref name is to the gate: deny what looks like one of gml's own and is not."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from gml.policy import names

REGISTRY: Final = "registry"
PROPOSAL: Final = "proposal"
VERSION_TAG: Final = "version tag"
STAGE_TAG: Final = "stage tag"
LEDGER: Final = "ledger"
INBOX: Final = "inbox"
OTHER: Final = "other"
REFUSED: Final = "refused"

MAX_NAME: Final = 250
_TAG: Final = re.compile(r"([^/]+)/(?:v([1-9][0-9]{0,8})|([^/]+)/([1-9][0-9]{0,8}))")
_PROPOSAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,180}")
_INBOX: Final = re.compile(r"[a-z]+/[A-Za-z0-9][A-Za-z0-9._/-]{0,180}")
_APPEND_ONLY: Final = ("ledger", "code")
_LOOSE: Final = ("inbox/", "conflicts/")


@dataclass(frozen=True, slots=True)
class RefPlace:
    """What a ref is.

    Attributes:
        kind: one of the constants of this module.
        model: of a tag.
        stage: of a stage's tag.
        number: version or turn of a tag.
        why: why it is refused.
    """

    kind: str
    model: str = ""
    stage: str = ""
    number: int = 0
    why: str = ""


def _folded(name: str) -> str:
    """Return a name as a person, or a file system that ignores case, reads it."""
    text = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in text if unicodedata.category(c) not in {"Cf", "Mn", "Zs"})


def classify_ref(name: str, namespace: str = "gml") -> RefPlace:
    """Return what a full ref name is.

    Example:
        >>> classify_ref("refs/heads/gml/registry").kind, classify_ref("refs/heads/GML/registry").kind
        ('registry', 'refused')
    """
    if len(name) > MAX_NAME:
        return RefPlace(REFUSED, why=f"the name has more than {MAX_NAME} characters")
    if name == f"refs/heads/{namespace}/registry":
        return RefPlace(REGISTRY)
    folded = _folded(name)
    if folded.startswith("refs/replace/"):
        return RefPlace(REFUSED, why="objects must not be replaced")
    if not folded.startswith("refs/") or folded.count("/") < 2:
        return RefPlace(REFUSED, why="it is not below refs/heads, refs/tags or the like")
    for prefix in (f"refs/heads/{namespace}", f"refs/tags/{namespace}", f"refs/{namespace}"):
        if folded == prefix or folded.startswith(f"{prefix}/"):
            if not name.startswith(f"{prefix}/"):
                return RefPlace(REFUSED, why=f"it looks like {prefix}/ and is not")
            return _reserved(name.removeprefix(f"{prefix}/"), prefix)
    return RefPlace(OTHER)


def _reserved(rest: str, prefix: str) -> RefPlace:
    if prefix.startswith("refs/heads/"):
        name = rest.removeprefix("propose/")
        if name != rest and _PROPOSAL.fullmatch(name):
            return RefPlace(PROPOSAL)
    elif prefix.startswith("refs/tags/"):
        return _tag(rest)
    elif rest in _APPEND_ONLY:
        return RefPlace(LEDGER)
    elif rest.startswith(_LOOSE) and _INBOX.fullmatch(rest):
        return RefPlace(INBOX)
    return RefPlace(REFUSED, why=f"{prefix}/ is reserved and has no {rest[:60]!r}")


def _tag(rest: str) -> RefPlace:
    match = _TAG.fullmatch(rest)
    if match is not None and names.is_model(match[1]):
        if match[2]:
            return RefPlace(VERSION_TAG, match[1], number=int(match[2]))
        if names.is_stage(match[3]):
            return RefPlace(STAGE_TAG, match[1], match[3], int(match[4]))
    return RefPlace(REFUSED, why="tags of gml are <model>/v<N> and <model>/<Stage>/<turn>")
