"""Intervals and comparisons, against scipy and brute force."""

from __future__ import annotations

import math
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tts.benchmarks.statistics import (
    bayes_interval,
    compare_paired,
    exact_interval,
    mcnemar,
    mean_interval,
    probability_better,
    wilson_interval,
)
from tts.errors import ParameterError

COUNTS = [(0, 1), (1, 1), (0, 30), (10, 30), (29, 30), (30, 30), (417, 1000)]


@pytest.mark.parametrize(("right", "total"), COUNTS)
def test_wilson_and_exact_intervals_are_those_of_scipy(right: int, total: int) -> None:
    expected = stats.binomtest(right, total)
    wilson, exact = expected.proportion_ci(0.95, "wilson"), expected.proportion_ci(0.95, "exact")
    for interval, wanted in ((wilson_interval(right, total), wilson), (exact_interval(right, total), exact)):
        assert (interval.low, interval.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
        assert interval.estimate == right / total


@pytest.mark.parametrize(("right", "total"), COUNTS)
def test_the_bayesian_interval_holds_its_share_of_the_posterior(right: int, total: int) -> None:
    interval = bayes_interval(right, total, 0.9)
    grid = (np.arange(200_000) + 0.5) / 200_000
    density = np.exp(right * np.log(grid) + (total - right) * np.log1p(-grid))
    density /= density.sum()
    assert density[grid < interval.low].sum() == pytest.approx(0.05, abs=1e-3)
    assert density[grid > interval.high].sum() == pytest.approx(0.05, abs=1e-3)


def test_golden_values() -> None:
    # 10 of 30, by hand: p = 1/3, z = 1.959964; centre (1/3 + z^2/60) / (1 + z^2/30).
    wilson = wilson_interval(10, 30)
    assert (wilson.low, wilson.high) == pytest.approx((0.192305, 0.512199), abs=1e-6)
    # None right of Q: the uniform prior's upper end is 1 - 0.025^(1/(Q+1)), Clopper and Pearson's 1 - 0.025^(1/Q).
    assert bayes_interval(0, 30).high == pytest.approx(1 - 0.025 ** (1 / 31))
    assert exact_interval(0, 30).high == pytest.approx(1 - 0.025 ** (1 / 30))


def test_the_exact_interval_covers_whatever_the_truth_is() -> None:
    total = 12
    intervals = [exact_interval(right, total) for right in range(total + 1)]
    for truth in np.linspace(0.01, 0.99, 99):
        covered = sum(
            stats.binom.pmf(right, total, truth)
            for right, interval in enumerate(intervals)
            if interval.low <= truth <= interval.high
        )
        assert covered >= 0.95 - 1e-12


@pytest.mark.parametrize(("right", "total", "level"), [(-1, 3, 0.95), (4, 3, 0.95), (0, 0, 0.95), (1, 2, 1.0)])
def test_counts_and_levels_that_make_no_sense_are_refused(right: int, total: int, level: float) -> None:
    for interval in (bayes_interval, wilson_interval, exact_interval):
        with pytest.raises(ParameterError):
            interval(right, total, level)


@pytest.mark.parametrize(("ahead", "behind"), [(0, 0), (1, 0), (3, 3), (7, 2), (2, 7), (10, 1)])
def test_mcnemar_mid_p_is_the_sum_over_all_outcomes(ahead: int, behind: int) -> None:
    observed = abs(ahead - behind)
    p = 0.0
    for coins in product((0, 1), repeat=ahead + behind):
        distance = abs(2 * sum(coins) - len(coins))
        p += (1.0 if distance > observed else 0.5 if distance == observed else 0.0) / 2 ** len(coins)
    assert mcnemar(ahead, behind) == pytest.approx(1.0 if ahead == behind else p)


def test_the_probability_of_being_better_is_exact() -> None:
    # P(Beta(1 + a, 1 + b) > 1/2) is the chance of at most a heads in a + b + 1 tosses.
    for ahead, behind in product(range(6), repeat=2):
        tosses = ahead + behind + 1
        assert probability_better(ahead, behind) == pytest.approx(
            sum(math.comb(tosses, heads) for heads in range(ahead + 1)) / 2**tosses
        )


def test_paired_strategies_are_compared_by_the_problems_on_which_they_differ() -> None:
    first = [True] * 40 + [True] * 15 + [False] * 5 + [False] * 40
    second = [True] * 40 + [False] * 15 + [True] * 5 + [False] * 40
    paired = compare_paired(first, second)
    assert (paired.both, paired.first_only, paired.second_only, paired.neither) == (40, 15, 5, 40)
    assert paired.difference.estimate == pytest.approx(0.1)
    assert paired.probability == pytest.approx(0.9867, abs=1e-4)
    assert paired.p_value == pytest.approx(mcnemar(15, 5))
    low, high = _difference_interval(15, 5, 80)
    assert (paired.difference.low, paired.difference.high) == pytest.approx((low, high), abs=2e-3)


def _difference_interval(ahead: int, behind: int, same: int) -> tuple[float, float]:
    """Integrate the posterior of the difference: the share of discordant problems times how one-sided they are."""
    ratio = stats.beta(1 + ahead, 1 + behind).ppf((np.arange(1000) + 0.5) / 1000)
    discordant = stats.beta(2 + ahead + behind, 2 + same).ppf((np.arange(1000) + 0.5) / 1000)
    low, high = np.quantile(np.outer(discordant, 2 * ratio - 1), [0.025, 0.975])
    return float(low), float(high)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_exchanging_two_strategies_turns_the_comparison_round(pairs: list[tuple[bool, bool]]) -> None:
    first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    there, back = compare_paired(first, second, draws=100), compare_paired(second, first, draws=100)
    assert there.difference.estimate == -back.difference.estimate
    assert there.probability == pytest.approx(1 - back.probability)
    assert there.p_value == back.p_value


def test_a_comparison_repeats_itself() -> None:
    verdicts = [True, False, True], [False, False, True]
    assert compare_paired(*verdicts) == compare_paired(*verdicts)


def test_verdicts_on_different_problems_are_refused() -> None:
    with pytest.raises(ParameterError, match="3 and 2 problems"):
        compare_paired([True] * 3, [True] * 2)


def test_the_bootstrap_is_that_of_scipy() -> None:
    random = Random(3)
    values = [random.expovariate(0.01) ** 1.5 for _ in range(25)]
    interval = mean_interval(values, seed=5)
    wanted = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="BCa", random_state=np.random.default_rng(5)
    ).confidence_interval
    assert interval.estimate == pytest.approx(sum(values) / 25)
    assert (interval.low, interval.high) == pytest.approx((wanted.low, wanted.high), rel=1e-6)


def test_a_mean_of_equal_values_has_no_width_and_of_none_is_refused() -> None:
    assert mean_interval([7.0] * 5).low == mean_interval([7.0]).high == 7
    with pytest.raises(ParameterError):
        mean_interval([])


def test_the_bootstrap_holds_no_more_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [float(value) for value in range(50)]
    whole = mean_interval(values, resamples=500)
    monkeypatch.setattr("tts.benchmarks.statistics._CHUNK", 1000)
    pieces = mean_interval(values, resamples=500)
    assert pieces == whole
