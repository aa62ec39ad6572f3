"""What a rerun needs and does not find, all of it said at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gml.domain.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

NOT_STARTED: Final = 22


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that is not as it was when the run was recorded.

    Attributes:
        part: `code`, `command`, `data`, `environment` or `hardware`.
        name: the thing, such as `data/train.csv` or `numpy`.
        detail: how it differs, or why it is missing.
        blocking: whether the rerun cannot start without it.
    """

    part: str
    name: str
    detail: str
    blocking: bool = False

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.part}: {self.name}: {self.detail}"


class MissingPartsError(NotFoundError):
    """Something that a rerun cannot do without is not here; nothing was run.

    Attributes:
        needs: everything that is missing or differs.
    """

    exit_code = NOT_STARTED

    def __init__(self, run: str, needs: Sequence[Need]) -> None:
        blocking = [need for need in needs if need.blocking]
        listed = "; ".join(map(str, blocking))
        super().__init__(f"run {run} cannot be run again: {listed}", hint="--force tries all the same")
        self.needs = list(needs)
