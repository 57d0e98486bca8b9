"""Every figure that needs the pools alone: curves, how well scores tell good parts from bad, where samples go wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from tts.benchmarks.testbed.curves import Curves, curves_of
from tts.benchmarks.testbed.figures import Area, Estimate, area, mean_of
from tts.benchmarks.testbed.pools import ANSWER, STUCK
from tts.types import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tts.benchmarks.testbed.pools import Attempt, Pool

ALL_STEPS = "all steps"
ALL_PARTS = "all parts"


class FirstError(Frozen):
    """A part at which samples first go wrong; shares of all samples."""

    part: str
    samples: Estimate = Field(description="that first go wrong there")
    stuck: Estimate = Field(description="that do, and end without an answer")


class PartArea(Frozen):
    """How well the scores of one kind of part tell good from bad."""

    part: str
    every: Area = Field(description="over every such part")
    so_far_good: Area = Field(description="over those before which all is good")


class Summary(Frozen):
    """What the samples of some problems come to."""

    problems: int
    samples: int = Field(description="of each problem")
    tokens: Estimate = Field(description="of a sample")
    unanswered: Estimate = Field(description="share of samples that end without an answer")
    cut_off: Estimate = Field(description="share of samples that ran into the cap on tokens")
    disagreements: int = Field(description="answers whose exact label is not their grade; 0 unless the task is wrong")
    curves: Curves
    areas: tuple[PartArea, ...]
    first_errors: tuple[FirstError, ...]


def summarise(pools: Sequence[Pool]) -> Summary:
    """Sum up the pools of some problems."""

    def share(of: Callable[[Attempt], float]) -> Estimate:
        return mean_of([fmean(map(of, pool.attempts)) for pool in pools])

    return Summary(
        problems=len(pools),
        samples=len(pools[0].attempts),
        tokens=share(lambda attempt: attempt.tokens),
        unanswered=share(lambda attempt: attempt.stuck),
        cut_off=share(lambda attempt: not attempt.finished),
        disagreements=sum(_disagrees(attempt) for pool in pools for attempt in pool.attempts),
        curves=curves_of(pools),
        areas=areas_of(pools),
        first_errors=first_errors_of(pools),
    )


def _disagrees(attempt: Attempt) -> bool:
    return attempt.answer is not None and attempt.labels[-1] != attempt.right


@dataclass(slots=True)
class _Parts:
    """Parts of one name, as columns."""

    scores: list[float] = field(default_factory=list)
    good: list[bool] = field(default_factory=list)
    so_far: list[bool] = field(default_factory=list)
    problems: list[int] = field(default_factory=list)

    def areas(self, name: str) -> PartArea:
        scores, good = np.asarray(self.scores), np.asarray(self.good, dtype=bool)
        so_far, problems = np.asarray(self.so_far, dtype=bool), np.asarray(self.problems)
        return PartArea(
            part=name,
            every=area(scores, good, problems),
            so_far_good=area(scores[so_far], good[so_far], problems[so_far]),
        )


def areas_of(pools: Sequence[Pool]) -> tuple[PartArea, ...]:
    """Return the areas under the curve by kind of part, over all steps and over all parts."""
    columns: dict[str, _Parts] = {}
    for problem, pool in enumerate(pools):
        for attempt in pool.attempts:
            for place, (value, label) in enumerate(zip(attempt.scores, attempt.labels, strict=True)):
                name = attempt.name_of(place)
                for column in (name, *(() if name in (ANSWER, STUCK) else (ALL_STEPS,)), ALL_PARTS):
                    parts = columns.setdefault(column, _Parts())
                    parts.scores.append(value)
                    parts.good.append(label)
                    parts.so_far.append(all(attempt.labels[:place]))
                    parts.problems.append(problem)
    return tuple(columns[name].areas(name) for name in in_order(columns))


def first_errors_of(pools: Sequence[Pool]) -> tuple[FirstError, ...]:
    """Return the share of samples that first go wrong at each part, and of those that end without an answer."""
    counts = [Counter(_first_errors(pool.attempts)) for pool in pools]
    names = in_order({name for count in counts for name, _ in count})

    def share(name: str, *kinds: bool) -> Estimate:
        wrong = [sum(count[name, stuck] for stuck in kinds) for count in counts]
        return mean_of([number / len(pool.attempts) for number, pool in zip(wrong, pools, strict=True)])

    return tuple(FirstError(part=name, samples=share(name, False, True), stuck=share(name, True)) for name in names)


def _first_errors(attempts: Iterable[Attempt]) -> Iterable[tuple[str, bool]]:
    for attempt in attempts:
        if (place := attempt.first_error) is not None:
            yield attempt.name_of(place), attempt.stuck


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of parts in the order in which a sample has them, all of them together last."""
    last = (ANSWER, STUCK, ALL_STEPS, ALL_PARTS)
    return sorted(names, key=lambda name: (last.index(name), 0) if name in last else (-1, int(name.split()[1])))
