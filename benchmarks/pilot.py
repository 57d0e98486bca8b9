"""Pilot searches: what a strategy spends a problem, found from as few problems as its spread allows."""

from __future__ import annotations

import math
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from tts.benchmarks.sizing import mean_spending
from tts.errors import BackendError
from tts.many import solve_many
from tts.outcome import Ended

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tts.setup import SolveOptions
    from tts.types import Problem, Usage

FIRST = 8
"""Problems tried at first; doubled until the mean is certain enough."""
CERTAIN = 0.05
"""Standard error of the tokens generated, as a share of their mean."""


async def measure_spending(
    problems: Sequence[Problem], options: SolveOptions, in_flight: int, tell: Callable[[int, int], None]
) -> dict[str, float]:
    """Return what a search of these problems spends on average, by limit; not all are searched where spending is even.

    Args:
        problems: The pilot problems, at least one.
        options: The strategy and its backends.
        in_flight: Problems side by side.
        tell: Told how many problems are done, of how many.

    Raises:
        BackendError: Every search failed.
    """
    usages: list[Usage] = []
    start, count = 0, FIRST
    while start < len(problems) and not _certain(usages):
        batch, error = problems[start:count], None
        async with solve_many(batch, in_flight=in_flight, **options) as outcomes:
            async for outcome in outcomes:
                if outcome.ended is Ended.ERROR:
                    error = outcome.error
                else:
                    usages.append(outcome.usage)
                start += 1
                tell(start, min(count, len(problems)))
        if error is not None and not usages:
            raise BackendError(f"no pilot search came to an end, so that nothing can be sized: {error}")
        count *= 2
    return mean_spending(usages)


def _certain(usages: Sequence[Usage]) -> bool:
    tokens = [usage.generated for usage in usages]
    return len(tokens) > 1 and stdev(tokens) <= CERTAIN * math.sqrt(len(tokens)) * fmean(tokens)
