"""How the scores of a path's steps become the score of the path."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Aggregation(StrEnum):
    """The rule; the literature differs, so it is always a parameter.

    Search-and-learn and REBASE use the last step's score; particle filtering's released runs (arXiv 2502.01618) judge
    the whole prefix as one step, which its text calls model aggregation.
    """

    LAST = "last"
    MIN = "min"
    PROD = "prod"
    MEAN = "mean"
    WHOLE = "whole"
    """the verifier is given the whole path as a single step"""


def aggregate(values: Sequence[float], how: Aggregation) -> float:
    """Return one number in [0, 1] from one score per step; `values` is not empty."""
    if how is Aggregation.MIN:
        return min(values)
    if how is Aggregation.PROD:
        return math.prod(values)
    if how is Aggregation.MEAN:
        return math.fsum(values) / len(values)
    return values[-1]
