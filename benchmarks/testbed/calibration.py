"""Whether a score is the chance that a completion from here succeeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from tts.benchmarks.testbed.figures import Estimate, Floats, Integers, per_problem, ratio_of
from tts.types import Frozen

if TYPE_CHECKING:
    from tts.benchmarks.testbed.figures import Flags

BINS = 10
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Step ends, as columns.

    Attributes:
        scores: What the verifier says, in [0, 1].
        successes: The share of completions from there that were right, in [0, 1].
        problems: To which problem each belongs, by number.
        steps: How many steps each has.
        draws: Completions behind each share.
    """

    scores: Floats
    successes: Floats
    problems: Integers
    steps: Integers
    draws: int

    def where(self, wanted: Flags) -> Outcomes:
        """Return some of them."""
        return Outcomes(
            self.scores[wanted], self.successes[wanted], self.problems[wanted], self.steps[wanted], self.draws
        )

    def ratio(self, values: Floats) -> Estimate:
        """Return the mean of one value a step end, with its standard error over problems."""
        estimate = ratio_of(per_problem(self.problems, values), per_problem(self.problems, np.ones(len(values))))
        assert estimate is not None, "there is a step end at least"
        return estimate


class Bin(Frozen):
    """Step ends of like scores."""

    low: float = Field(description="least score")
    high: float = Field(description="greatest score")
    prefixes: int
    score: float = Field(description="mean")
    success: Estimate = Field(description="mean share of completions that are right")


class ByStep(Frozen):
    """Step ends after the same number of steps."""

    steps: int
    prefixes: int
    score: float = Field(description="mean")
    success: Estimate
    ece: Estimate = Field(description="as in Calibration")


class Calibration(Frozen):
    """How far scores are from chances of success.

    Errors of expected calibration errors are bootstrapped over problems. Chance alone makes such an error positive, by
    more the fewer prefixes there are.
    """

    prefixes: int
    problems: int
    draws: int = Field(description="completions of each prefix")
    score: float = Field(description="mean")
    success: Estimate = Field(description="mean")
    ece: Estimate = Field(description="expected calibration error, bins of equal width")
    ece_equal_mass: Estimate = Field(description="the same, bins of equal numbers of prefixes")
    brier: Estimate = Field(description="mean squared distance of the score from a single completion's outcome, 0 or 1")
    squared_error: Estimate | None = Field(
        description="the same from the chance of success, the noise of finitely many completions taken out"
    )
    bins: tuple[Bin, ...] = Field(description="of equal width, those that are not empty")
    by_step: tuple[ByStep, ...]


def calibrate(outcomes: Outcomes, seed: int, bins: int = BINS) -> Calibration | None:
    """Compare scores with successes; None where there is nothing to compare.

    Args:
        outcomes: The step ends.
        seed: Of the bootstrap.
        bins: How many.
    """
    scores, successes = outcomes.scores, outcomes.successes
    if not len(scores):
        return None
    width = of_equal_width(scores, bins)
    return Calibration(
        prefixes=len(scores),
        problems=len(np.unique(outcomes.problems)),
        draws=outcomes.draws,
        score=float(scores.mean()),
        success=outcomes.ratio(successes),
        ece=expected_error(outcomes, width, seed),
        ece_equal_mass=expected_error(outcomes, of_equal_mass(scores, bins), seed),
        brier=outcomes.ratio(successes * (1 - scores) ** 2 + (1 - successes) * scores**2),
        squared_error=_squared_error(outcomes),
        bins=tuple(_bin(outcomes.where(width == place)) for place in np.unique(width)),
        by_step=tuple(_by_step(outcomes.where(outcomes.steps == steps), seed) for steps in np.unique(outcomes.steps)),
    )


def of_equal_width(scores: Floats, bins: int) -> Integers:
    """Return the bin of each score, each of the same width."""
    return np.minimum((scores * bins).astype(np.int64), bins - 1)


def of_equal_mass(scores: Floats, bins: int) -> Integers:
    """Return the bin of each score, each of about the same number of scores; equal scores share a bin."""
    edges = np.quantile(scores, np.arange(1, bins) / bins)
    return np.searchsorted(edges, scores, side="left").astype(np.int64)


def expected_error(outcomes: Outcomes, bins: Integers, seed: int) -> Estimate:
    """Return the mean over step ends of the distance, in their bin, between mean score and mean success."""
    _, clusters = np.unique(outcomes.problems, return_inverse=True)
    gaps = np.zeros((clusters.max() + 1, bins.max() + 1))
    np.add.at(gaps, (clusters, bins), outcomes.scores - outcomes.successes)
    sizes = np.bincount(clusters)
    value = float(np.abs(gaps.sum(axis=0)).sum() / sizes.sum())
    if len(sizes) < 2:
        return Estimate(value=value, error=None)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), RESAMPLES)
    again = np.abs(drawn @ gaps).sum(axis=1) / (drawn @ sizes)
    return Estimate(value=value, error=float(again.std(ddof=1)))


def _squared_error(outcomes: Outcomes) -> Estimate | None:
    if outcomes.draws < 2:
        return None
    noise = outcomes.successes * (1 - outcomes.successes) / (outcomes.draws - 1)
    return outcomes.ratio((outcomes.scores - outcomes.successes) ** 2 - noise)


def _bin(inside: Outcomes) -> Bin:
    return Bin(
        low=float(inside.scores.min()),
        high=float(inside.scores.max()),
        prefixes=len(inside.scores),
        score=float(inside.scores.mean()),
        success=inside.ratio(inside.successes),
    )


def _by_step(inside: Outcomes, seed: int) -> ByStep:
    return ByStep(
        steps=int(inside.steps[0]),
        prefixes=len(inside.scores),
        score=float(inside.scores.mean()),
        success=inside.ratio(inside.successes),
        ece=expected_error(inside, of_equal_width(inside.scores, BINS), seed),
    )
