"""The one error of this room: a code of MLflow's list and the text that its clients know."""

from __future__ import annotations

from typing import Final

from gml.domain.errors import GmlError

INVALID: Final = "INVALID_PARAMETER_VALUE"
MISSING: Final = "RESOURCE_DOES_NOT_EXIST"
EXISTS: Final = "RESOURCE_ALREADY_EXISTS"
STATE: Final = "INVALID_STATE"
INTERNAL: Final = "INTERNAL_ERROR"
UNAVAILABLE: Final = "TEMPORARILY_UNAVAILABLE"
NOT_IMPLEMENTED: Final = "NOT_IMPLEMENTED"
DENIED: Final = "PERMISSION_DENIED"
CORRUPT: Final = "DATA_LOSS"

_PRINTED: Final = 200


class ServiceError(GmlError):
    """A request that cannot be answered.

    Args:
        message: text for the client.
        code: name of MLflow's error code, which decides the HTTP status.
    """

    def __init__(self, message: str, code: str = INVALID) -> None:
        super().__init__(message)
        self.code = code


def run_missing(run_id: str) -> ServiceError:
    """Return the error for a run that is not there."""
    return ServiceError(f"Run with id={run_id} not found", MISSING)


def not_active(kind: str, name: str, stage: str) -> ServiceError:
    """Return the error for a change of something deleted."""
    return ServiceError(f"The {kind} {name} must be in the 'active' state. Current state is {stage}.")


def translate(error: GmlError) -> ServiceError:
    """Return an error of the rooms below as clients of MLflow understand it."""
    from gml.domain.errors import (
        ConflictError,
        CorruptError,
        InvalidValueError,
        NotFoundError,
        PolicyError,
        StorageError,
        UsageError,
    )

    if isinstance(error, ServiceError):
        return error
    for kind, code in (
        (NotFoundError, MISSING),
        (InvalidValueError, INVALID),
        (UsageError, INVALID),
        (ConflictError, INVALID),
        (StorageError, UNAVAILABLE),
        (CorruptError, CORRUPT),
        (PolicyError, DENIED),
    ):
        if isinstance(error, kind):
            return ServiceError(str(error), code)
    return ServiceError(str(error), INTERNAL)
