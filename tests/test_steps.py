"""How text divides into steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts.steps import is_empty_step, split_steps

TEXTS = st.text(alphabet="ab\n .é∑\u2028", max_size=40)
DELIMITERS = st.lists(st.sampled_from(["\n\n", "\n", "ab", "a", ".", " "]), max_size=3, unique=True)


@given(TEXTS, DELIMITERS)
def test_joined_they_are_the_text(text: str, delimiters: list[str]) -> None:
    assert "".join(split_steps(text, delimiters)) == text


@given(TEXTS, DELIMITERS)
def test_each_but_the_last_ends_in_a_delimiter_or_space(text: str, delimiters: list[str]) -> None:
    steps = split_steps(text, delimiters)
    assert all(step for step in steps)
    assert all(step.rstrip().endswith(tuple(delimiters)) or step.endswith(tuple(delimiters)) for step in steps[:-1])


@given(TEXTS, DELIMITERS)
def test_a_step_is_split_no_further(text: str, delimiters: list[str]) -> None:
    for step in split_steps(text, delimiters):
        if step.strip():
            assert split_steps(step, delimiters) == [step]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", []),
        ("one", ["one"]),
        ("one\n\ntwo", ["one\n\n", "two"]),
        ("one\n\n\n\ntwo\n\n", ["one\n\n\n\n", "two\n\n"]),
        ("\n\none", ["\n\n", "one"]),
        ("one\n\n  ", ["one\n\n  "]),
    ],
)
def test_by_hand(text: str, steps: list[str]) -> None:
    assert split_steps(text, ("\n\n",)) == steps


def test_the_longest_delimiter_wins() -> None:
    assert split_steps("a\n\nb\nc", ("\n", "\n\n")) == ["a\n\n", "b\n", "c"]


def test_delimiters_are_no_patterns() -> None:
    assert split_steps("a.b|c", (".", "|")) == ["a.", "b|", "c"]


@pytest.mark.parametrize(
    ("text", "empty"), [("", True), ("\n\n", True), (" \n\n\t", True), ("a\n\n", False), ("## ", False)]
)
def test_a_step_of_delimiters_and_space_is_empty(text: str, empty: bool) -> None:
    assert is_empty_step(text, ("\n\n",)) is empty


def test_a_step_of_a_visible_delimiter_is_empty() -> None:
    assert is_empty_step("### ", ("###",))
    assert is_empty_step("  ", ())
    assert not is_empty_step("###", ())
