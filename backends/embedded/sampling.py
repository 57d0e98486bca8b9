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
    divisor = np.maximum(temperature, COLDEST).astype(np.float32)[:, None]
    warm = temperature > 0
    narrow = warm & ((top_p < 1) | (top_k > 0))
    if len(rows := np.flatnonzero(warm & ~narrow)):
        chosen = slice(None) if len(rows) == len(logits) else rows  # a slice copies nothing
        tokens[rows] = _pick(logits[chosen], divisor[chosen], uniform[chosen])
    if len(rows := np.flatnonzero(narrow)):
        kept = _narrowed(logits[rows], divisor[rows], top_k[rows], top_p[rows])
        tokens[rows] = _pick(kept, divisor[rows], uniform[rows])
    return tokens


def log_probabilities(logits: Floats, tokens: Integers) -> Doubles:
    """Return the natural logarithm of the probability that the model itself gives to each row's token."""
    rows = np.arange(len(tokens))
    chosen = (logits[rows, tokens] - logits.max(axis=1)).astype(np.float64)
    # One by one, because numpy may take a logarithm by another routine when there are several, or they lie apart.
    totals = np.array([math.log(total) for total in _weights(logits, 1.0).sum(axis=1).tolist()])
    capped: Doubles = np.minimum(chosen - totals, 0.0)  # rounding must not lift a certain token above one
    return capped


def _pick(logits: Floats, divisor: Floats, uniform: Doubles) -> Integers:
    sums = _cumulated(logits, divisor)
    tokens: Integers = (sums > uniform[:, None] * sums[:, -1:]).argmax(axis=1)
    return tokens


def _narrowed(logits: Floats, divisor: Floats, top_k: Integers, top_p: Doubles) -> Floats:
    """Keep the most likely tokens: at most top_k, and of these no more than are needed to reach top_p.

    Equally likely tokens are ranked by their ids.
    """
    ranked = -np.sort(-logits, axis=1)
    sums = _cumulated(ranked, divisor)
    width = logits.shape[1]
    count = np.where(top_k > 0, np.minimum(top_k, width), width)
    enough = top_p[:, None] * np.take_along_axis(sums, count[:, None] - 1, axis=1)
    count = np.minimum(count, (sums < enough).sum(axis=1) + 1)[:, None]
    least = np.take_along_axis(ranked, count - 1, axis=1)
    above, equal = logits > least, logits == least
    kept = above | (equal & (equal.cumsum(axis=1) <= count - above.sum(axis=1, keepdims=True)))
    return np.where(kept, logits, np.float32(-np.inf))


def _cumulated(logits: Floats, divisor: Floats) -> Doubles:
    """Running sums of each row's weights; accumulation goes from left to right, whatever the number of rows."""
    sums = _weights(logits, divisor).astype(np.float64)
    return np.cumsum(sums, axis=1, out=sums)


def _weights(logits: Floats, divisor: Floats | float) -> Floats:
    """Numbers in proportion to the probabilities of a row, the greatest of them 1."""
    weights: Floats = logits - logits.max(axis=1, keepdims=True)
    weights /= divisor
    return np.exp(weights, out=weights)  # in place, because memory for a batch of weights is slow to come by
