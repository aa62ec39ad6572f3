"""Where a forge shows a commit."""

from __future__ import annotations

import re
from typing import Final

# git@host:path, ssh://git@host:22/path and https://user@host/path; nothing that is not a plain name.
_REMOTE: Final = re.compile(
    r"(?:(?:ssh|git|https?)://)?(?:[\w.%+-]+(?::[^@/\s]*)?@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*\.[A-Za-z]{2,})"
    r"(?P<port>:\d+)?[:/]+(?P<path>[\w.~-]+(?:/[\w.~-]+)+?)/?"
)
_COMMIT: Final = re.compile(r"[0-9a-f]{40,64}")


def commit_address(remote: object, commit: object) -> str:
    """Return the address of a commit on the forge of a remote; empty where the remote names none.

    Example:
        >>> commit_address("git@github.com:ada/churn.git", "ab" * 20)[:39]
        'https://github.com/ada/churn/commit/aba'
        >>> commit_address("/srv/git/churn.git", "ab" * 20), commit_address("javascript:x", "ab" * 20)
        ('', '')
    """
    if not isinstance(remote, str) or not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        return ""
    found = _REMOTE.fullmatch(remote.strip())
    if found is None:
        return ""
    host = found["host"].lower()
    port = found["port"] or "" if remote.startswith("https://") else ""
    kind = "commits" if host == "bitbucket.org" else "commit"
    return f"https://{host}{port}/{found['path'].removesuffix('.git')}/{kind}/{commit}"
