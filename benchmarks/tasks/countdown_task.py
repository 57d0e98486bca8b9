"""Countdown as a task: questions, the reader that groups equal expressions, and exact grading."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tts.answers import MathAnswerReader
from tts.benchmarks.tasks.countdown import (
    Instance,
    check_answer,
    draw_solution,
    held_out,
    parse_question,
    path_expression,
    question,
)
from tts.benchmarks.tasks.expressions import normal_form
from tts.tasks import Item
from tts.types import Message, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBLEMS = 1000
_SEED = 1
_BOXED = MathAnswerReader()


@dataclass(frozen=True, slots=True)
class CountdownReader:
    """Reads the boxed expression; expressions equal by commutativity and associativity are the same answer."""

    def extract(self, text: str) -> str | None:
        """Return the last boxed expression, or None."""
        return _BOXED.extract(text)

    def key(self, answer: str) -> str | None:
        """Return the expression's normal form, or None where it is no expression."""
        return normal_form(answer)


@dataclass(frozen=True, slots=True)
class Countdown:
    """Four numbers, each used once, make a target; 1,000 problems that no training has seen.

    An answer is right when its expression uses each number exactly once and equals the target. A problem has many right
    answers: the gold answer is one of them.
    """

    name: str = "countdown"
    reader: CountdownReader = CountdownReader()

    def items(self, limit: int | None = None) -> Sequence[Item]:
        """Return the first `limit` problems, or all; they are always the same."""
        count = PROBLEMS if limit is None else min(limit, PROBLEMS)
        return [_item(number, instance) for number, instance in enumerate(held_out(count, _SEED), 1)]

    def grade(self, item: Item, answer: str) -> bool:
        """Whether the expression uses each number once and equals the target."""
        return check_answer(parse_question(item.problem.question), answer)


def _item(number: int, instance: Instance) -> Item:
    problem = Problem(
        messages=(Message(role="user", content=question(instance)),), id=f"countdown-{number:04}", task="countdown"
    )
    return Item(problem, path_expression(instance.numbers, draw_solution(instance, Random(number))))


COUNTDOWN = Countdown()
