"""Countdown as a task: questions, the reader that groups equal expressions, and exact grading."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from random import Random
from typing import TYPE_CHECKING

from tts.answers import MathAnswerReader
from tts.benchmarks.tasks.countdown import (
    NUMBER_COUNT,
    Instance,
    check_answer,
    count_solutions,
    draw_solution,
    held_out,
    label_steps,
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
    answers: the gold answer is one of them. The fewer ways lead to the target, the harder it is to find one by chance:
    difficulty is minus the base-2 logarithm of their number.

    Attributes:
        name: How results name it; the start of every problem's id.
        size: How many numbers a problem has.
        few: The most ways to the target that a problem of the band "few" has.
        some: The most that one of the band "some" has; more are "many". Both are near the terciles
            of the 1,000 problems.
    """

    name: str = "countdown"
    size: int = NUMBER_COUNT
    few: int = 4
    some: int = 17
    reader: CountdownReader = CountdownReader()

    def items(self, limit: int | None = None) -> Sequence[Item]:
        """Return the first `limit` problems, or all; they are always the same."""
        count = PROBLEMS if limit is None else min(limit, PROBLEMS)
        return [self._item(number, instance) for number, instance in enumerate(held_out(count, _SEED, self.size), 1)]

    def grade(self, item: Item, answer: str) -> bool:
        """Whether the expression uses each number once and equals the target."""
        return check_answer(parse_question(item.problem.question), answer)

    def label_steps(self, item: Item, steps: Sequence[str]) -> tuple[bool, ...]:
        """Label each part of a solution: whether the target can still be reached, or the answer is right."""
        return label_steps(parse_question(item.problem.question), steps)

    def _item(self, number: int, instance: Instance) -> Item:
        message = Message(role="user", content=question(instance))
        problem = Problem(messages=(message,), id=f"{self.name}-{number:04}", task=self.name)
        gold = path_expression(instance.numbers, draw_solution(instance, Random(number)))
        ways = count_solutions(instance.numbers, instance.target)
        return Item(problem, gold, self._band(ways), -log2(ways))

    def _band(self, ways: int) -> str:
        if ways <= self.few:
            return "few"
        return "some" if ways <= self.some else "many"


@dataclass(frozen=True, slots=True)
class CountdownHard(Countdown):
    """Five numbers, each used once, make a target; else as `Countdown`, with one more step at which to go wrong."""

    name: str = "countdown-hard"
    size: int = 5
    few: int = 45
    some: int = 175


COUNTDOWN = Countdown()
COUNTDOWN_HARD = CountdownHard()
