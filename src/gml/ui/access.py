"""Who may see the pages: an exact set of hosts, and a token even on this machine.

Any program or web page on this machine can reach a port of it. So a browser first shows a code from the
one-time link, for which it gets a cookie that no other site can use; other clients send the token as
`Authorization: Bearer`.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, MutableMapping
    from typing import Any

    from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE: Final = "gml-session"
LOGIN: Final = "/login"

# Nothing from elsewhere, no inline script or style, no frame around us; forms stay here.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; frame-src 'self'; media-src 'self' blob:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass
class Sessions:
    """The token of this server, its open one-time codes and the browsers that used one.

    Example:
        >>> sessions = Sessions()
        >>> code = sessions.new_code()
        >>> cookie = sessions.redeem(code)
        >>> sessions.knows(cookie), sessions.redeem(code)
        (True, None)
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    _codes: set[str] = field(default_factory=set)
    _cookies: set[str] = field(default_factory=set)

    def new_code(self) -> str:
        """Return a code that opens one browser, once."""
        code = secrets.token_urlsafe(24)
        self._codes.add(code)
        return code

    def redeem(self, code: str) -> str | None:
        """Return the cookie for a code, None where it is unknown or was used."""
        if code not in self._codes:
            return None
        self._codes.discard(code)
        cookie = secrets.token_urlsafe(24)
        self._cookies.add(cookie)
        return cookie

    def knows(self, cookie: str | None) -> bool:
        """Whether this cookie was given out by this server."""
        return cookie is not None and cookie in self._cookies

    def is_token(self, given: str) -> bool:
        """Whether this is the token, compared in constant time."""
        return hmac.compare_digest(given.encode(), self.token.encode())


class WithHeaders:
    """An ASGI application with the headers that keep its pages apart from everything else.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._app(scope, receive, _with_headers(send))


class Guarded:
    """An ASGI application behind host check, token and headers.

    Args:
        app: what to protect.
        hosts: the exact values of `Host` that are answered, with their ports.
        sessions: token and cookies; None where something in front of it has checked already.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], sessions: Sessions | None) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get(b"host", "") not in self._hosts:
            await _refuse(send, 421, "this server does not answer to that host name")
            return
        if scope["method"] not in {"GET", "HEAD"}:
            await _refuse(send, 405, "the pages are read only")
            return
        if scope["path"] != LOGIN and not self._allowed(headers):
            await _refuse(send, 401, "open the link that `gml ui` printed, or send the token as Bearer")
            return
        await self._app(scope, receive, _with_headers(send))

    def _allowed(self, headers: MutableMapping[bytes, str]) -> bool:
        if self._sessions is None:
            return True
        kind, _, given = headers.get(b"authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._sessions.is_token(given.strip()):
            return True
        try:
            morsel = SimpleCookie(headers.get(b"cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and self._sessions.knows(morsel.value)


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Any) -> None:
        if message["type"] == "http.response.start":
            given: Iterable[tuple[bytes, bytes]] = message.get("headers", ())
            names = {name.lower() for name, _ in given}
            extra = [pair for pair in HEADERS if pair[0] not in names]
            if b"content-security-policy" not in names:
                extra.append((b"content-security-policy", POLICY.encode()))
            message = {**message, "headers": [*given, *extra]}
        await send(message)

    return wrapped


async def _refuse(send: Send, status: int, why: str) -> None:
    body = f"{why}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *HEADERS,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
