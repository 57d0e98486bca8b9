"""What figures are worth: intervals of one accuracy and of a mean, and two strategies compared on the same problems.

None rests on the central limit theorem, whose intervals are too narrow for the few hundred problems of a benchmark and
have no width where all answers are right. Everything random is seeded.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from scipy.stats import beta, binom, norm

from tts.errors import ParameterError
from tts.types import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 10_000
DRAWS = 100_000
_CHUNK = 1_000_000
"""Numbers that a bootstrap holds at a time."""


class Interval(Frozen):
    """An estimate with the interval that holds it at some level."""

    estimate: float
    low: float
    high: float


def _check(right: int, total: int, level: float) -> None:
    if not 0 <= right <= total or total < 1:
        raise ParameterError(f"{right} right of {total}: expected 0 <= right <= total, and a problem at least")
    if not 0 < level < 1:
        raise ParameterError(f"level is {level}; it lies between 0 and 1")


def bayes_interval(right: int, total: int, level: float = LEVEL) -> Interval:
    """Return the equal-tailed credible interval of an accuracy whose prior is uniform.

    The estimate is the share of right answers, which lies outside the interval where none or all are right.
    """
    _check(right, total, level)
    tail = (1 - level) / 2
    low, high = (float(beta.ppf(share, right + 1, total - right + 1)) for share in (tail, 1 - tail))
    return Interval(estimate=right / total, low=low, high=high)


def wilson_interval(right: int, total: int, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval (1927) of an accuracy."""
    _check(right, total, level)
    share, z = right / total, float(norm.ppf((1 + level) / 2))
    scale = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return Interval(estimate=share, low=max(0.0, centre - half), high=min(1.0, centre + half))


def exact_interval(right: int, total: int, level: float = LEVEL) -> Interval:
    """Return the interval of Clopper and Pearson (1934), which covers at least at its level, and is wide for it."""
    _check(right, total, level)
    tail = (1 - level) / 2
    low = 0.0 if right == 0 else float(beta.ppf(tail, right, total - right + 1))
    high = 1.0 if right == total else float(beta.ppf(1 - tail, right + 1, total - right))
    return Interval(estimate=right / total, low=low, high=high)


class Paired(Frozen):
    """Two strategies on the same problems: how much more often the first is right than the second."""

    both: int = Field(description="problems that both have right")
    first_only: int
    second_only: int
    neither: int
    difference: Interval = Field(description="of accuracies, first less second; credible interval")
    probability: float = Field(description="posterior probability that the first is the better one")
    p_value: float = Field(description="McNemar's test, two-sided, mid-p")


def compare_paired(
    first: Sequence[bool], second: Sequence[bool], *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> Paired:
    """Compare two strategies by their verdicts on the same problems, in the same order.

    The four kinds of problem have probabilities with a uniform prior (Dirichlet(1, 1, 1, 1)); the interval is that of
    P(only the first is right) - P(only the second is right), by `draws` draws of the posterior.
    """
    if len(first) != len(second) or not first:
        raise ParameterError(f"verdicts on {len(first)} and {len(second)} problems cannot be paired")
    pairs = list(zip(first, second, strict=True))
    both, neither = pairs.count((True, True)), pairs.count((False, False))
    ahead, behind = pairs.count((True, False)), pairs.count((False, True))
    posterior = np.random.default_rng(seed).dirichlet([1 + both, 1 + ahead, 1 + behind, 1 + neither], draws)
    tail = (1 - level) / 2
    low, high = np.quantile(posterior[:, 1] - posterior[:, 2], [tail, 1 - tail])
    return Paired(
        both=both,
        first_only=ahead,
        second_only=behind,
        neither=neither,
        difference=Interval(estimate=(ahead - behind) / len(pairs), low=float(low), high=float(high)),
        probability=probability_better(ahead, behind),
        p_value=mcnemar(ahead, behind),
    )


def probability_better(ahead: int, behind: int) -> float:
    """Return the posterior probability that problems won outnumber problems lost.

    Exact: of Dirichlet shares, the ratio of two to their sum has a beta distribution whatever the others are.
    """
    return float(beta.sf(0.5, 1 + ahead, 1 + behind))


def mcnemar(ahead: int, behind: int) -> float:
    """Return the two-sided mid-p value of McNemar's test on the problems that only one strategy has right."""
    fewer, discordant = min(ahead, behind), ahead + behind
    return float(2 * binom.cdf(fewer, discordant, 0.5) - binom.pmf(fewer, discordant, 0.5))


def mean_interval(
    values: Sequence[float], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Return the mean over problems with its bootstrap interval: bias-corrected and accelerated (Efron 1987).

    Problems are what is drawn again, so give one value a problem; the mean over its samples where it has several.
    """
    data = np.asarray(values, dtype=float)
    if not len(data):
        raise ParameterError("a mean needs a value at least")
    mean = float(data.mean())
    if np.ptp(data) == 0:
        return Interval(estimate=mean, low=mean, high=mean)
    means = _resampled_means(data, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, _corrected_tails(data, means, (1 - level) / 2))
    return Interval(estimate=mean, low=float(low), high=float(high))


def _resampled_means(data: NDArray[np.float64], resamples: int, random: np.random.Generator) -> NDArray[np.float64]:
    rows = max(1, _CHUNK // len(data))
    counts = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    return np.concatenate([data[random.integers(0, len(data), (count, len(data)))].mean(axis=1) for count in counts])


def _corrected_tails(data: NDArray[np.float64], means: NDArray[np.float64], tail: float) -> NDArray[np.float64]:
    """Return at which quantiles of the resampled means the interval ends."""
    below = (np.mean(means < data.mean()) + np.mean(means <= data.mean())) / 2
    bias = norm.ppf(below)
    deviations = data - data.mean()
    acceleration = np.sum(deviations**3) / (6 * np.sum(deviations**2) ** 1.5)
    z = bias + norm.ppf([tail, 1 - tail])
    return np.asarray(norm.cdf(bias + z / (1 - acceleration * z)), dtype=float)
