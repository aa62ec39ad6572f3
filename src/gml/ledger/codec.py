"""Documents to bytes and back: sorted keys, one entry a line, so that git diffs and packs them well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from gml.domain.errors import CorruptError, FormatError

if TYPE_CHECKING:
    from gml.domain.run import Document

_SORTED = orjson.OPT_SORT_KEYS


def encode(document: Document) -> bytes:
    """Return the ledger's bytes of a document.

    The first two levels have one key a line; what is deeper stays on its line.

    Example:
        >>> print(encode({"params": {"lr": "0.1"}, "name": "a"}).decode(), end="")
        {
        "name":"a",
        "params":{
         "lr":"0.1"
        }
        }
    """
    lines: list[bytes] = []
    for key in sorted(document):
        value = document[key]
        if isinstance(value, dict) and value:
            inner = b",\n".join(
                b" " + orjson.dumps(str(k)) + b":" + orjson.dumps(value[k], option=_SORTED)
                for k in sorted(value)
            )
            lines.append(orjson.dumps(key) + b":{\n" + inner + b"\n}")
        else:
            lines.append(orjson.dumps(key) + b":" + orjson.dumps(value, option=_SORTED))
    return b"{\n" + b",\n".join(lines) + b"\n}\n"


def decode(data: bytes, path: str, family: str | None = None, newest: int = 1) -> Document:
    """Return the document in `data`.

    Args:
        data: bytes of a ledger file.
        path: its path, for messages.
        family: expected format family such as `gml-run`; None accepts any.
        newest: highest version of that family this gml reads.

    Raises:
        CorruptError: not a JSON object, or of another family.
        FormatError: written by a newer gml.
    """
    try:
        value: Any = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise CorruptError(f"{path} is not JSON ({error})", hint="`gml doctor` names all damage") from None
    if not isinstance(value, dict):
        raise CorruptError(f"{path} is not a JSON object", hint="`gml doctor` names all damage")
    if family is not None:
        check_format(str(value.get("format", "")), path, family, newest)
    return value


def check_format(stated: str, path: str, family: str, newest: int) -> None:
    """Refuse another family and newer versions of a format line such as `gml-run 1`."""
    stated, _, readers = stated.partition("\n")
    name, _, version = stated.partition(" ")
    if name != family or not version.isdigit():
        hint = "where the ref was moved, `gml pull` or `git update-ref` with its last commit brings it back"
        raise CorruptError(
            f"{path} says format {stated!r}, expected {family!r}",
            hint=hint if family == "gml-ledger" else "`gml doctor` names all damage",
        )
    if int(version) > newest:
        raise FormatError(
            f"{path} has format {stated!r}{f', {readers}' if readers else ''}; "
            f"this gml reads {family} up to {newest}",
            hint="upgrade: pip install -U gitml",
        )
