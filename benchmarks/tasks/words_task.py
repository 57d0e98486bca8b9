"""Arithmetic in words as a task: questions with their number of steps, and exact grading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tts.answers import MathAnswerReader
from tts.benchmarks.tasks.words import (
    Instance,
    answer,
    check_answer,
    held_out,
    label_steps,
    parse_question,
    question,
    step_count,
)
from tts.tasks import Item
from tts.types import Message, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBLEMS = 1000
_SEED = 1
_READER = MathAnswerReader()


@dataclass(frozen=True, slots=True)
class ArithmeticWords:
    """Word problems of two to five steps; 1,000 whose sequences of sentence forms no training has seen.

    The answer is an integer of 1 to 999. Bands are by the number of steps of the shortest route, which is also the
    difficulty.
    """

    name: str = "arithmetic-words"
    reader: MathAnswerReader = _READER

    def items(self, limit: int | None = None) -> Sequence[Item]:
        """Return the first `limit` problems, or all; they are always the same."""
        count = PROBLEMS if limit is None else min(limit, PROBLEMS)
        return [self._item(number, instance) for number, instance in enumerate(held_out(count, _SEED), 1)]

    def grade(self, item: Item, answer: str) -> bool:
        """Whether the answer is the right integer, in any spelling."""
        return check_answer(parse_question(item.problem.question), answer)

    def label_steps(self, item: Item, steps: Sequence[str]) -> tuple[bool, ...]:
        """Label each part of a solution: whether it is the next step of a valid route, or the right answer."""
        return label_steps(parse_question(item.problem.question), steps)

    def _item(self, number: int, instance: Instance) -> Item:
        message = Message(role="user", content=question(instance))
        problem = Problem(messages=(message,), id=f"{self.name}-{number:04}", task=self.name)
        steps = step_count(instance)
        return Item(problem, str(answer(instance)), f"{steps} steps", float(steps))


ARITHMETIC_WORDS = ArithmeticWords()
