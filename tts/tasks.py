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
    """A problem with its gold answer, which never leaves the harness."""

    problem: Problem
    gold: str


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
