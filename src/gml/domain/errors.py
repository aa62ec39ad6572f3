"""The one error root of gml, with an exit code for each class.

Every error says three things in one line: what went wrong, why, and what to do.

    >>> str(NotFoundError("no run matches 'abc'", hint="gml ls shows the runs"))
    "no run matches 'abc'; gml ls shows the runs"
"""

from __future__ import annotations


class GmlError(Exception):
    """Root of all errors that gml raises on purpose.

    Args:
        message: what happened and why, one line, without a trailing full stop.
        hint: what the user can do about it, if there is something.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(GmlError):
    """The command or call was put together wrongly."""

    exit_code = 2


class RepositoryError(GmlError):
    """There is no usable git repository here."""

    exit_code = 3


class NotFoundError(GmlError):
    """A run, experiment, artifact or other named thing does not exist."""

    exit_code = 4


class AmbiguousError(GmlError):
    """A short name fits more than one thing."""

    exit_code = 5


class ConflictError(GmlError):
    """The request contradicts what is already recorded, such as a rewritten param."""

    exit_code = 6


class InvalidValueError(GmlError, ValueError):
    """A key or value is outside what the format allows."""

    exit_code = 7


class StorageError(GmlError):
    """Bytes could not be read or written: read-only, full, or failing storage."""

    exit_code = 8


class CorruptError(GmlError):
    """Stored data does not match its digest or its format."""

    exit_code = 9


class FormatError(GmlError):
    """Data was written by a newer gml than this one."""

    exit_code = 10


class MissingPackageError(GmlError):
    """An optional Python package is needed for this call."""

    exit_code = 11


class RemoteError(GmlError):
    """Another repository or store could not be reached, or refused."""

    exit_code = 12


class PolicyError(GmlError):
    """The registry's rules or the approval policy do not allow this."""

    exit_code = 13


class TrustError(GmlError):
    """Loading a model would run code that nobody approved, or a link leads where nobody said it may."""

    exit_code = 14


class RefMovedError(ConflictError):
    """A ref no longer points where the writer thought it did; read again and retry."""
