"""Draws the next token of each row of a batch; a row's draw depends on that row alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.backends.embedded.arrays import Doubles, Floats, Integers


COLDEST = 1e-6
"""Below this temperature the most likely token is as good as certain, and dividing by it would overflow."""


class Draw(NamedTuple):
    """How one row is drawn; `uniform` lies in [0, 1)."""

    temperature: float
    top_k: int
    top_p: float
    uniform: float


def uniforms(seed: int, count: int) -> Doubles:
    """Return numbers in [0, 1) by which a child draws its tokens: a counter-based stream of its own for each seed.

    They have 52 bits, so that a number times a sum is always below the sum.
    """
    raw = np.random.Philox(key=seed % 2**128).random_raw(count)
    return np.ldexp((raw >> np.uint64(12)).astype(np.float64), -52)


def draw(logits: Floats, draws: Sequence[Draw]) -> Integers:
    """Return a token for each row of `logits`."""
    tokens: Integers = logits.argmax(axis=1)
    temperature, top_k, top_p, uniform = (np.array(column) for column in zip(*draws, strict=True))
    warm = temperature > 0
    divisor = np.maximum(temperature, COLDEST).astype(np.float32)
    narrow = warm & ((top_p < 1) | (top_k > 0))
    for rows, pick in ((warm & ~narrow, _pick), (narrow, _pick_narrowly)):
        if rows.any():
            scaled = logits[rows] / divisor[rows, None]
            tokens[rows] = pick(scaled, uniform[rows], top_k[rows], top_p[rows])
    return tokens


def log_probabilities(logits: Floats, tokens: Integers) -> Doubles:
    """Return the natural logarithm of the probability that the model itself gives to each row's token."""
    rows = np.arange(len(tokens))
    chosen = (logits[rows, tokens] - logits.max(axis=1)).astype(np.float64)
    # One by one, because numpy may take a logarithm by another routine when there are several, or they lie apart.
    totals = np.array([math.log(total) for total in _cumulated(logits)[:, -1].tolist()])
    capped: Doubles = np.minimum(chosen - totals, 0.0)  # rounding must not lift a certain token above one
    return capped


def _cumulated(logits: Floats) -> Doubles:
    """Running sums of each row's weights; accumulation goes from left to right, whatever the number of rows."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    sums: Doubles = weights.astype(np.float64).cumsum(axis=1)
    return sums


def _pick(scaled: Floats, uniform: Doubles, _top_k: Integers, _top_p: Doubles) -> Integers:
    sums = _cumulated(scaled)
    places: Integers = (sums > uniform[:, None] * sums[:, -1:]).argmax(axis=1)
    return places


def _pick_narrowly(scaled: Floats, uniform: Doubles, top_k: Integers, top_p: Doubles) -> Integers:
    """Draw from the most likely tokens only: at most top_k, and no more than are needed to reach top_p.

    Equally likely tokens are ranked by their ids.
    """
    order = np.argsort(-scaled, axis=1, kind="stable")
    sums = _cumulated(np.take_along_axis(scaled, order, axis=1))
    kept = np.where(top_k > 0, np.minimum(top_k, sums.shape[1]), sums.shape[1])
    last = np.minimum(kept - 1, (sums < top_p[:, None] * _at(sums, kept - 1)).sum(axis=1))
    place = (sums > uniform[:, None] * _at(sums, last)).argmax(axis=1)
    tokens: Integers = np.take_along_axis(order, place[:, None], axis=1)[:, 0]
    return tokens


def _at(sums: Doubles, places: Integers) -> Doubles:
    return np.take_along_axis(sums, places[:, None], axis=1)
