"""Weights and resampling schemes of sequential Monte Carlo: pure functions of numbers and a random generator."""

from __future__ import annotations

import math
from bisect import bisect_right
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

EPSILON = 2.2e-16
"""Keeps logarithms finite; the clip of particle filtering's released code."""


class WeightMap(StrEnum):
    """How a score in [0, 1] becomes a log-weight."""

    LOGIT = "logit"
    IDENTITY = "identity"
    LOG = "log"


class Scheme(StrEnum):
    """How many copies each particle gets."""

    MULTINOMIAL = "multinomial"
    SYSTEMATIC = "systematic"
    STRATIFIED = "stratified"
    RESIDUAL = "residual"


def log_weight(score: float, how: WeightMap) -> float:
    """Map a score in [0, 1] to a log-weight: logit makes weights odds, log the scores, identity a softmax of them."""
    if how is WeightMap.IDENTITY:
        return score
    clipped = min(max(score, EPSILON), 1 - EPSILON)
    return math.log(clipped) - (math.log1p(-clipped) if how is WeightMap.LOGIT else 0.0)


def softmax(values: Sequence[float], temperature: float = 1.0) -> list[float]:
    """Return probabilities proportional to exp(value / temperature); uniform where every value is minus infinity."""
    top = max(values)
    if top == -math.inf:
        return [1 / len(values)] * len(values)
    powers = [math.exp((value - top) / temperature) for value in values]
    total = math.fsum(powers)
    return [power / total for power in powers]


def effective_size(probabilities: Sequence[float]) -> float:
    """Return 1 / sum p^2: from 1, all weight on one particle, to N, all alike."""
    return 1 / math.fsum(p * p for p in probabilities)


def resample(probabilities: Sequence[float], count: int, scheme: Scheme, random: Random) -> list[int]:
    """Return `count` indices, ascending, each expected count * p times (exactly, on average, for every scheme)."""
    return sorted(_SCHEMES[scheme](probabilities, count, random))


def _at(probabilities: Sequence[float], positions: Sequence[float]) -> list[int]:
    cumulative = list(accumulate(probabilities))
    # Rounding may leave the last sum below 1, and a position beyond it; the last particle of any weight takes those.
    last = max(place for place, p in enumerate(probabilities) if p > 0)
    return [min(bisect_right(cumulative, position * cumulative[-1]), last) for position in positions]


def _multinomial(probabilities: Sequence[float], count: int, random: Random) -> list[int]:
    return _at(probabilities, [random.random() for _ in range(count)])


def _systematic(probabilities: Sequence[float], count: int, random: Random) -> list[int]:
    offset = random.random()
    return _at(probabilities, [(place + offset) / count for place in range(count)])


def _stratified(probabilities: Sequence[float], count: int, random: Random) -> list[int]:
    return _at(probabilities, [(place + random.random()) / count for place in range(count)])


def _residual(probabilities: Sequence[float], count: int, random: Random) -> list[int]:
    # The slack keeps a product that is a whole number but for rounding from losing a certain copy.
    certain = [math.floor(count * p + 1e-9) for p in probabilities]
    sure = [place for place, copies in enumerate(certain) for _ in range(copies)]
    rest = [max(0.0, count * p - copies) for p, copies in zip(probabilities, certain, strict=True)]
    missing = count - len(sure)
    total = math.fsum(rest)
    return sure if missing <= 0 or total <= 0 else sure + _multinomial([r / total for r in rest], missing, random)


_SCHEMES: dict[Scheme, Callable[[Sequence[float], int, Random], list[int]]] = {
    Scheme.MULTINOMIAL: _multinomial,
    Scheme.SYSTEMATIC: _systematic,
    Scheme.STRATIFIED: _stratified,
    Scheme.RESIDUAL: _residual,
}


class Annealing(StrEnum):
    """How entropic particle filtering flattens weights early in the search."""

    NONE = "none"
    ESS = "ess"
    ENTROPY = "entropy"
    BASE = "base"


def annealed(
    log_weights: Sequence[float],
    progress: float,
    how: Annealing,
    *,
    temperature: float = 1.0,
    threshold: float = 0.5,
    until: float = 0.5,
) -> list[float]:
    """Return resampling probabilities, flattened while few particles hold most of the weight early on.

    Entropic particle filtering as its_hub's code has it: when the effective size is below `threshold` of the particles
    and `progress` (in [0, 1]) below `until`, the softmax is taken again at a higher temperature. Departure: entropy is
    normalised for two particles as well.
    """
    probabilities = softmax(log_weights, temperature)
    ratio = effective_size(probabilities) / len(probabilities)
    if how is Annealing.NONE or ratio >= threshold or progress >= until:
        return probabilities
    return softmax(log_weights, temperature * annealing_temperature(probabilities, progress, how))


def annealing_temperature(probabilities: Sequence[float], progress: float, how: Annealing) -> float:
    """Return the factor, at least 1, by which the temperature is raised."""
    if how is Annealing.ESS:
        return max(1.0, len(probabilities) / effective_size(probabilities) * (1 - progress))
    if how is Annealing.ENTROPY:
        blend = normalised_entropy(probabilities)
        blend += (1 - blend) * progress
        return max(1.0, 1 / blend) if blend > 0 else 1 / EPSILON
    return max(1.0, 2 - progress)


def normalised_entropy(probabilities: Sequence[float]) -> float:
    """Return the entropy over that of the uniform distribution, in [0, 1]; 1 for a single particle."""
    if len(probabilities) < 2:
        return 1.0
    return -math.fsum(p * math.log(p) for p in probabilities if p > 0) / math.log(len(probabilities))
