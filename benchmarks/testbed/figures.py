"""Estimates with standard errors over problems. A problem's samples are not independent: problems are what is counted.

Pure functions of numbers; nothing here knows what a sample is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import rankdata

from tts.errors import ParameterError
from tts.types import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Estimate(Frozen):
    """A figure and its standard error over problems, None where one problem alone bears on it."""

    value: float
    error: float | None


class Area(Frozen):
    """How well scores tell good parts from bad ones."""

    good: int = Field(description="good parts")
    bad: int = Field(description="bad parts")
    auc: Estimate | None = Field(description="chance that a good part outscores a bad one; None where all are alike")


def mean_of(values: Sequence[float]) -> Estimate:
    """Return the mean of one value a problem.

    Raises:
        ParameterError: There is no value.
    """
    if not len(values):
        raise ParameterError("a mean over problems needs a problem at least")
    return _from_influences(float(np.mean(values)), (np.asarray(values) - np.mean(values)) / len(values))


def ratio_of(tops: Sequence[float] | Floats, bottoms: Sequence[float] | Floats) -> Estimate | None:
    """Return the sum of `tops` over that of `bottoms`, one of each a problem; None where the latter sum to nothing.

    The standard error is that of the delta method.
    """
    top, bottom = np.asarray(tops, dtype=float), np.asarray(bottoms, dtype=float)
    total = float(bottom.sum())
    if not total:
        return None
    value = float(top.sum()) / total
    return _from_influences(value, (top - value * bottom) / total)


def _from_influences(value: float, influences: Floats) -> Estimate:
    """Return an estimate, given how much each problem moves it."""
    count = len(influences)
    error = None if count < 2 else float(np.sqrt(count / (count - 1) * np.sum(influences**2)))
    return Estimate(value=value, error=error)


def area(scores: Floats, good: Flags, problems: Integers) -> Area:
    """Return the area under the curve of scored parts, of which many belong to one problem.

    The standard error is Obuchowski's for clustered data (Biometrics 53, 1997). Equal scores count as one half.
    """
    goods, bads = int(good.sum()), int((~good).sum())
    if not goods or not bads:
        return Area(good=goods, bad=bads, auc=None)
    ranks = rankdata(scores)
    # Of each part, the share of the parts of the other kind that it is on the right side of.
    placements = np.empty(len(scores))
    placements[good] = (ranks[good] - rankdata(scores[good])) / bads
    placements[~good] = 1 - (ranks[~good] - rankdata(scores[~good])) / goods
    value = float(placements[good].mean())
    deviations = (placements - value) / np.where(good, goods, bads)
    return Area(good=goods, bad=bads, auc=_from_influences(value, per_problem(problems, deviations)))


def per_problem(problems: Integers, values: Floats) -> Floats:
    """Return the sum of the values of each problem that has any, in the order of the problems' numbers."""
    _, clusters = np.unique(problems, return_inverse=True)
    return np.bincount(clusters, values).astype(np.float64)
