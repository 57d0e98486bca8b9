"""The prefix cache against a plain one that forgets nothing, and its bound."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tts.backends.embedded.cache import PrefixCache

SIZES = (2, 1, 3)
TOKEN_BYTES = 4 * 6


def states_of(tokens: list[int], start: int = 0) -> np.typing.NDArray[np.float32]:
    """Keys and values that depend on all tokens up to their own, as a network's do."""
    marks = [hash(tuple(tokens[: place + 1])) % 10007 for place in range(start, len(tokens))]
    return np.array(marks, np.float32)[:, None, None, None] * np.ones(SIZES, np.float32)


paths = st.lists(st.integers(0, 2), max_size=8)


@given(st.lists(st.tuples(st.booleans(), paths), max_size=40), st.integers(0, 20))
def test_what_is_found_is_what_was_stored(calls: list[tuple[bool, list[int]]], capacity: int) -> None:
    cache = PrefixCache(SIZES, capacity * TOKEN_BYTES)
    for store, tokens in calls:
        found = cache.fetch(tokens)
        assert np.array_equal(found, states_of(tokens)[: len(found)])
        if store:
            cache.store(tokens, states_of(tokens, len(found)))
            assert len(cache.fetch(tokens)) == min(len(tokens), capacity)
        assert len(cache) <= capacity


def test_the_longest_known_prefix_is_found() -> None:
    cache = PrefixCache(SIZES, 100 * TOKEN_BYTES)
    cache.store([1, 2, 3], states_of([1, 2, 3]))
    cache.store([1, 2, 4, 5], states_of([1, 2, 4, 5], 2))
    assert [len(cache.fetch(tokens)) for tokens in ([1, 2, 4, 5, 6], [1, 2], [1, 3], [2])] == [4, 2, 1, 0]
    assert len(cache) == 5


def test_what_was_used_longest_ago_goes_first_and_leaves_go_before_parents() -> None:
    cache = PrefixCache(SIZES, 5 * TOKEN_BYTES)
    for tokens in ([1, 2], [3, 4]):
        cache.store(tokens, states_of(tokens))
    cache.fetch([1, 2])
    cache.store([5, 6], states_of([5, 6]))
    assert [len(cache.fetch(tokens)) for tokens in ([1, 2], [3, 4], [5, 6])] == [2, 1, 2]


def test_states_without_those_before_them_are_not_kept() -> None:
    cache = PrefixCache(SIZES, 5 * TOKEN_BYTES)
    cache.store([1, 2, 3], states_of([1, 2, 3], 2))
    assert len(cache) == 0
