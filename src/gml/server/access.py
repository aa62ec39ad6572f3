"""Who may ask: tokens with roles, the exact hosts that are served, and where writes may come from.

Everything is denied unless it is said here. Tokens are kept as SHA-256 digests and compared in constant time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gml.domain.errors import UsageError
from gml.server.routes import Right

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

COOKIE: Final = "gml_session"
_ROLES: Final = {"read": Right.READ, "log": Right.LOG, "admin": Right.ADMIN}
_SESSION_SECONDS: Final = 7 * 24 * 3600
_MOST_SESSIONS: Final = 1_000


def digest(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a token.

    Attributes:
        name: for the log.
        right: what they may do.
        token: SHA-256 of their token, hexadecimal.
        expires: seconds since the epoch, None for never.
    """

    name: str
    right: Right
    token: str
    expires: float | None = None


def read_users(path: Path) -> list[User]:
    """Return the users of a file: a line each, `name role sha256-of-token [expiry date]`.

    Raises:
        UsageError: the file cannot be read, or a line is not of this form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the users file {path} ({error})") from None
    users = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        well = len(words) in {3, 4} and words[1] in _ROLES and len(words[2]) == 64
        if not well or not all(c in "0123456789abcdef" for c in words[2]):
            raise UsageError(
                f"{path}, line {number} is not `name role sha256 [YYYY-MM-DD]`",
                hint="roles are read, log and admin; the digest is that of `printf %s TOKEN | sha256sum`",
            )
        users.append(User(words[0], _ROLES[words[1]], words[2], _date(words[3:], f"{path}, line {number}")))
    return users


def _date(words: list[str], where: str) -> float | None:
    from datetime import UTC, datetime

    if not words:
        return None
    try:
        return datetime.fromisoformat(words[0]).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise UsageError(f"{where}: {words[0]!r} is not a date", hint="write YYYY-MM-DD") from None


class Access:
    """The rules of one server.

    Args:
        users: who may ask; nobody else.
        hosts: names that the Host header may have, without port.
        open_to: what callers without a token may do.
    """

    def __init__(self, users: Iterable[User], hosts: Iterable[str], open_to: Right = Right.OPEN) -> None:
        self._users = list(users)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._open_to = open_to
        self._lock = threading.Lock()
        self._codes: dict[str, User] = {}
        self._sessions: dict[str, tuple[User, float]] = {}

    # --- hosts --------------------------------------------------------------------------------

    def is_host(self, header: str | None) -> bool:
        """Whether the Host header names this server, exactly."""
        return header is not None and _hostname(header) in self._hosts

    def is_own_origin(self, origin: str | None) -> bool:
        """Whether a write comes from no page, or from a page of this server."""
        if origin is None:
            return True
        scheme, mark, rest = origin.partition("://")
        return bool(mark) and scheme in {"http", "https"} and _hostname(rest) in self._hosts

    # --- tokens -------------------------------------------------------------------------------

    def right_of(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> tuple[Right, str]:
        """Return what a caller may do, and its name for the log."""
        given = _token(headers.get("authorization"))
        if given is not None:
            found = self._find(given)
            return (found.right, found.name) if found is not None else (Right.OPEN, "")
        session = cookies.get(COOKIE)
        if session:
            with self._lock:
                known = self._sessions.get(digest(session))
            if known is not None and known[1] > time.time() and self._valid(known[0]):
                return known[0].right, known[0].name
        return self._open_to, ""

    def _find(self, token: str) -> User | None:
        wanted = digest(token)
        found = None
        for user in self._users:  # all of them, so that the time tells nothing
            if hmac.compare_digest(user.token, wanted):
                found = user
        return found if found is not None and self._valid(found) else None

    @staticmethod
    def _valid(user: User) -> bool:
        return user.expires is None or time.time() < user.expires

    def new_code(self, user: User) -> str:
        """Return a code that opens one session in a browser."""
        code = secrets.token_urlsafe(24)
        with self._lock:
            self._codes[digest(code)] = user
        return code

    def open_session(self, code: str) -> str | None:
        """Return the cookie of a new session, None where the code was used or never given."""
        with self._lock:
            user = self._codes.pop(digest(code), None)
            if user is None:
                return None
            while len(self._sessions) >= _MOST_SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))
            session = secrets.token_urlsafe(32)
            self._sessions[digest(session)] = (user, time.time() + _SESSION_SECONDS)
        return session


def _hostname(text: str) -> str:
    """Return the host of `host:port`, lower case, without brackets.

    Example:
        >>> _hostname("LocalHost:5000"), _hostname("[::1]:5000"), _hostname("10.evil.com")
        ('localhost', '::1', '10.evil.com')
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        return host.lower() if bracket and _is_port(rest) else ""
    host, colon, port = text.partition(":")
    return host.lower() if not colon or _is_port(colon + port) else ""


def _is_port(text: str) -> bool:
    return text == "" or (text[0] == ":" and text[1:].isascii() and text[1:].isdigit())


def _token(header: str | None) -> str | None:
    """Return the token of an Authorization header: a bearer token, or the password of basic credentials."""
    if header is None:
        return None
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""
