"""Tokens that a strategy needs for the accuracy of another: what equal-budget tables leave to the reader's eye.

A strategy's curve of accuracy against generated tokens is made monotone from the left (who may spend more can always
spend less, so the best so far counts), and between two points accuracy is taken to grow with the logarithm of tokens.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tts.benchmarks.report import Row


class Spot(NamedTuple):
    """A point of a curve: generated tokens a problem, more than 0, and the accuracy they buy."""

    tokens: float
    accuracy: float


class Needed(NamedTuple):
    """Tokens a problem that an accuracy takes; with `at_most`, the least that was measured, which sufficed."""

    tokens: float
    at_most: bool = False


def envelope(curve: Iterable[Spot]) -> list[Spot]:
    """Return the curve by rising tokens, each point with the best accuracy up to it; of equal tokens, one point."""
    best: dict[float, float] = {}
    highest = -math.inf
    for tokens, accuracy in sorted(spot for spot in curve if spot.tokens > 0):
        highest = max(highest, accuracy)
        best[tokens] = highest
    return [Spot(tokens, accuracy) for tokens, accuracy in best.items()]


def tokens_needed(curve: Iterable[Spot], accuracy: float) -> Needed | None:
    """Return the fewest tokens at which a curve reaches an accuracy, or None where it never does.

    Args:
        curve: Points in any order; those without tokens are left out.
        accuracy: From 0 to 1.
    """
    points = envelope(curve)
    if points and points[0].accuracy >= accuracy:
        return Needed(points[0].tokens, at_most=True)
    for before, after in pairwise(points):
        if before.accuracy < accuracy <= after.accuracy:
            share = (accuracy - before.accuracy) / (after.accuracy - before.accuracy)
            return Needed(before.tokens * (after.tokens / before.tokens) ** share)
    return None


def curve_of(shown: Sequence[Row], label: str) -> list[Spot]:
    """Return what a label's rows of one run measured, in their order."""
    return [
        Spot(row.generated.estimate, row.accuracy.estimate)
        for row in shown
        if row.label == label and row.generated is not None and row.accuracy is not None
    ]


def needed_table(shown: Sequence[Row], reference: str) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells: for each budget of the reference, what the others need for its accuracy there.

    A cell has tokens and, in brackets, their ratio to those of the reference.
    """
    others = [label for label in dict.fromkeys(row.label for row in shown) if label != reference]
    headings = ["budget", "accuracy %", f"tokens of {reference}", *others]
    lines: list[list[str]] = []
    for row in shown:
        if row.label == reference and row.accuracy is not None and row.generated is not None:
            accuracy, tokens = row.accuracy.estimate, row.generated.estimate
            cells = [_cell(tokens_needed(curve_of(shown, label), accuracy), tokens) for label in others]
            lines.append([row.budget, f"{100 * accuracy:.1f}", f"{tokens:,.0f}", *cells])
    return headings, lines


def _cell(needed: Needed | None, tokens: float) -> str:
    if needed is None:
        return "not reached"
    mark = "≤ " if needed.at_most else ""
    ratio = f" ({mark}{needed.tokens / tokens:.2f})" if tokens > 0 else ""
    return f"{mark}{needed.tokens:,.0f}{ratio}"
