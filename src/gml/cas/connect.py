"""Opening an fsspec file system the way gml needs it: no cached listings, no retries of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from gml.domain.errors import MissingPackageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXTRAS: Final = {
    "s3": "gitml[s3]", "s3a": "gitml[s3]", "sftp": "gitml[sftp]", "ssh": "gitml[sftp]",
    "webdav": "gitml[webdav]", "webdavs": "gitml[webdav]", "gs": "gcsfs", "gcs": "gcsfs",
    "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs",
}  # fmt: skip
_CACHING: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})


def local_folder(url: str) -> Path | None:
    """Return the folder that a path or a `file://` URL names, None for any other URL.

    Raises:
        UsageError: the text is empty, or the URL names a host.
    """
    if not url:
        raise UsageError("the URL of the store is empty", hint="give a folder or an fsspec URL")
    if "://" not in url:
        return Path(url).expanduser()
    parts = urlsplit(url)
    if parts.scheme not in {"file", "local"}:
        return None
    if parts.netloc not in {"", "localhost"}:
        raise UsageError(f"{url!r} names a host", hint="a local folder is file:///path, with three slashes")
    return Path(unquote(parts.path))


def check_scheme(url: str) -> None:
    """Raise unless the scheme of a URL is one that fsspec knows; whether its package is here is not asked.

    Raises:
        UsageError: the scheme is unknown.
    """
    from fsspec.registry import known_implementations, registry

    scheme = url.partition("://")[0]
    if scheme not in known_implementations and scheme not in registry and scheme not in _EXTRAS:
        raise UsageError(
            f"there is no file system for {scheme}://",
            hint="such as s3://bucket/prefix, sftp://host/path, webdavs://host/path, gs://…, a folder",
        )


def connect(url: str, options: Mapping[str, Any], jobs: int = 8) -> tuple[Any, str]:
    """Return the file system of a URL and the path within it, without a slash at its end.

    Args:
        url: any fsspec URL.
        options: for the file system; they win over what is set here.
        jobs: connections at once.

    Raises:
        UsageError: the scheme is unknown, or the URL lacks a part.
        MissingPackageError: the scheme needs a package that is not installed.
    """
    scheme = url.partition("://")[0]
    try:
        if scheme in {"sftp", "ssh"}:
            return _sftp(url, options)
        if scheme in {"webdav", "webdavs"}:
            return _webdav(url, options)
        return _any(url, scheme, options, jobs)
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        hint = f"pip install '{extra}'" if extra else " ".join(str(error).split())
        raise MissingPackageError(f"{scheme}:// needs a package that is not installed", hint=hint) from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"cannot use {url!r} as a store: {error}") from error


def _any(url: str, scheme: str, options: Mapping[str, Any], jobs: int) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    given = dict(options)
    if scheme in _CACHING:
        given.setdefault("use_listings_cache", False)
        given.setdefault("skip_instance_cache", True)
    if scheme in {"s3", "s3a"}:
        config: dict[str, Any] = {
            # One place repeats requests and knows when to stop: gml.cas.retry.
            "retries": {"total_max_attempts": 1},
            "max_pool_connections": max(10, 2 * jobs),
            # Every body goes with its Content-MD5, which is signed; other checksums cost a core.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        config.update(given.get("config_kwargs", {}))
        s3 = {"payload_signing_enabled": False, **config.get("s3", {})}
        given["config_kwargs"] = {**config, "s3": s3}
    system, root = url_to_fs(url, **given)
    if scheme in {"s3", "s3a"}:
        system.retries = 1
    return system, str(root).rstrip("/")


def _webdav(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    from webdav4.fsspec import WebdavFileSystem

    parts = urlsplit(url)
    if not parts.hostname:
        raise UsageError(f"{url!r} names no host", hint="such as webdavs://host/folder")
    given = dict(options)
    auth = given.pop("auth", None)
    secure = "https" if parts.scheme == "webdavs" else "http"
    base = given.pop("base_url", f"{secure}://{parts.netloc.rpartition('@')[2]}/")
    if auth is None and parts.username:
        auth = (unquote(parts.username), unquote(parts.password or ""))
    # From JSON the two parts come as a list.
    auth = tuple(auth) if isinstance(auth, list) else auth
    given.setdefault("timeout", 60.0)
    return WebdavFileSystem(base, auth=auth, **given), unquote(parts.path).strip("/")


def _sftp(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """Connect as the user's ssh would: its configuration, its agent, its known hosts."""
    import paramiko
    from fsspec.implementations.sftp import SFTPFileSystem

    parts = urlsplit(url)
    if not parts.hostname:
        raise UsageError(f"{url!r} names no host", hint="such as sftp://host/folder")
    wanted = dict(options)
    known_hosts = wanted.pop("known_hosts", None)
    config = paramiko.SSHConfig()
    file = Path(os.path.expanduser("~/.ssh/config"))  # noqa: PTH111 - HOME as it is now
    if file.is_file():
        config = paramiko.SSHConfig.from_path(str(file))
    said = config.lookup(parts.hostname)
    given: dict[str, Any] = {"timeout": 30, "banner_timeout": 30}
    if said.get("proxycommand"):
        given["sock"] = paramiko.ProxyCommand(said["proxycommand"])
    if said.get("identityfile"):
        given["key_filename"] = [os.path.expanduser(name) for name in said["identityfile"]]  # noqa: PTH111
    given["port"] = int(parts.port or said.get("port") or 22)
    given["username"] = unquote(parts.username) if parts.username else said.get("user")
    given["password"] = unquote(parts.password) if parts.password else None
    given.update(wanted)

    class KnownHosts(SFTPFileSystem):  # type: ignore[misc]
        cachable = False

        def _connect(self) -> None:
            self.client = paramiko.SSHClient()
            self.client.load_system_host_keys()
            if known_hosts:
                self.client.load_system_host_keys(known_hosts)
            # As ssh does in scripts: a host that nobody has seen before is not trusted.
            self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
            self.client.connect(self.host, **self.ssh_kwargs)
            self.ftp = self.client.open_sftp()

    return KnownHosts(said.get("hostname", parts.hostname), **given), unquote(parts.path).rstrip("/")
