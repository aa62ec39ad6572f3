"""`gml rerun`: run a recorded run again, from its record alone, and say whether it came out the same."""

from gml.projects.rerun.drift import CHANGED, DRIFTED, FAILED, REPRODUCED, Report, Tolerances
from gml.projects.rerun.execute import Result, Wish, rerun
from gml.projects.rerun.needs import MissingPartsError, Need

__all__ = [
    "CHANGED",
    "DRIFTED",
    "FAILED",
    "REPRODUCED",
    "MissingPartsError",
    "Need",
    "Report",
    "Result",
    "Tolerances",
    "Wish",
    "rerun",
]
