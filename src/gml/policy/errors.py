"""Refusals of the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml.domain.errors import PolicyError

if TYPE_CHECKING:
    from gml.policy.view import Accepted


class RefusedError(PolicyError):
    """A change is not allowed.

    Args:
        code: short name of the rule, such as `approvals` or `history`.
        message: what is wrong, one line.
        pending: nothing but approvals is missing, so a later commit may still complete the change.
        change: what was found out about the change before it was refused.
        hint: what to do about it.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        pending: bool = False,
        change: Accepted | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.pending = pending
        self.change = change
