"""The testbed's figures: against enumeration, against the jackknife, and by hand."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tts.aggregation import Aggregation
from tts.benchmarks.testbed.calibration import Outcomes, calibrate, of_equal_mass
from tts.benchmarks.testbed.curves import best_of, pass_at, score_of, voted
from tts.benchmarks.testbed.figures import area, mean_of, ratio_of
from tts.benchmarks.testbed.pools import Attempt
from tts.benchmarks.testbed.summary import in_order
from tts.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tts.benchmarks.testbed.figures import Flags, Floats, Integers


def jackknife(count: int, figure: Callable[[list[int]], float]) -> float:
    """Return the standard error of a figure by leaving out one problem at a time."""
    values = np.array([figure([other for other in range(count) if other != one]) for one in range(count)])
    return float(np.sqrt((count - 1) / count * np.sum((values - values.mean()) ** 2)))


def test_a_mean_counts_problems() -> None:
    estimate = mean_of([0.0, 0.5, 1.0, 1.0])
    assert estimate.value == 0.625
    assert estimate.error == pytest.approx(np.std([0, 0.5, 1, 1], ddof=1) / 2)
    assert mean_of([0.3]).error is None
    with pytest.raises(ParameterError, match="a problem at least"):
        mean_of([])


def test_the_error_of_a_ratio_is_near_the_jackknifes() -> None:
    random = np.random.default_rng(1)
    bottoms = random.uniform(1, 2, 60)
    tops = bottoms * random.uniform(0, 1, 60)
    estimate = ratio_of(tops, bottoms)
    assert estimate is not None
    assert estimate.value == pytest.approx(tops.sum() / bottoms.sum())
    assert estimate.error == pytest.approx(
        jackknife(60, lambda places: float(tops[places].sum() / bottoms[places].sum())), rel=0.05
    )
    assert ratio_of([1.0, -1.0], [0.0, 0.0]) is None


def parts(problems: int = 40, each: int = 12) -> tuple[Floats, Flags, Integers]:
    """Return scored parts: problems differ in how good and how well scored theirs are, and scores have ties."""
    random = np.random.default_rng(2)
    owner = np.repeat(np.arange(problems), each)
    good = random.uniform(size=owner.size) < random.uniform(0.1, 0.9, problems)[owner]
    noise = random.normal(size=owner.size) + random.normal(size=problems)[owner]
    return np.round(good + noise, 1), good, owner


def auc_by_pairs(scores: Floats, good: Flags) -> float:
    gaps = scores[good][:, None] - scores[~good][None, :]
    return float(((gaps > 0) + (gaps == 0) / 2).mean())


def test_the_area_is_that_of_all_pairs_and_its_error_near_the_jackknifes() -> None:
    scores, good, problems = parts()
    found = area(scores, good, problems)
    assert found.auc is not None and found.auc.error is not None
    assert (found.good, found.bad) == (good.sum(), (~good).sum())
    assert found.auc.value == pytest.approx(auc_by_pairs(scores, good))

    def without(places: list[int]) -> float:
        wanted = np.isin(problems, places)
        return auc_by_pairs(scores[wanted], good[wanted])

    assert found.auc.error == pytest.approx(jackknife(40, without), rel=0.05)


def test_the_area_is_no_surer_for_samples_that_say_the_same() -> None:
    scores, good, problems = parts()
    once, thrice = area(scores, good, problems), area(np.tile(scores, 3), np.tile(good, 3), np.tile(problems, 3))
    assert once.auc is not None and thrice.auc is not None
    assert thrice.auc.value == pytest.approx(once.auc.value)
    assert thrice.auc.error == pytest.approx(once.auc.error)


def test_parts_that_are_all_alike_have_no_area() -> None:
    assert area(np.array([0.1, 0.9]), np.array([True, True]), np.array([0, 1])).auc is None


def attempt(score: float, answer: str | None, *, right: bool = False, finished: bool = True) -> Attempt:
    return Attempt(
        steps=("a\n\n", "b"), finished=finished, tokens=2, answer=answer, key=answer, right=right, scores=(0.5, score)
    )


POOL = [
    attempt(0.9, "wrong"),
    attempt(0.7, "right", right=True),
    attempt(0.95, None),
    attempt(0.2, "right", right=True),
    attempt(0.99, None, finished=False),
    attempt(0.4, "other"),
    attempt(0.3, "wrong"),
]


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_what_one_of_so_many_reaches_is_the_mean_over_all_subsets(count: int) -> None:
    subsets = list(combinations(POOL, count))
    assert pass_at(POOL, count) == pytest.approx(fmean(any(one.right for one in subset) for subset in subsets))

    def chosen(subset: Sequence[Attempt]) -> Attempt:
        return max([one for one in subset if one.answer] or subset, key=score_of)

    assert best_of(POOL, count) == pytest.approx(fmean(chosen(subset).right for subset in subsets))


def test_the_best_is_chosen_by_the_rule_that_is_named() -> None:
    low_end, low_middle = (
        Attempt(steps=("a", "b", "c"), finished=True, tokens=3, answer="x", right=right, scores=scores)
        for right, scores in ((True, (0.9, 0.9, 0.6)), (False, (0.9, 0.5, 0.9)))
    )
    by_rule = {how: best_of([low_end, low_middle], 2, how) for how in (Aggregation.LAST, Aggregation.MIN)}
    assert by_rule == {Aggregation.LAST: 0.0, Aggregation.MIN: 1.0}


def test_votes_are_counted_in_disjoint_groups_and_weighed() -> None:
    assert voted(POOL, 7, lambda _: 1.0) == 0.0, "of two and two, the answer seen first wins"
    assert voted(POOL[1:], 6, lambda _: 1.0) == 1.0
    assert voted(POOL, 2, score_of) == pytest.approx(1 / 3), "wrong 0.9 to right 0.7; right alone; other alone"
    assert voted([POOL[2]], 1, score_of) == 0.0, "nobody votes"


def outcomes(*rows: tuple[float, float, int], draws: int = 4) -> Outcomes:
    scores, successes, problems = np.array(rows).T
    return Outcomes(scores, successes, problems.astype(np.int64), np.ones(len(rows), np.int64), draws)


def test_calibration_by_hand() -> None:
    found = calibrate(outcomes((0.1, 0.0, 0), (0.15, 0.25, 1), (0.9, 0.5, 0), (1.0, 1.0, 1)), seed=0)
    assert found is not None
    assert [(one.prefixes, one.low, one.high) for one in found.bins] == [(2, 0.1, 0.15), (2, 0.9, 1.0)]
    assert found.ece.value == pytest.approx((2 * 0 + 2 * 0.2) / 4)
    assert found.brier.value == pytest.approx((0.01 + (0.25 * 0.85**2 + 0.75 * 0.15**2) + (0.5 * 0.82) + 0) / 4)
    assert (found.prefixes, found.problems, found.draws) == (4, 2, 4)
    assert found.ece.error is not None and found.ece.error > 0
    assert calibrate(outcomes((0.1, 0.0, 0)), seed=0).ece.error is None  # type: ignore[union-attr]


def test_the_distance_from_the_chance_of_success_is_free_of_the_draws_noise() -> None:
    random = np.random.default_rng(3)
    chances = random.uniform(size=4000)
    shares = random.binomial(4, chances) / 4
    rows = zip(np.clip(chances + 0.1, 0, 1), shares, range(4000), strict=True)
    found = calibrate(outcomes(*rows), seed=0)
    assert found is not None and found.squared_error is not None
    assert found.squared_error.value == pytest.approx(0.0093, abs=0.002), "a tenth squared, less what is cut at 1"


def test_bins_of_equal_mass_share_scores_out_and_keep_equal_ones_together() -> None:
    assert np.bincount(of_equal_mass(np.linspace(0, 0.1, 100), 10)).tolist() == [10] * 10
    assert len(set(of_equal_mass(np.full(50, 0.3), 10).tolist())) == 1


def test_parts_are_named_in_the_order_of_a_sample() -> None:
    names = ["all parts", "answer", "step 10", "giving up", "step 2", "all steps"]
    assert in_order(names) == ["step 2", "step 10", "answer", "giving up", "all steps", "all parts"]
