"""How sure a model was: the pure functions against their definitions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.verifiers.distributions import flat, normalised
from tts.errors import ParameterError, VerifierError
from tts.verifiers.confidence import (
    bottom_share,
    bounded,
    group_confidences,
    leading,
    lowest_group,
    mean_logprob,
    self_certainty,
    tail,
    token_confidences,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

K = 4
LOGPROBS = st.lists(st.floats(-50, 0), min_size=1, max_size=20)
CONFIDENCES = st.lists(st.floats(0, 60), min_size=1, max_size=20).map(np.array)
WINDOWS = st.integers(1, 25)
LOGITS = st.floats(-30, 30)
ALL = st.lists(st.lists(LOGITS, min_size=K, max_size=K).map(normalised), min_size=1, max_size=4)
"""Of all tokens of a small vocabulary, at each place."""
TOPS = st.lists(st.lists(LOGITS, min_size=K, max_size=8).map(lambda row: normalised(row)[:K]), min_size=1, max_size=4)
"""Of the most likely ones of a greater vocabulary."""


@given(LOGPROBS)
def test_the_mean_is_that_of_the_definition(logprobs: list[float]) -> None:
    assert mean_logprob(logprobs) == pytest.approx(sum(logprobs) / len(logprobs), abs=1e-12)


def test_a_rounding_error_above_zero_is_taken_for_zero() -> None:
    assert mean_logprob([9e-7, 9e-7]) == 0.0


@given(TOPS)
def test_a_token_s_confidence_is_the_mean_surprise_of_its_top_tokens(rows: list[list[float]]) -> None:
    expected = [-sum(row) / K for row in rows]
    assert token_confidences(flat(rows), K) == pytest.approx(expected, abs=1e-12)
    assert (token_confidences(flat(rows), K) >= math.log(K) - 1e-9).all()


def test_a_peaked_distribution_is_surer_than_a_flat_one() -> None:
    peaked, flat_one = normalised([9, 0, 0, 0]), normalised([0, 0, 0, 0])
    surer, less = token_confidences([*peaked, *flat_one], K)
    assert surer > less == pytest.approx(math.log(4))
    assert self_certainty(peaked, K) > self_certainty(flat_one, K) == pytest.approx(0, abs=1e-12)


@given(ALL)
def test_self_certainty_over_a_whole_vocabulary_is_the_papers(rows: list[list[float]]) -> None:
    papers = -math.fsum(math.log(K) + value for row in rows for value in row) / (len(rows) * K)
    assert self_certainty(flat(rows), K) == pytest.approx(papers, abs=1e-7)


@given(TOPS)
def test_self_certainty_is_the_divergence_of_the_scaled_top(rows: list[list[float]]) -> None:
    expected = 0.0
    for row in rows:
        shares = [math.exp(value) / math.fsum(map(math.exp, row)) for value in row]
        assume(min(shares) > 0)
        expected += sum(math.log(1 / K / share) / K for share in shares) / len(rows)
    assert self_certainty(flat(rows), K) == pytest.approx(expected, abs=1e-9)


@given(TOPS)
def test_unscaled_it_would_order_as_the_mean_confidence_does(rows: list[list[float]]) -> None:
    missing = [math.log(math.fsum(map(math.exp, row))) for row in rows]
    unscaled = float(token_confidences(flat(rows), K).mean()) - math.log(K)
    assert self_certainty(flat(rows), K) == pytest.approx(unscaled + math.fsum(missing) / len(rows), abs=1e-9)


@given(CONFIDENCES, WINDOWS)
def test_groups_are_the_means_of_windows(confidences: NDArray[np.float64], window: int) -> None:
    starts = range(max(1, len(confidences) - window + 1))
    expected = [confidences[start : start + window].mean() for start in starts]
    assert group_confidences(confidences, window) == pytest.approx(expected, abs=1e-9)


@given(CONFIDENCES, WINDOWS, st.floats(0.01, 1))
def test_the_lowest_group_is_below_the_bottom_and_that_below_the_mean_of_groups(
    confidences: NDArray[np.float64], window: int, share: float
) -> None:
    lowest, bottom = lowest_group(confidences, window), bottom_share(confidences, window, share)
    groups = group_confidences(confidences, window)
    assert lowest - 1e-9 <= bottom <= groups.mean() + 1e-9
    assert bottom_share(confidences, window, 1) == pytest.approx(groups.mean(), abs=1e-9)
    assert lowest >= confidences.min() - 1e-9


@given(CONFIDENCES, WINDOWS)
def test_the_tail_is_the_last_group(confidences: NDArray[np.float64], window: int) -> None:
    assert tail(confidences, window) == pytest.approx(confidences[-window:].mean(), abs=1e-9)
    assert tail(confidences, window) == pytest.approx(group_confidences(confidences, window)[-1], abs=1e-9)


def test_the_bottom_is_so_many_groups_rounded_down_and_at_least_one() -> None:
    confidences = np.arange(100.0)
    assert bottom_share(confidences, 1) == 4.5
    assert bottom_share(confidences, 1, 0.29) == 14.0
    assert bottom_share(confidences, 1, 0.299) == 14.0
    assert bottom_share(confidences[:9], 1) == 0.0


@given(st.floats(0, 1e4), st.floats(0, 1e4))
def test_the_bounded_keep_their_order(one: float, other: float) -> None:
    assert 0 <= bounded(one) < 1
    if one < other - 1e-6:
        assert bounded(one) < bounded(other)


def test_what_is_longer_is_cut_to_its_greatest() -> None:
    assert list(leading([-1, -2, -3, -4, -5, -6], 2, 2)) == [-1, -2, -4, -5]
    given_ones = (-1.0, -2.0)
    assert leading(given_ones, 1, 2) is given_ones
    for top in ((-1.0, -2.0, -3.0), (-1.0, -2.0), ()):
        with pytest.raises(VerifierError, match="2 tokens, where 2 a token"):
            leading(top, 2, 2)


@pytest.mark.parametrize("wrong", [math.nan, -math.inf, 0.01])
def test_what_is_no_log_probability_is_refused_with_its_place(wrong: float) -> None:
    with pytest.raises(VerifierError, match=r"log-probability 1 of 2 is .*before filters"):
        mean_logprob([-1, wrong])
    with pytest.raises(VerifierError, match="log-probability 3 of 4"):
        self_certainty([-1, -2, -1, wrong], 2)


def test_pure_functions_refuse_what_has_no_meaning() -> None:
    with pytest.raises(VerifierError, match="no log-probabilities"):
        mean_logprob([])
    with pytest.raises(VerifierError, match="3 top log-probabilities are not 2 a token"):
        token_confidences([-1, -2, -3], 2)
    with pytest.raises(VerifierError, match="no tokens"):
        group_confidences(np.array([]), 3)
    for call in (
        lambda: token_confidences([-1], 1),
        lambda: group_confidences(np.ones(3), 0),
        lambda: tail(np.ones(3), 0),
        lambda: bottom_share(np.ones(3), 2, 0.0),
        lambda: bottom_share(np.ones(3), 2, 1.5),
    ):
        with pytest.raises(ParameterError, match=r"k=1|window=0|share="):
            call()
