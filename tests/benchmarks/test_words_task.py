"""Arithmetic in words as a task."""

from __future__ import annotations

from random import Random

import pytest

from tts import registry
from tts.benchmarks.runner import data_hash
from tts.benchmarks.tasks import ARITHMETIC_WORDS
from tts.benchmarks.tasks.words import draw_route, is_held_out, parse_question, route_text, step_count


def test_it_is_registered() -> None:
    assert registry.task("arithmetic-words") is ARITHMETIC_WORDS
    assert set(registry.names("task")) >= {"arithmetic-words", "countdown", "countdown-hard"}


def test_there_are_a_thousand_held_out_problems() -> None:
    items = ARITHMETIC_WORDS.items(2000)
    assert len(items) == len({item.problem.question for item in items}) == 1000
    assert all(is_held_out(parse_question(item.problem.question)) for item in items)
    assert (items[0].problem.id, items[-1].problem.id) == ("arithmetic-words-0001", "arithmetic-words-1000")
    assert {item.problem.task for item in items} == {"arithmetic-words"}


def test_problems_are_always_the_same() -> None:
    items = ARITHMETIC_WORDS.items(20)
    assert list(ARITHMETIC_WORDS.items(7)) == list(items)[:7]
    assert data_hash(items) == "609f8ba22af569f7ff5706869d7e26c040ce75f7c09f1b91bd82f728bb3c8b64"
    assert not ARITHMETIC_WORDS.items(0)


def test_bands_are_by_the_number_of_steps() -> None:
    items = ARITHMETIC_WORDS.items(100)
    assert {item.band for item in items} == {"2 steps", "3 steps", "4 steps", "5 steps"}
    for item in items:
        steps = step_count(parse_question(item.problem.question))
        assert (item.band, item.difficulty) == (f"{steps} steps", steps)


def test_gold_answers_are_right_in_any_spelling() -> None:
    for item in ARITHMETIC_WORDS.items(50):
        assert ARITHMETIC_WORDS.grade(item, item.gold)
        assert ARITHMETIC_WORDS.grade(item, f"{item.gold}.0")
        assert not ARITHMETIC_WORDS.grade(item, str(int(item.gold) + 1))


@pytest.mark.parametrize("answer", ["", "none", "import os", "9" * 10_000, "\\frac{1}{0}", "-"])
def test_wrong_answers_are_wrong(answer: str) -> None:
    assert not ARITHMETIC_WORDS.grade(ARITHMETIC_WORDS.items(1)[0], answer)


def test_steps_are_labelled() -> None:
    item = ARITHMETIC_WORDS.items(1)[0]
    instance = parse_question(item.problem.question)
    parts = route_text(instance, draw_route(instance, Random(0)))
    assert ARITHMETIC_WORDS.label_steps(item, parts) == (True,) * len(parts)
    assert ARITHMETIC_WORDS.label_steps(item, ("nonsense", *parts)) == (False,) * len(parts) + (True,)
