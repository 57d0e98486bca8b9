"""What a pool of samples comes to: whether one is right, and what rules that choose among them make of it."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import lru_cache
from math import comb
from statistics import fmean
from typing import TYPE_CHECKING

from pydantic import Field

from tts.aggregation import Aggregation, aggregate
from tts.benchmarks.testbed.figures import Estimate, mean_of, ratio_of
from tts.types import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from tts.benchmarks.testbed.pools import Attempt, Pool

COUNTS = (1, 4, 16, 64)
CLOSES = 16
"""The number of samples at which the way from one sample to any right one is looked at."""

RULES = (Aggregation.LAST, Aggregation.MIN, Aggregation.PROD)


class Curves(Frozen):
    """Shares of problems that are right, by the number of samples."""

    greedy: Estimate = Field(description="the likeliest tokens alone")
    pass_at: dict[int, Estimate] = Field(description="some sample is right; unbiased")
    best_of: dict[Aggregation, dict[int, Estimate]] = Field(description="the best sample, over all subsets of a pool")
    weighted_vote: dict[int, Estimate] = Field(description="by last scores, over disjoint groups of a pool")
    majority_vote: dict[int, Estimate] = Field(description="over disjoint groups of a pool")
    closed: Estimate | None = Field(
        description="share of the way from pass@1 to pass@16 that Best-of-16 by the last score goes"
    )


def curves_of(pools: Sequence[Pool]) -> Curves:
    """Return the curves of some problems."""
    samples = [pool.attempts for pool in pools]
    counts = [count for count in COUNTS if count <= min(map(len, samples))]

    def curve(rule: Callable[[Sequence[Attempt], int], float], begin: int = 1) -> dict[int, Estimate]:
        return {count: mean_of([rule(attempts, count) for attempts in samples]) for count in counts[begin:]}

    return Curves(
        greedy=mean_of([float(pool.greedy.right) for pool in pools]),
        pass_at=curve(pass_at, begin=0),
        best_of={how: curve(_ranked_by(how)) for how in RULES},
        weighted_vote=curve(lambda attempts, count: voted(attempts, count, score_of)),
        majority_vote=curve(lambda attempts, count: voted(attempts, count, lambda _: 1.0)),
        closed=_closed(samples) if CLOSES in counts else None,
    )


def _ranked_by(how: Aggregation) -> Callable[[Sequence[Attempt], int], float]:
    return lambda attempts, count: best_of(attempts, count, how)


def _closed(samples: Sequence[Sequence[Attempt]]) -> Estimate | None:
    ones = [pass_at(attempts, 1) for attempts in samples]
    way = [pass_at(attempts, CLOSES) - one for attempts, one in zip(samples, ones, strict=True)]
    gone = [best_of(attempts, CLOSES) - one for attempts, one in zip(samples, ones, strict=True)]
    return ratio_of(gone, way)


def score_of(attempt: Attempt, how: Aggregation = Aggregation.LAST) -> float:
    """Return an attempt's score; one that says nothing has none, and ranks below all others."""
    return aggregate(attempt.scores, how) if attempt.scores else -math.inf


def pass_at(attempts: Sequence[Attempt], count: int) -> float:
    """Return the chance that one of `count` samples is right, without bias (arXiv 2107.03374)."""
    wrong = sum(not attempt.right for attempt in attempts)
    return 1 - comb(wrong, count) / comb(len(attempts), count)


def best_of(attempts: Sequence[Attempt], count: int, how: Aggregation = Aggregation.LAST) -> float:
    """Return the chance that the best of `count` samples is right: exactly, over all subsets of the pool.

    Samples are ranked as the library ranks candidates: one with an answer goes before one without.
    """

    def rank(place: int) -> tuple[bool, bool, float, int]:
        attempt = attempts[place]
        return attempt.answer is None, not attempt.finished, -score_of(attempt, how), place

    order = sorted(range(len(attempts)), key=rank)
    chances = _chances_of_being_best(len(attempts), count)
    return math.fsum(chance for place, chance in zip(order, chances, strict=True) if attempts[place].right)


@lru_cache(maxsize=64)
def _chances_of_being_best(total: int, count: int) -> tuple[float, ...]:
    """Return, for each rank, the chance that it is the first one in a random subset."""
    return tuple(comb(total - 1 - rank, count - 1) / comb(total, count) for rank in range(total))


def voted(attempts: Sequence[Attempt], count: int, weight: Callable[[Attempt], float]) -> float:
    """Return how often the answer of greatest weight is right, over the disjoint groups of `count` in a pool."""
    groups = [attempts[start : start + count] for start in range(0, len(attempts) - count + 1, count)]
    return fmean(_vote(group, weight) for group in groups)


def _vote(attempts: Sequence[Attempt], weight: Callable[[Attempt], float]) -> bool:
    totals: dict[Hashable, float] = defaultdict(float)
    right: dict[Hashable, bool] = {}
    for attempt in attempts:
        if attempt.key is not None:
            totals[attempt.key] += weight(attempt)
            right.setdefault(attempt.key, attempt.right)
    return bool(totals) and right[max(totals, key=totals.__getitem__)]
