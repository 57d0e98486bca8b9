"""Draws: their frequencies, their narrowing, and their independence of other rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts.backends.embedded.sampling import Draw, draw, log_probabilities, uniforms

LOGITS = np.log(np.array([[0.1, 0.4, 0.2, 0.25, 0.05]], np.float32))
GRID = (np.arange(2000) + 0.5) / 2000


def frequencies(temperature: float, top_k: int = 0, top_p: float = 1.0) -> list[float]:
    """How often each token is drawn when the uniform number goes evenly through its range."""
    tokens = draw(np.repeat(LOGITS, len(GRID), axis=0), [Draw(temperature, top_k, top_p, float(u)) for u in GRID])
    found: list[float] = (np.bincount(tokens, minlength=5) / len(GRID)).tolist()
    return found


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((1.0,), [0.1, 0.4, 0.2, 0.25, 0.05]),
        ((0.5,), [0.01 / 0.275, 0.16 / 0.275, 0.04 / 0.275, 0.0625 / 0.275, 0.0025 / 0.275]),
        ((0.0,), [0, 1, 0, 0, 0]),
        ((1e-9,), [0, 1, 0, 0, 0]),
        ((1.0, 2), [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),
        ((1.0, 1), [0, 1, 0, 0, 0]),
        ((1.0, 99), [0.1, 0.4, 0.2, 0.25, 0.05]),
        ((1.0, 0, 0.3), [0, 1, 0, 0, 0]),
        ((1.0, 0, 0.6), [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),
        ((1.0, 0, 0.7), [0, 0.4 / 0.85, 0.2 / 0.85, 0.25 / 0.85, 0]),
        ((1.0, 3, 0.7), [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),  # the nucleus is of what top_k kept
    ],
)
def test_tokens_are_drawn_as_often_as_they_are_likely(settings: tuple[float], expected: list[float]) -> None:
    assert frequencies(*settings) == pytest.approx(expected, abs=1e-3)


def test_equally_likely_tokens_are_ranked_by_their_ids() -> None:
    logits = np.zeros((100, 6), np.float32)
    tokens = draw(logits, [Draw(1.0, 3, 1.0, place / 100) for place in range(100)])
    assert set(tokens.tolist()) == {0, 1, 2}


def test_a_nucleus_is_no_larger_than_it_needs_to_be() -> None:
    logits = np.zeros((100, 4), np.float32)
    tokens = draw(logits, [Draw(1.0, 0, 0.5, place / 100) for place in range(100)])
    assert set(tokens.tolist()) == {0, 1}


def test_the_ends_of_the_range_draw_what_has_a_chance() -> None:
    logits = np.array([[-np.inf, 0.0, -np.inf], [-np.inf, 0.0, -np.inf]], np.float32)
    assert draw(logits, [Draw(1.0, 0, 1.0, 0.0), Draw(1.0, 0, 1.0, 1 - 2.0**-52)]).tolist() == [1, 1]


@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([7, 64, 1000, 1024]))
def test_a_row_draws_alone_what_it_draws_in_a_batch(seed: int, rows: int, vocabulary: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (rows, vocabulary)).astype(np.float32)
    kinds = [(0.0, 0, 1.0), (0.7, 0, 1.0), (1.0, 5, 1.0), (1.3, 0, 0.9), (1.0, 9, 0.5)]
    draws = [Draw(*kinds[rng.integers(len(kinds))], float(rng.random())) for _ in range(rows)]
    tokens = draw(logits, draws)
    logprobs = log_probabilities(logits, tokens)
    for row in range(rows):
        one = slice(row, row + 1)
        assert draw(logits[one], draws[one]) == tokens[one]
        assert log_probabilities(logits[one], tokens[one]) == logprobs[one]


def test_log_probabilities_are_those_of_the_model() -> None:
    found = log_probabilities(np.repeat(LOGITS, 5, axis=0) + 3, np.arange(5))
    assert found == pytest.approx(np.log([0.1, 0.4, 0.2, 0.25, 0.05]), abs=1e-6)
    assert log_probabilities(np.array([[900.0, 0.0]], np.float32), np.array([0])) == 0.0


def test_uniform_numbers_depend_on_the_seed_alone() -> None:
    assert uniforms(5, 10).tolist() == uniforms(5, 100)[:10].tolist()
    assert not set(uniforms(5, 100)) & set(uniforms(6, 100))
    many = uniforms(7, 20000)
    assert many.min() >= 0
    assert many.max() < 1
    assert many.mean() == pytest.approx(0.5, abs=0.01)
