"""Law 3: what is consumed and answered hangs on the seed, not on timing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts.laws.trials import Trial, require

if TYPE_CHECKING:
    from tts.laws.bench import Bench


async def check(bench: Bench) -> None:
    """Under one budget and seed, every order of arrival and every concurrency gives the same graph and answer.

    A strategy that declares itself order-sensitive is exempt here; its traces reproduce it.
    """
    if bench.strategy.order_sensitive:
        return
    for first, *others in await bench.matrix():
        for other in others:
            same_search(first, other)


def same_search(first: Trial, other: Trial) -> None:
    """Compare two runs of one seed."""
    limits = first.conditions.budget
    for one, two in zip(first.consumed(), other.consumed(), strict=False):
        require(3, one == two, "a node hangs on timing", budget=limits, first=one, other=two)
    sizes = len(first.consumed()), len(other.consumed())
    require(3, sizes[0] == sizes[1], "the size of the graph hangs on timing", budget=limits, sizes=sizes)
    verdicts = first.verdict(), other.verdict()
    require(3, verdicts[0] == verdicts[1], "the answer hangs on timing", first=verdicts[0], other=verdicts[1])
