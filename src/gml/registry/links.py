"""Where a proposal becomes a pull request: the page of a forge, guessed from the address of the remote."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

_SCP: Final = re.compile(r"(?:[^@/:]+@)?([A-Za-z0-9.-]+):(?!/)(.+)")
_GITEA: Final = ("gitea", "forgejo", "codeberg")


def pull_request_page(remote: str, head: str, base: str) -> str | None:
    """Return the address where a pull request of one branch into another is made; None for other servers.

    Args:
        remote: address of the remote, as git knows it; credentials in it are left out.
        head: short name of the branch to be merged.
        base: short name of the branch to merge into.

    Example:
        >>> pull_request_page("git@github.com:acme/models.git", "gml/propose/a-1", "gml/registry")
        'https://github.com/acme/models/compare/gml/registry...gml/propose/a-1?expand=1'
    """
    found = _host_and_path(remote)
    if found is None:
        return None
    host, path = found
    name = host.lower()
    project = f"https://{host}/{quote(path)}"
    if "github" in name:
        return f"{project}/compare/{quote(base)}...{quote(head)}?expand=1"
    if "gitlab" in name:
        wanted = {"merge_request[source_branch]": head, "merge_request[target_branch]": base}
        return f"{project}/-/merge_requests/new?{urlencode(wanted)}"
    if any(each in name for each in _GITEA):
        return f"{project}/compare/{quote(base)}...{quote(head)}"
    return None


def _host_and_path(remote: str) -> tuple[str, str] | None:
    if "://" in remote:
        try:
            parts = urlsplit(remote)
            port = parts.port
        except ValueError:
            return None
        host, path = parts.hostname, parts.path
        if parts.scheme not in {"https", "http", "ssh"} or not host:
            return None
        # The port of ssh is not that of the pages.
        host = f"{host}:{port}" if port and parts.scheme != "ssh" else host
    else:
        match = _SCP.fullmatch(remote)
        if match is None:
            return None
        host, path = match[1], match[2]
    path = path.strip("/").removesuffix(".git")
    return (host, path) if "/" in path else None
