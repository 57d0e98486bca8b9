"""Countdown as a task."""

from __future__ import annotations

import pytest

from tts import registry
from tts.benchmarks.runner import data_hash
from tts.benchmarks.tasks import COUNTDOWN
from tts.benchmarks.tasks.countdown import is_held_out, parse_question


def test_it_is_registered() -> None:
    assert registry.task("countdown") is COUNTDOWN


def test_there_are_a_thousand_held_out_problems() -> None:
    items = COUNTDOWN.items(2000)
    assert len(items) == len({item.problem.question for item in items}) == 1000
    assert all(is_held_out(parse_question(item.problem.question)) for item in items)
    assert (items[0].problem.id, items[-1].problem.id) == ("countdown-0001", "countdown-1000")


def test_problems_are_always_the_same() -> None:
    assert list(COUNTDOWN.items(7)) == list(COUNTDOWN.items(20))[:7]
    assert data_hash(COUNTDOWN.items(20)) == "724ad9a05aa6d33bf56c1c842a443b7fbf795cd54ea5376b2aef016cab5f174b"
    assert not COUNTDOWN.items(0)


def test_gold_answers_are_right_and_no_part_of_the_problem() -> None:
    for item in COUNTDOWN.items(50):
        assert COUNTDOWN.grade(item, item.gold)
        assert item.gold not in item.problem.model_dump_json()


@pytest.mark.parametrize("answer", ["", "36", "1 + 1", "import os", "9" * 10_000])
def test_wrong_answers_are_wrong(answer: str) -> None:
    assert not COUNTDOWN.grade(COUNTDOWN.items(1)[0], answer)


def test_answers_are_read_from_the_last_box_and_grouped_by_normal_form() -> None:
    reader = COUNTDOWN.reader
    assert reader.extract("so \\boxed{1 + 2}, no: \\boxed{3 * (1 + 2)}") == "3 * (1 + 2)"
    assert reader.extract("no idea") is None
    assert reader.key("3 * (1 + 2)") == reader.key("(2 + 1) \\times 3") != reader.key("3 + 3 + 3")
    assert reader.key("nonsense") is None
