"""Counting solutions of Countdown for many positions at once, in numpy: training asks it of millions.

A position is a row of values; zero stands for a move that is not allowed, and what holds a zero has no solution. Moves
on equal values are counted each, unlike in `tts.benchmarks.tasks.countdown.count_solutions`; whether there is a
solution at all is the same.
"""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tts.benchmarks.tasks.countdown import LARGEST_INTERMEDIATE

Positions = NDArray[np.int32]
OPERATORS = "+-*/"


def results(first: Positions, second: Positions) -> Positions:
    """Return the result of each operator on pairs of values, in a new last axis of four; zero where not allowed."""
    larger, smaller = np.maximum(first, second), np.minimum(first, second)
    divisor = np.maximum(smaller, 1)
    quotient = np.where(larger % divisor == 0, larger // divisor, 0)
    every = np.stack([larger + smaller, larger - smaller, larger * smaller, quotient], axis=-1)
    every[(every > LARGEST_INTERMEDIATE) | (smaller <= 0)[..., None]] = 0
    return every


def positions_after(left: Positions, first: int, second: int) -> Positions:
    """Return the positions that the four operators make of two of the values: shape (..., 4, values - 1)."""
    made = results(left[..., first], left[..., second])
    kept = np.delete(left, (first, second), axis=-1)[..., None, :]
    spread = np.broadcast_to(kept, (*made.shape, kept.shape[-1]))
    return np.where((made > 0)[..., None], np.concatenate([spread, made[..., None]], axis=-1), 0)


def count(left: Positions, target: Positions) -> NDArray[np.int64]:
    """Count the ways from positions (..., values) to targets (...)."""
    values = left.shape[-1]
    if values == 1:
        ways = left == target[..., None]
    elif values == 2:
        ways = results(left[..., 0], left[..., 1]) == target[..., None]
    else:
        ways = np.stack([counts_after(left, target, *pair).sum(-1) for pair in pairs(values)], axis=-1)
    total: NDArray[np.int64] = ways.sum(-1)
    return total


def counts_after(left: Positions, target: Positions, first: int, second: int) -> NDArray[np.int64]:
    """Count the ways that go on after each operator on two of the values: shape (..., 4)."""
    reached = positions_after(left, first, second)
    return count(reached, np.broadcast_to(target[..., None], reached.shape[:-1]))


def pairs(values: int) -> list[tuple[int, int]]:
    """Return the pairs of places among so many values."""
    return list(combinations(range(values), 2))
