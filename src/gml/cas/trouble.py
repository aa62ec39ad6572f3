"""What went wrong in a storage service: one clear line, and whether trying again can help.

File systems of fsspec raise what their client libraries raise: errors of botocore, aiohttp, paramiko,
httpx, or an OSError made of one of them. All are read here by what they carry (codes, statuses, errno,
class names), so that no client library is imported for it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gml.domain.errors import GmlError, StorageError
from gml.fs import storage_error

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Trouble:
    """A failure as gml understands it.

    Attributes:
        kind: `absent`, `exists`, `no-bucket`, `credentials`, `expired`, `clock`, `forbidden`, `read-only`,
            `full`, `throttled`, `damaged`, `unavailable`, `network`, `refused` or `other`.
        reason: what happened, in a few words.
        hint: what to do, if there is something.
        transient: whether the same request may succeed a moment later.
    """

    kind: str
    reason: str
    hint: str | None = None
    transient: bool = False


_NETWORK: Final = Trouble("network", "the connection broke or timed out", "check the network", True)
_DAMAGED: Final = Trouble(
    "damaged", "the bytes were damaged on their way", "check the network and proxies", True
)
_THROTTLED: Final = Trouble("throttled", "the service asks to slow down", "lower --jobs, or wait", True)
_UNAVAILABLE: Final = Trouble("unavailable", "the service is unavailable", "try again later", True)
_CREDENTIALS: Final = Trouble(
    "credentials",
    "the credentials are wrong or missing",
    "check the profile or the environment that they come from",
)
_EXPIRED: Final = Trouble(
    "expired", "the credentials have expired", "sign in again (such as `aws sso login`)"
)
_FORBIDDEN: Final = Trouble(
    "forbidden", "access is denied", "ask for the right to read and write there, or check the credentials"
)
_CLOCK: Final = Trouble("clock", "the clock of this machine is wrong", "set the clock (such as by NTP)")
_NO_BUCKET: Final = Trouble("no-bucket", "the bucket does not exist", "create it, or correct the URL")
_ABSENT: Final = Trouble("absent", "it is not there")
_EXISTS: Final = Trouble("exists", "it is there already")
_UNRESOLVED: Final = Trouble(
    "network", "the host cannot be found or reached", "check the URL and the network", True
)

_CODES: Final = {
    **dict.fromkeys(("NoSuchBucket", "ContainerNotFound"), _NO_BUCKET),
    **dict.fromkeys(("NoSuchKey", "NoSuchUpload"), _ABSENT),
    **dict.fromkeys(("PreconditionFailed", "ConditionalRequestConflict"), _EXISTS),
    **dict.fromkeys(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthFailure",
         "UnrecognizedClientException"),
        _CREDENTIALS,
    ),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"), _EXPIRED),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestExpired"), _CLOCK),
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "AccountProblem"), _FORBIDDEN),
    **dict.fromkeys(("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"), _THROTTLED),
    **dict.fromkeys(
        ("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch",
         "IncompleteBody",
         "InvalidPart", "InvalidPartOrder", "MalformedXML", "EntityTooSmall"),
        _DAMAGED,
    ),
    **dict.fromkeys(
        ("InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted"), _UNAVAILABLE
    ),
}  # fmt: skip
_STATUSES: Final = {
    401: _CREDENTIALS,
    403: _FORBIDDEN,
    404: _ABSENT,
    408: _UNAVAILABLE,
    409: _EXISTS,
    412: _EXISTS,
    429: _THROTTLED,
    507: Trouble("full", "no space left in the store", "free some space there"),
}
_CLASSES: Final = {
    "NoCredentialsError": _CREDENTIALS,
    "PartialCredentialsError": _CREDENTIALS,
    "ProfileNotFound": _CREDENTIALS,
    "CredentialRetrievalError": _CREDENTIALS,
    "TokenRetrievalError": _EXPIRED,
    "SSOTokenLoadError": _EXPIRED,
    "UnauthorizedSSOTokenError": _EXPIRED,
    "AuthenticationException": _CREDENTIALS,
    "BadHostKeyException": Trouble("refused", "the host has another key than before", "check known_hosts"),
    **dict.fromkeys(
        ("EndpointConnectionError", "ClientConnectorError", "ConnectError", "gaierror"), _UNRESOLVED
    ),
    **dict.fromkeys(
        (
            "ConnectionClosedError", "ReadTimeoutError", "ConnectTimeoutError", "ResponseStreamingError",
            "IncompleteReadError", "HTTPClientError", "ClientPayloadError", "ServerDisconnectedError",
            "ClientOSError", "FSTimeoutError", "TimeoutError", "ProtocolError", "TransportError", "ReadError",
            "WriteError", "RemoteProtocolError", "ReadTimeout", "ConnectTimeout", "WriteTimeout",
            "SSHException", "NoValidConnectionsError", "ChannelException", "EOFError", "IncompleteRead",
            "HTTPException", "SSLError", "ResponseParserError", "AioReadTimeoutError",
        ),
        _NETWORK,
    ),
}  # fmt: skip
_NUMBERS: Final = {
    **dict.fromkeys(
        (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.ENETRESET), _NETWORK
    ),
    **dict.fromkeys(
        (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN), _UNRESOLVED
    ),
    errno.ENOENT: _ABSENT,
    errno.EEXIST: _EXISTS,
    errno.EROFS: Trouble("read-only", "it is read-only", "use a writable place"),
    errno.ENOSPC: Trouble("full", "no space left in the store", "free some space there"),
    errno.EDQUOT: Trouble("full", "the quota of the store is used up", "free some space there"),
}


class DamagedError(Exception):
    """What arrived is not what was sent; sending it again helps."""


def explain(error: BaseException) -> Trouble:
    """Return what an error of a storage service means.

    Example:
        >>> explain(ConnectionResetError(104, "Connection reset by peer")).transient
        True
    """
    if isinstance(error, DamagedError):
        return _DAMAGED
    chain = list(_chain(error))
    for one in chain:
        found = _by_answer(one)
        if found is not None:
            return found
    for one in chain:
        for kind in type(one).__mro__:
            if kind.__name__ in _CLASSES:
                return _CLASSES[kind.__name__]
    for one in chain:
        if isinstance(one, PermissionError):
            return _FORBIDDEN
        if isinstance(one, OSError) and one.errno in _NUMBERS:
            return _NUMBERS[one.errno]
        if isinstance(one, FileNotFoundError):
            return _ABSENT
        if isinstance(one, FileExistsError):
            return _EXISTS
        if isinstance(one, ConnectionError):
            return _NETWORK
    return Trouble("other", _own_words(error))


def storage_trouble(error: BaseException, what: str) -> StorageError:
    """Return the one-line error for a failure.

    Args:
        error: what a file system raised.
        what: what was tried, such as `cannot write s3://bucket/prefix`.
    """
    if isinstance(error, StorageError):
        return error
    found = explain(error)
    if found.kind == "other" and isinstance(error, OSError) and error.errno:
        return storage_error(error, what)
    return StorageError(f"{what}: {found.reason}", hint=found.hint)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    now: BaseException | None = error
    while now is not None and id(now) not in seen and not isinstance(now, GmlError):
        seen.add(id(now))
        yield now
        now = now.__cause__ or now.__context__


def _by_answer(error: BaseException) -> Trouble | None:
    """Read what a service answered: the code of S3 and its relatives, or the HTTP status."""
    answer = getattr(error, "response", None)
    status: object = None
    if isinstance(answer, dict):
        code = str(answer.get("Error", {}).get("Code", ""))
        if code in _CODES:
            return _CODES[code]
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") or (
            code if code.isdigit() else None
        )
    for name in ("error_code", "code"):  # Azure, gcsfs
        code = str(getattr(error, name, ""))
        if code in _CODES:
            return _CODES[code]
    if status is None:
        status = getattr(answer, "status_code", None) or getattr(error, "status_code", None)
        status = status or getattr(error, "status", None) or getattr(error, "code", None)
    try:
        number = int(status)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return None
    if number in _STATUSES:
        return _STATUSES[number]
    if 500 <= number < 600 and number != 501:
        return _UNAVAILABLE
    return None


def _own_words(error: BaseException) -> str:
    said = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {said}"[:300] if said else name
