"""Weights, schemes and annealing of sequential Monte Carlo."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tts.resampling import (
    Annealing,
    Scheme,
    WeightMap,
    annealed,
    annealing_temperature,
    effective_size,
    log_weight,
    normalised_entropy,
    resample,
    softmax,
)

SCORES = [0.9, 0.8, 0.5, 0.1]
WEIGHTS = st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda weights: sum(weights) > 1e-3)


class Fixed(Random):
    """Gives back what it is told, over and over."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self._values = values
        self._next = 0

    def random(self) -> float:
        self._next += 1
        return self._values[(self._next - 1) % len(self._values)]


def normalised(weights: list[float]) -> list[float]:
    return [weight / math.fsum(weights) for weight in weights]


def weigh(how: WeightMap) -> list[float]:
    return softmax([log_weight(score, how) for score in SCORES])


def test_the_papers_weights_and_the_codes_differ() -> None:
    assert weigh(WeightMap.IDENTITY) == pytest.approx([0.331, 0.299, 0.222, 0.149], abs=6e-4)
    assert weigh(WeightMap.LOGIT) == pytest.approx([0.638, 0.284, 0.071, 0.008], abs=6e-4)
    assert weigh(WeightMap.LOG) == pytest.approx([score / 2.3 for score in SCORES])


@given(st.floats(0, 1), st.sampled_from(WeightMap))
def test_weights_are_finite_and_rise_with_the_score(score: float, how: WeightMap) -> None:
    assert math.isfinite(log_weight(score, how))
    assert log_weight(score, how) <= log_weight(1.0, how)
    assert log_weight(score, how) >= log_weight(0.0, how)


def test_logits_make_weights_the_odds() -> None:
    assert math.exp(log_weight(0.8, WeightMap.LOGIT)) == pytest.approx(4)


@given(st.lists(st.floats(-800, 800), min_size=1, max_size=9), st.floats(0.01, 100))
def test_a_softmax_sums_to_one(values: list[float], temperature: float) -> None:
    probabilities = softmax(values, temperature)
    assert math.fsum(probabilities) == pytest.approx(1)
    assert all(0 <= p <= 1 for p in probabilities)


def test_a_softmax_of_nothing_likely_is_uniform() -> None:
    assert softmax([-math.inf, -math.inf]) == [0.5, 0.5]
    assert softmax([-math.inf, 3.0]) == [0.0, 1.0]


def test_the_effective_size_is_between_one_and_all() -> None:
    assert effective_size([1.0, 0.0, 0.0]) == 1
    assert effective_size([0.25] * 4) == 4
    assert effective_size(weigh(WeightMap.LOGIT)) / 4 == pytest.approx(0.508, abs=5e-4)


@given(WEIGHTS, st.integers(1, 40), st.sampled_from(Scheme), st.integers(0, 2**32))
def test_every_scheme_gives_as_many_valid_indices_as_asked(
    weights: list[float], count: int, scheme: Scheme, seed: int
) -> None:
    probabilities = normalised(weights)
    drawn = resample(probabilities, count, scheme, Random(seed))
    assert len(drawn) == count
    assert drawn == sorted(drawn)
    assert all(0 <= place < len(probabilities) and probabilities[place] > 0 for place in drawn)


@given(WEIGHTS, st.integers(1, 40), st.floats(0, 1, exclude_max=True))
def test_systematic_counts_are_within_one_of_their_expectation(weights: list[float], count: int, offset: float) -> None:
    probabilities = normalised(weights)
    copies = Counter(resample(probabilities, count, Scheme.SYSTEMATIC, Fixed([offset])))
    for place, p in enumerate(probabilities):
        assert math.floor(count * p - 1e-9) <= copies[place] <= math.ceil(count * p + 1e-9)


@given(WEIGHTS, st.integers(1, 20))
def test_systematic_is_unbiased(weights: list[float], count: int) -> None:
    probabilities = normalised(weights)
    offsets = 500
    copies: Counter[int] = Counter()
    for place in range(offsets):
        copies.update(resample(probabilities, count, Scheme.SYSTEMATIC, Fixed([(place + 0.5) / offsets])))
    for place, p in enumerate(probabilities):
        # Counts are step functions of the offset, with two steps at most: the midpoint rule is off by one offset each.
        assert copies[place] / offsets == pytest.approx(count * p, abs=2 / offsets + 1e-9)


@given(WEIGHTS, st.integers(1, 40), st.integers(0, 2**32))
def test_stratified_counts_are_within_two_of_their_expectation(weights: list[float], count: int, seed: int) -> None:
    probabilities = normalised(weights)
    copies = Counter(resample(probabilities, count, Scheme.STRATIFIED, Random(seed)))
    for place, p in enumerate(probabilities):
        assert math.floor(count * p - 1e-9) - 1 <= copies[place] <= math.ceil(count * p + 1e-9) + 1


@given(WEIGHTS, st.integers(1, 40), st.integers(0, 2**32))
def test_residual_keeps_the_whole_part_for_certain(weights: list[float], count: int, seed: int) -> None:
    probabilities = normalised(weights)
    copies = Counter(resample(probabilities, count, Scheme.RESIDUAL, Random(seed)))
    assert all(copies[place] >= math.floor(count * p - 1e-9) for place, p in enumerate(probabilities))


@pytest.mark.parametrize("scheme", [Scheme.MULTINOMIAL, Scheme.STRATIFIED, Scheme.RESIDUAL])
def test_the_random_schemes_are_unbiased(scheme: Scheme) -> None:
    probabilities, count, rounds = weigh(WeightMap.IDENTITY), 7, 4000
    random, copies = Random(5), Counter[int]()
    for _ in range(rounds):
        copies.update(resample(probabilities, count, scheme, random))
    for place, p in enumerate(probabilities):
        # Five standard deviations of the multinomial, the widest of them.
        assert copies[place] / rounds == pytest.approx(count * p, abs=5 * math.sqrt(count * p * (1 - p) / rounds))


def test_rounding_cannot_run_off_the_end() -> None:
    probabilities = [0.1] * 10
    assert math.fsum(probabilities) != sum(probabilities)
    last = 1 - 2**-53
    assert resample(probabilities, 1, Scheme.SYSTEMATIC, Fixed([last])) == [9]
    assert resample([0.5, 0.5, 0.0], 2, Scheme.MULTINOMIAL, Fixed([last])) == [1, 1]


TEMPERATURES = {Annealing.ESS: 1.920, Annealing.ENTROPY: 1.570, Annealing.BASE: 1.975}


@pytest.mark.parametrize("how", TEMPERATURES)
def test_annealing_raises_the_temperature_as_its_hub_does(how: Annealing) -> None:
    assert annealing_temperature(weigh(WeightMap.LOGIT), 1 / 40, how) == pytest.approx(TEMPERATURES[how], abs=2e-3)


def test_annealing_flattens_only_what_is_narrow_and_early() -> None:
    logits = [log_weight(score, WeightMap.LOGIT) for score in SCORES]
    plain = softmax(logits)
    assert annealed(logits, 1 / 40, Annealing.ESS) == plain, "the effective share is .508"
    flat = annealed(logits, 1 / 40, Annealing.ESS, threshold=0.6)
    assert flat == pytest.approx([0.482, 0.316, 0.153, 0.049], abs=1e-3)
    assert annealed(logits, 0.5, Annealing.ESS, threshold=0.6) == plain
    assert annealed(logits, 1 / 40, Annealing.NONE, threshold=0.6) == plain


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=9), st.floats(0, 1), st.sampled_from(Annealing))
def test_annealing_never_sharpens(weights: list[float], progress: float, how: Annealing) -> None:
    assume(how is not Annealing.NONE)
    assert annealing_temperature(normalised(weights), progress, how) >= 1


def test_entropy_is_normalised_for_two_as_for_more() -> None:
    assert normalised_entropy([0.5, 0.5]) == pytest.approx(1)
    assert normalised_entropy([0.25] * 4) == pytest.approx(1)
    assert normalised_entropy([1.0]) == 1
    assert normalised_entropy([1.0, 0.0]) == 0
