"""Log-probabilities made by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def normalised(scores: Sequence[float]) -> list[float]:
    """Return the log-probabilities of tokens with these logits, the greatest first."""
    total = math.log(math.fsum(math.exp(score) for score in scores))
    return sorted((min(0.0, score - total) for score in scores), reverse=True)


def flat(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return rows one after another."""
    return [value for row in rows for value in row]
