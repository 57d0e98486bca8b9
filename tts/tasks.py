"""What a benchmark task is: problems, their gold answers, and the rules that read and grade answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.protocols import AnswerReader
    from tts.types import Problem


@dataclass(frozen=True, slots=True)
class Item:
    """A problem with its gold answer, which never leaves the harness.

    Attributes:
        problem: What is asked.
        gold: A right answer.
        band: The class of difficulty by which results are reported; None where the task has none.
        difficulty: How hard it is, in the task's own unit; greater is harder. None where it is not known.
    """

    problem: Problem
    gold: str
    band: str | None = None
    difficulty: float | None = None


class Task(Protocol):
    """A set of problems with an exact rule for what is right."""

    @property
    def name(self) -> str:
        """How results name it."""

    @property
    def reader(self) -> AnswerReader:
        """Reads and compares answers."""

    def items(self, limit: int | None = None) -> Sequence[Item]:
        """Return the held-out problems, always the same and in the same order; the first `limit` of them."""

    def grade(self, item: Item, answer: str) -> bool:
        """Whether the answer is right."""


class LabelledTask(Task, Protocol):
    """A task that can judge every step exactly."""

    def label_steps(self, item: Item, steps: Sequence[str]) -> tuple[bool, ...]:
        """Label each part of a solution, split at its step delimiters: whether a right answer can still be reached.

        A part that states the answer is good when the answer is right. As many labels as parts.
        """
