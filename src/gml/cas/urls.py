"""Sending a finished file to any fsspec URL."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from gml.cas.trouble import storage_trouble
from gml.domain.errors import GmlError, MissingPackageError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WITHOUT_FOLDERS: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"})


def is_url(text: str) -> bool:
    """Whether a text is a URL, not a path.

    Example:
        >>> is_url("s3://bucket/runs.parquet"), is_url("runs.csv"), is_url("C:/runs.csv")
        (True, False, False)
    """
    return "://" in text


@contextmanager
def _clearly(doing: str) -> Iterator[None]:
    """Turn whatever a storage library raises into one line; `doing` completes "cannot ..."."""
    try:
        yield
    except GmlError:
        raise
    except Exception as error:
        raise storage_trouble(error, f"cannot {doing}") from error


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
    with _clearly(f"write {url}"):
        parent = target.rpartition("/")[0]
        # An object store has no folders, and would make a bucket of a name that is misspelt.
        if parent and scheme not in _WITHOUT_FOLDERS:
            system.makedirs(parent, exist_ok=True)
        system.put_file(str(path), target)


def receive(url: str, path: Path) -> None:
    """Copy a file at a URL to a local path; it appears there when it is whole.

    Raises:
        UsageError: the scheme is unknown.
        MissingPackageError: the scheme needs a package that is not installed.
        NotFoundError: there is nothing at the URL.
        StorageError: it could not be read or written.
    """
    from fsspec.core import url_to_fs

    from gml.fs import write_stream

    scheme = url.partition("://")[0]
    try:
        system, source = url_to_fs(url)
    except ImportError as error:
        raise MissingPackageError(
            f"{scheme}:// needs a package that is not installed", hint=" ".join(str(error).split())
        ) from error
    except ValueError as error:
        raise UsageError(f"cannot read {url!r}: {error}") from error
    with _clearly(f"read {url}"):
        try:
            with system.open(source, "rb") as file:
                write_stream(path, file)
        except FileNotFoundError:
            raise NotFoundError(f"there is nothing at {url}") from None
