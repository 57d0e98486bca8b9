"""Countdown as a task."""

from __future__ import annotations

from random import Random

import pytest

from tts import registry
from tts.benchmarks.runner import data_hash
from tts.benchmarks.tasks import COUNTDOWN, COUNTDOWN_HARD, Countdown
from tts.benchmarks.tasks.countdown import count_solutions, draw_solution, is_held_out, parse_question, solution_text

BOTH = pytest.mark.parametrize("task", [COUNTDOWN, COUNTDOWN_HARD], ids=lambda task: task.name)


@BOTH
def test_it_is_registered(task: Countdown) -> None:
    assert registry.task(task.name) is task
    assert task.name in registry.names("task")
    assert {item.problem.task for item in task.items(3)} == {task.name}


def test_there_are_a_thousand_held_out_problems() -> None:
    items = COUNTDOWN.items(2000)
    assert len(items) == len({item.problem.question for item in items}) == 1000
    assert all(is_held_out(parse_question(item.problem.question)) for item in items)
    assert (items[0].problem.id, items[-1].problem.id) == ("countdown-0001", "countdown-1000")
    bands = [item.band for item in items]
    assert [bands.count(band) for band in ("few", "some", "many")] == [329, 246, 425]


def test_problems_are_always_the_same() -> None:
    assert list(COUNTDOWN.items(7)) == list(COUNTDOWN.items(20))[:7]
    assert data_hash(COUNTDOWN.items(20)) == "724ad9a05aa6d33bf56c1c842a443b7fbf795cd54ea5376b2aef016cab5f174b"
    assert not COUNTDOWN.items(0)


def test_hard_problems_are_always_the_same_and_have_five_numbers() -> None:
    items = COUNTDOWN_HARD.items(20)
    assert list(COUNTDOWN_HARD.items(7)) == list(items)[:7]
    assert data_hash(items) == "734c63ccb2c60e5c8a4ae00e7949b05891d39fc151813153a282884927aba5dd"
    assert (items[0].problem.id, items[-1].problem.id) == ("countdown-hard-0001", "countdown-hard-0020")
    instances = [parse_question(item.problem.question) for item in items]
    assert all(map(is_held_out, instances))
    assert {len(instance.numbers) for instance in instances} == {5}


@BOTH
def test_bands_are_by_the_number_of_ways(task: Countdown) -> None:
    for item in task.items(100):
        instance = parse_question(item.problem.question)
        ways = count_solutions(instance.numbers, instance.target)
        assert item.difficulty is not None
        assert 2**-item.difficulty == pytest.approx(ways)
        assert item.band == ("few" if ways <= task.few else "some" if ways <= task.some else "many")


@BOTH
def test_steps_are_labelled(task: Countdown) -> None:
    item = task.items(1)[0]
    instance = parse_question(item.problem.question)
    parts = solution_text(instance, draw_solution(instance, Random(0)))
    assert task.label_steps(item, parts) == (True,) * task.size
    assert task.label_steps(item, ("nonsense", *parts)) == (False,) * task.size + (True,)


@BOTH
def test_gold_answers_are_right_and_no_part_of_the_problem(task: Countdown) -> None:
    for item in task.items(50):
        assert task.grade(item, item.gold)
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
