"""Sending a finished file to any fsspec URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml.cas.transfer import storage_errors
from gml.domain.errors import MissingPackageError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def is_url(text: str) -> bool:
    """Whether a text is a URL, not a path.

    Example:
        >>> is_url("s3://bucket/runs.parquet"), is_url("runs.csv"), is_url("C:/runs.csv")
        (True, False, False)
    """
    return "://" in text


def send(path: Path, url: str) -> None:
    """Copy a local file to a URL such as `s3://bucket/runs.parquet`, replacing what is there.

    Raises:
        UsageError: the scheme is unknown.
        MissingPackageError: the scheme needs a package that is not installed.
        StorageError: it could not be written.
    """
    from fsspec.core import url_to_fs

    scheme = url.partition("://")[0]
    try:
        system, target = url_to_fs(url)
    except ImportError as error:
        raise MissingPackageError(
            f"{scheme}:// needs a package that is not installed", hint=" ".join(str(error).split())
        ) from error
    except ValueError as error:
        raise UsageError(f"cannot write to {url!r}: {error}") from error
    with storage_errors(f"write {url}"):
        parent = target.rpartition("/")[0]
        if parent:
            system.makedirs(parent, exist_ok=True)
        system.put_file(str(path), target)
