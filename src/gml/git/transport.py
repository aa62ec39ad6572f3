"""The port to other repositories: list, fetch and push refs, each push guarded by a lease.

Adapters: `gml.git.transport_git` (the git command; everything the user set up works) and
`gml.git.transport_dulwich` (where there is no git command). `gml.testing.transport` is the suite that
each must pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from gml.domain.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

State = Literal["ok", "stale", "refused", "protected", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Refspec:
    """What a fetch brings and where it goes.

    Attributes:
        source: full ref name on the remote; may end in `*`.
        target: full local ref name; ends in `*` if `source` does. It is overwritten, so it must be one
            that only mirrors the remote.
    """

    source: str
    target: str

    def local(self, name: str) -> str | None:
        """Return the local name of a remote ref, None where this refspec does not mean it.

        Example:
            >>> Refspec("refs/gml/inbox/*", "refs/gml/remotes/origin/inbox/*").local("refs/gml/inbox/ab")
            'refs/gml/remotes/origin/inbox/ab'
        """
        if not self.source.endswith("*"):
            return self.target if name == self.source else None
        stem = self.source[:-1]
        return self.target[:-1] + name[len(stem) :] if name.startswith(stem) else None


@dataclass(frozen=True, slots=True)
class Update:
    """A ref of the remote that is to move.

    Attributes:
        name: full name on the remote.
        new: what it shall point at, None to remove it. All objects that it needs are here.
        expected: what it points at now, None: it does not exist.
    """

    name: str
    new: str | None
    expected: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an update.

    Attributes:
        name: full name on the remote.
        state: `ok`; `stale`: it pointed elsewhere, nothing was changed; `refused`: by a hook or rule of
            the remote, whose words are in `message`; `protected`: the remote takes no such name;
            `failed`: anything else that left it unchanged; `unknown`: the connection broke, look again.
        message: what the remote said, one line.
    """

    name: str
    state: State
    message: str = ""


class Transport(Protocol):
    """The way from one local repository to one remote."""

    @property
    def url(self) -> str:
        """The remote's address, without credentials."""

    @property
    def received(self) -> int:
        """Bytes of objects that the latest fetch received, as far as it is known."""

    @property
    def sent(self) -> int:
        """Bytes of objects that the latest push sent, as far as it is known."""

    def refs(self, prefixes: Sequence[str]) -> dict[str, str]:
        """Return the remote's refs below some prefixes, sorted by name.

        Raises:
            RemoteError: it cannot be reached or read; the line says why.
        """

    def fetch(
        self,
        refspecs: Sequence[Refspec],
        *,
        prune: bool = False,
        depth: int | None = None,
        blobless: bool = False,
    ) -> None:
        """Bring refs with all objects they need; refs that the remote lacks are passed over.

        Args:
            refspecs: which refs go where.
            prune: remove local targets whose source is gone.
            depth: bring only so many commits of each history (a shallow repository), None for all.
            blobless: leave out files where the remote allows that; it brings all where it does not.

        Raises:
            RemoteError: it failed; local refs are as before or, some of them, as on the remote.
            StorageError: what came could not be written.
        """

    def fetch_objects(self, oids: Sequence[str]) -> None:
        """Bring single objects that an earlier `blobless` fetch left out.

        Raises:
            RemoteError: the remote does not give them.
        """

    def push(self, updates: Sequence[Update], *, atomic: bool = False) -> list[Outcome]:
        """Move refs of the remote, each only if it still points at what was expected.

        Args:
            updates: the refs; objects go before any of them moves.
            atomic: all or none, where the remote offers that; one by one otherwise.

        Returns:
            An outcome for each update, in order.

        Raises:
            RemoteError: nothing was sent: the remote cannot be reached.
        """


# What git and hosts say -> (what it means, what to do). The first that matches counts.
_TROUBLE: Final[tuple[tuple[tuple[str, ...], str, str], ...]] = (
    (
        ("dubious ownership",),
        "its directory belongs to another user",
        "if you trust it: git config --global --add safe.directory PATH",
    ),
    (
        (
            "Authentication failed", "could not read (?:Username|Password)", r"\b401\b", "Unauthorized",
            "terminal prompts disabled", "No valid credentials", "invalid credentials",
        ),
        "the credentials are missing or wrong",
        "set GML_TOKEN, or a git credential helper",
    ),
    (
        (
            r"Permission denied \((?:publickey|password|keyboard)", "Host key verification failed",
            "Too many authentication",
        ),
        "ssh was not let in",
        "try `ssh -T` to that host; check key and known_hosts",
    ),
    (
        (
            r"\b403\b", r"[Pp]ermission to \S+ denied", "not allowed to push", "remote: Write access",
            "read.?only (?:repository|key)", "insufficient permission", "Permission denied",
            "Read-only file system", "service not enabled", "unable to create temporary object directory",
        ),
        "it may not be written to",
        "ask for the right to push, or push to another remote",
    ),
    (("No space left", "[Dd]isk quota"), "its disk is full", "free space there and push again"),
    (
        ("Could not resolve host", "Name or service not known", "unable to look up"),
        "its host name is not known",
        "check the address with `git remote -v` and the network",
    ),
    (
        (
            "Connection refused", "Failed to connect", "Couldn't connect", "Connection timed out",
            "No route to host", "Network is unreachable", "Operation timed out", "Max retries exceeded",
        ),
        "it cannot be reached",
        "check the network and try again: nothing is lost",
    ),
    (
        (
            "does not appear to be a git repository", "not found", r"\b404\b", "No such file or directory",
            "does not exist",
        ),
        "there is no repository",
        "check the address with `git remote -v`",
    ),
    (
        (
            "early EOF", "unexpected disconnect", "hung up", "RPC failed", "reset by peer", "Broken pipe",
            "timed out", "IncompleteRead", "index-pack", "pack-objects died",
        ),
        "the connection broke",
        "try again: what was sent twice does no harm",
    ),
)  # fmt: skip


def trouble(url: str, said: str) -> RemoteError:
    """Return the one-line error for what a transport said when it failed as a whole."""
    for signs, why, hint in _TROUBLE:
        if re.search("|".join(signs), said):
            return RemoteError(f"{url}: {why} ({_short(said)})", hint=hint)
    return RemoteError(f"{url}: {_short(said)}", hint="`git ls-remote` shows whether git reaches it")


_STALE: Final = re.compile(
    "stale info|fetch first|non-fast-forward|needs force|already exists|failed to update ref|cannot lock ref"
    "|failed to lock|incorrect old value|reference changed|but expected|remote ref updated since"
)
_NAME: Final = re.compile(
    "hidden ref|funny refname|prohibited by|protected ref|only (?:branches|heads)|invalid ref|ref namespace"
    "|not allowed to (?:create|update) ref|refname|unsupported ref"
)
_UNKNOWN: Final = re.compile("remote (?:end )?(?:failed to report status|hung up)|no (?:response|status)")


def state_of(reason: str) -> State:
    """Return what a per-ref rejection means.

    Example:
        >>> state_of("stale info"), state_of("pre-receive hook declined"), state_of("funny refname")
        ('stale', 'refused', 'protected')
    """
    if _STALE.search(reason):
        return "stale"
    if _NAME.search(reason):
        return "protected"
    if _UNKNOWN.search(reason):
        return "unknown"
    if "hook" in reason or "declined" in reason or "protected branch" in reason or "denied" in reason:
        return "refused"
    return "failed"


def remarks(stderr: str) -> str:
    """Return the lines that the remote printed (`remote: …`), joined, without what hosts say always."""
    lines = [
        line.removeprefix("remote:").strip() for line in stderr.splitlines() if line.startswith("remote:")
    ]
    said = "; ".join(line for line in lines if line and not _CHATTER.match(line))
    return _short(said) if said else ""


LOCKED: Final = "File exists"
"""Part of what git says when a lock file is in its way."""

_CHATTER: Final = re.compile(
    r"(?:Enumerating|Counting|Compressing|Resolving|Total|Receiving|Unpacking|Writing) ?|Create a pull request|https?://"
)


def _short(text: str, limit: int = 300) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))] or lines
    line = " ".join(told[0].split()) if told else "no message"
    line = re.sub(r"^(?:fatal|error|remote): ", "", line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def tokens(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return user name and token for HTTPS from GML_TOKEN and GML_TOKEN_USER, None without a token."""
    token = environ.get("GML_TOKEN")
    return (environ.get("GML_TOKEN_USER") or "x-access-token", token) if token else None


_SECRET: Final = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/@]*@", re.IGNORECASE)


def public(url: str) -> str:
    """Return an address without user name and password.

    Example:
        >>> public("https://ada:secret@host/team/repo.git")
        'https://host/team/repo.git'
    """
    return _SECRET.sub(r"\1", url)
