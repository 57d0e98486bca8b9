"""Benches shared by the laws' tests, so that each strategy is run once for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.laws.subjects import MAIN
from tts.laws import Bench

if TYPE_CHECKING:
    from tts.protocols import Strategy

_benches: dict[tuple[int, str], Bench] = {}


def bench(strategy: Strategy, loop: str) -> Bench:
    """Return the bench of a subject under an event loop."""
    return _benches.setdefault((id(strategy), loop), Bench(strategy, thorough=strategy in MAIN))
