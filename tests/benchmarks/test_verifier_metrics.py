"""Metrics of scored labels against hand-computed values and brute force; thresholds; intervals over problems."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tts.benchmarks.testbed.calibration import Outcomes, calibrate
from tts.benchmarks.testbed.figures import area
from tts.benchmarks.verifier_metrics import (
    Labelled,
    auc,
    average_precision,
    brier,
    calibration_error,
    intervals,
    measure,
    tally,
    threshold_at,
    thresholds_of,
)
from tts.calibration import Platt, fit_isotonic
from tts.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELS = st.lists(
    st.tuples(st.integers(0, 20).map(lambda score: score / 20), st.booleans(), st.integers(0, 4)),
    min_size=2,
    max_size=40,
).filter(lambda rows: len({good for _, good, _ in rows}) == 2)


def labelled(rows: Sequence[tuple[float, bool, int]]) -> Labelled:
    scores, good, problems = zip(*rows, strict=True)
    return Labelled(np.asarray(scores, dtype=float), np.asarray(good, dtype=bool), np.asarray(problems, dtype=np.int64))


HAND = labelled([(0.9, True, 0), (0.8, False, 0), (0.8, True, 1), (0.3, False, 1), (0.1, True, 2)])


def test_metrics_by_hand() -> None:
    tallies = tally(HAND)
    assert auc(tallies)[0] == pytest.approx((2 + 1.5 + 0) / 6)
    assert average_precision(tallies)[0] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert brier(tallies)[0] == pytest.approx((0.01 + 0.64 + 0.04 + 0.09 + 0.81) / 5)
    assert calibration_error(tallies)[0] == pytest.approx((0.1 + 0.6 + 0.3 + 0.9) / 5)


@settings(max_examples=30)
@given(LABELS)
def test_metrics_against_brute_force(rows: list[tuple[float, bool, int]]) -> None:
    tallies = tally(labelled(rows))
    good, bad = ([score for score, label, _ in rows if label is kind] for kind in (True, False))
    pairs = [(above > below) + (above == below) / 2 for above, below in product(good, bad)]
    assert auc(tallies)[0] == pytest.approx(sum(pairs) / len(pairs))
    precisions = [sum(other >= score for other in good) / sum(other >= score for other, _, _ in rows) for score in good]
    assert average_precision(tallies)[0] == pytest.approx(sum(precisions) / len(good))


@settings(max_examples=30)
@given(LABELS)
def test_metrics_are_those_of_the_testbed(rows: list[tuple[float, bool, int]]) -> None:
    data = labelled(rows)
    tallies, found = tally(data), area(data.scores, data.good, data.problems)
    assert found.auc is not None and auc(tallies)[0] == pytest.approx(found.auc.value)
    known = calibrate(Outcomes(data.scores, data.good.astype(float), data.problems, data.problems * 0, 1), 0)
    assert known is not None
    assert brier(tallies)[0] == pytest.approx(known.brier.value)
    assert calibration_error(tallies)[0] == pytest.approx(known.ece.value)


@settings(max_examples=30)
@given(LABELS, st.floats(0.2, 3), st.floats(-2, 2))
def test_a_strictly_monotone_map_changes_no_ranking(
    rows: list[tuple[float, bool, int]], slope: float, intercept: float
) -> None:
    data = labelled(rows)
    mapped = Labelled(Platt(slope=slope, intercept=intercept)(data.scores), data.good, data.problems)
    for metric in (auc, average_precision):
        assert metric(tally(mapped))[0] == pytest.approx(metric(tally(data))[0])


def test_an_isotonic_map_leaves_no_error_on_what_it_was_fitted_on() -> None:
    random = np.random.default_rng(3)
    scores = random.random(400).round(2)
    good = random.random(400) < scores**3
    mapped = Labelled(fit_isotonic(scores, good)(scores), good, np.zeros(400, dtype=np.int64))
    assert calibration_error(tally(mapped))[0] == pytest.approx(0, abs=1e-9)
    assert brier(tally(mapped))[0] <= brier(tally(Labelled(scores, good, mapped.problems)))[0]


@settings(max_examples=30)
@given(LABELS, st.lists(st.integers(0, 3), min_size=40, max_size=40))
def test_a_weight_is_so_many_copies(rows: list[tuple[float, bool, int]], weights: list[int]) -> None:
    copies = [row for row, weight in zip(rows, weights, strict=False) for _ in range(weight)]
    if not copies:
        return
    weighted = tally(labelled(rows), np.asarray([weights[: len(rows)]], dtype=float))
    for metric in (auc, average_precision, brier, calibration_error):
        assert metric(weighted)[0] == pytest.approx(metric(tally(labelled(copies)))[0], nan_ok=True)


RANKS = [(0.05, 19, 19), (0.05, 18, None), (0.001, 999, 999), (0.001, 998, None), (0.01, 99, 99), (0.1, 20, 19)]


@pytest.mark.parametrize("rate, count, rank", RANKS)
def test_a_threshold_is_the_score_of_the_conformal_rank(rate: float, count: int, rank: int | None) -> None:
    negatives = np.random.default_rng(0).permutation(count) / 1000
    found = threshold_at(rate, negatives)
    assert found.negatives == count
    assert found.score == (None if rank is None else (rank - 1) / 1000)


def test_a_threshold_keeps_its_rate_on_new_negatives() -> None:
    random = np.random.default_rng(0)
    rates = []
    for _ in range(2000):
        threshold = threshold_at(0.05, random.random(30)).score
        assert threshold is not None
        rates.append(1 - threshold)
    assert np.mean(rates) == pytest.approx(1 / 31, abs=0.003) and np.mean(rates) <= 0.05


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ParameterError, match="lies between 0 and 1"):
        threshold_at(rate, np.zeros(3))


def test_recall_is_of_other_labels_than_the_threshold() -> None:
    fitting = labelled([(place / 100, False, place) for place in range(19)])
    thresholds = thresholds_of(fitting)
    evaluated = labelled([(0.5, True, 0), (0.18, True, 1), (0.181, False, 2), (0.1, False, 3)])
    found = measure(evaluated, thresholds, 0).recall
    assert [one.threshold.rate for one in found] == [0.001, 0.01, 0.05]
    assert [one.unmeasured for one in found] == ["not measurable with 19 negatives"] * 2 + [None]
    assert [one.recall for one in found[:2]] == [None, None]
    assert found[2].recall is not None and found[2].recall.estimate == 0.5
    assert found[2].false_positives is not None and found[2].false_positives.estimate == 0.5


def test_one_kind_of_label_has_no_ranking_and_no_recall() -> None:
    found = measure(labelled([(0.2, False, 0), (0.4, False, 1)]), [threshold_at(0.5, np.asarray([0.1, 0.3]))], 0)
    assert (found.auc, found.average_precision, found.recall[0].recall) == (None, None, None)
    assert found.recall[0].unmeasured == "no good label"
    assert found.brier.estimate == pytest.approx(0.1)
    with pytest.raises(ParameterError, match="no label"):
        measure(Labelled(np.zeros(0), np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64)), [], 0)


def test_intervals_are_over_problems_not_labels() -> None:
    random = np.random.default_rng(0)
    scores = random.random(40)
    alone = Labelled(scores, random.random(40) < scores, np.arange(40))
    nine = np.repeat(np.arange(40), 9)
    copied = Labelled(alone.scores[nine], alone.good[nine], alone.problems[nine])
    split = Labelled(copied.scores, copied.good, np.arange(360))
    one, many, wrong = (measure(data, [], 0).brier for data in (alone, copied, split))
    assert (many.low, many.high) == pytest.approx((one.low, one.high))
    assert wrong.high - wrong.low < (one.high - one.low) / 2
    assert one.low < one.estimate < one.high


def toy(random: np.random.Generator, problems: int, power: float) -> Labelled:
    """Return labels of problems that differ; scores are chances if the power is 1."""
    numbers = np.repeat(np.arange(problems), 8)
    scores = np.clip(random.random(problems)[numbers] + random.normal(0, 0.2, len(numbers)), 0, 1)
    return Labelled(scores, random.random(len(numbers)) < scores**power, numbers)


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_the_interval_of_a_calibration_error_holds_it(power: float) -> None:
    random = np.random.default_rng(0)
    errors = toy(random, 4000, power).scores
    bins = np.minimum((10 * errors).astype(int), 9)
    true = np.abs(np.bincount(bins, errors - errors**power)).sum() / len(errors)
    found = [measure(toy(random, 60, power), [], 0).ece for _ in range(60)]
    assert sum(one.low <= true <= one.high for one in found) >= 0.85 * len(found)
    assert all(one.low <= one.estimate <= one.high for one in found)
    assert all(one.low > 0 for one in found) == (power > 1)


def test_of_one_problem_nothing_is_said_of_others() -> None:
    found = measure(labelled([(0.2, False, 4), (0.4, True, 4)]), [], 0)
    assert found.auc is not None and (found.auc.estimate, found.auc.low, found.auc.high) == (1, 0, 1)


def test_resamples_do_not_hang_on_how_many_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics: dict[Any, Any] = {"auc": auc}
    whole = intervals(HAND, metrics, 5)
    monkeypatch.setattr("tts.benchmarks.verifier_metrics._CHUNK", 50)
    assert intervals(HAND, metrics, 5) == whole
