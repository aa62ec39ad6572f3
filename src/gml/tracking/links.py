"""Artifacts that stay where they are: a URL and a digest in the manifest instead of bytes in the store.

Manifests come from other people. So that reading a run does not send requests wherever one of them
likes, a link is followed only if this clone made it, or if the user trusts the beginning of its URL.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import unquote, urlsplit

from gml.cas.elsewhere import check_url, digest_of, open_elsewhere
from gml.cas.port import Blob
from gml.domain.errors import TrustError
from gml.domain.names import check_artifact_path
from gml.domain.run import LINKED
from gml.fs import storage_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gml.domain.run import Artifact
    from gml.tracking.recorder import Recorder
    from gml.workspace import Workspace

_SETTING: Final = "gml.artifacts.links"


def link_name(url: str, folder: str | None = None) -> str:
    """Return the path within a run that the file of a URL gets."""
    base = unquote(urlsplit(check_url(url)).path).rpartition("/")[2]
    return f"{folder.strip('/')}/{base}" if folder else base


def log_link(
    recorder: Recorder, url: str, name: str, progress: Callable[[int], object] | None = None
) -> Blob:
    """Make a file that stays where it is an artifact; it is read once for its digest.

    Args:
        recorder: the run.
        url: of the file, or a path of this machine, such as on a share.
        name: path within the run.
        progress: called with the number of bytes that were read since the last call.

    Raises:
        UsageError: the URL has a secret in it, or names no file.
        NotFoundError: there is no such file.
        StorageError: it cannot be read.
    """
    check_artifact_path(name)
    url = check_url(url)
    workspace = recorder.open_workspace()
    blob = digest_of(url, _options(workspace, url), progress)
    _remember(workspace, url)
    recorder.append(["a", name, {"at": LINKED, "sha256": blob.digest, "size": blob.size, "url": url}])
    return blob


def open_link(workspace: Workspace, name: str, facts: Artifact) -> BinaryIO:
    """Return a verified file object over a linked artifact; from the store if that has the same bytes.

    Raises:
        TrustError: the user does not trust the URL.
        NotFoundError: there is no such file any more.
        CorruptError: it is another content now.
        StorageError: it cannot be read.
    """
    if workspace.blobs.has_here(facts.sha256):
        return workspace.blobs.open(facts.sha256)
    url = facts.url or ""
    if not _is_trusted(workspace, url):
        beginning = url[: url.find("/", url.find("://") + 3) + 1]
        raise TrustError(
            f"artifact {name} is a link to {url!r}, which you do not trust yet",
            hint=f"`gml config --global artifacts.links '{beginning}'` trusts all links that begin so",
        )
    return open_elsewhere(check_url(url), Blob(facts.sha256, facts.size), _options(workspace, url))


def _options(workspace: Workspace, url: str) -> Mapping[str, Any]:
    """Return the options of the artifact remote that a URL is on."""
    for remote in workspace.artifact_remotes.values():
        if url.startswith(f"{remote.url.rstrip('/')}/"):
            return remote.options
    return {}


def _is_trusted(workspace: Workspace, url: str) -> bool:
    for key, value in workspace.store.config_items(protected=True):
        if key.lower() == _SETTING and value and any(_begins(url, one) for one in value.split()):
            return True
    with suppress(OSError, UnicodeDecodeError):
        return url in _own(workspace).read_text(encoding="utf-8").splitlines()
    return False


def _begins(url: str, beginning: str) -> bool:
    """Whether a URL is below another one; a host is compared as a whole, and `..` is below nothing."""
    if ".." in url.split("/") or "://" not in beginning:
        return False
    return url.startswith(beginning if beginning.endswith("/") else f"{beginning}/") or url == beginning


def _own(workspace: Workspace) -> Path:
    return workspace.state_dir / "links"


def _remember(workspace: Workspace, url: str) -> None:
    path = _own(workspace)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{url}\n")
    except OSError as error:
        raise storage_error(error, f"cannot write {path}") from error
