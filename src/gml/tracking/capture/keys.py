"""Names and values from outside made fit to be logged."""

from __future__ import annotations

import posixpath
import re

MAX_KEY = 250
MAX_VALUE = 6000
MASK = "***"

_NOT_ALLOWED = re.compile(r"[^/\w.\- :]")
_SECRET = re.compile(
    r"passw(?:or)?d|passphrase|secret|api[-_. ]?key|(?:private|access)[-_. ]?key|credential", re.IGNORECASE
)
_TOKEN = re.compile(r"token(?!iz|is[ei])", re.IGNORECASE)
_TOKEN_FIGURE = re.compile(
    r"tokens|tokens?[-_. ]?(?:ids?|len|length|count|index|dim|size|rate|prob)\b", re.IGNORECASE
)
_URL_USER = re.compile(r"(?<=://)[^/@\s:]*:[^/@\s]+(?=@)")


def clean_text(text: str) -> str:
    """Return `text` as it can be stored: bytes that were no UTF-8 become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def clean_key(text: str) -> str | None:
    """Return `text` as a valid metric or param key, or None if nothing valid is left.

    A key has at most 250 characters out of letters, digits, `_ - . / :` and space (others become
    `_`) and is a normalised relative path.

    Example:
        >>> clean_key("optimizer@lr"), clean_key("../x")
        ('optimizer_lr', None)
    """
    key = _NOT_ALLOWED.sub("_", clean_text(text))[:MAX_KEY].strip()
    if not key or key.startswith(("/", "..")) or key == "." or posixpath.normpath(key) != key:
        return None
    return key


def clean_value(key: str, value: str) -> str:
    """Return a param value cut to 6000 characters, masked where `key` or `value` tell of a secret.

    Example:
        >>> clean_value("db-password", "hunter2"), clean_value("db", "pg://me:hunter2@host/x")
        ('***', 'pg://***@host/x')
    """
    if looks_secret(key, value):
        return MASK
    return _URL_USER.sub(MASK, clean_text(value))[:MAX_VALUE]


def looks_secret(key: str, value: str) -> bool:
    """Whether a param must not be recorded.

    Its key contains password, secret, api-key, private-key, access-key, credential or token. Not
    meant are tokenizers, and figures about tokens (`max_tokens=4096`, `pad_token_id=0`), of which
    training scripts are full.
    """
    if _SECRET.search(key):
        return True
    if _TOKEN.search(key) is None:
        return False
    return not (_TOKEN_FIGURE.search(key) and is_number(value))


def is_number(text: str) -> bool:
    """Whether `text` is a number, in the way that a command line writes one.

    Example:
        >>> is_number("-1e-3"), is_number("-lr")
        (True, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return True
