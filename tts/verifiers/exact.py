"""Exact verdicts: by a task's checker, its step labels, or gold answers, which make an oracle of what holds them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tts.answers import MathAnswerReader, split_thinking
from tts.capabilities import VerifierCapabilities
from tts.errors import ParameterError, ScoreCountError, ScoreValueError, VerifierError
from tts.grading import KeyGrader, Undecided
from tts.groups import Tasks
from tts.protocols import PathScore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tts.grading import Grader
    from tts.protocols import AnswerReader, Path
    from tts.tasks import Item, LabelledTask, Task
    from tts.types import Message

    Messages = tuple[Message, ...]
    Asked = tuple[Messages, str]
    Check = Callable[[Messages, str], bool]
    Label = Callable[[Messages, Sequence[str]], Sequence[bool]]
    Facts = dict[str, str | int | float | bool | None]

THINKING = ("<think>", "</think>")

T = TypeVar("T")


class _Finished(ABC):
    """What verdicts on finished paths share: the answer is read, each distinct one judged once."""

    def __init__(self, reader: AnswerReader | None, name: str, thinking: tuple[str, str]) -> None:
        self._reader = MathAnswerReader() if reader is None else reader
        self._name = name
        self._thinking = thinking

    @property
    def capabilities(self) -> VerifierCapabilities:
        """One score a finished path, for no tokens and no money."""
        return VerifierCapabilities(
            name=self._name,
            steps=False,
            partial=False,
            dollars_per_token=0.0,
            flops_per_token=0.0,
            fingerprint={
                "reader": type(self._reader).__name__,
                "thinking": " ".join(self._thinking),
                **self._facts(),
            },
        )

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Judge finished paths: 1 for a right answer, 0 for a wrong one or none that can be read.

        Raises:
            VerifierError: A path has not finished or has no steps; its question is not known; or whether its answer is
                right could not be decided.
            ScoreValueError: The checker says neither True nor False.
        """
        asked = [(path.messages, self._read(place, path)) for place, path in enumerate(paths)]
        distinct = dict.fromkeys((messages, answer) for messages, answer in asked if answer is not None)
        right = await self._judge(list(distinct))
        return [PathScore([float(answer is not None and right[messages, answer])]) for messages, answer in asked]

    def _read(self, place: int, path: Path) -> str | None:
        if not path.finished or not path.steps:
            what = "has no steps" if path.finished else "has not finished, so that its answer is still to come"
            raise VerifierError(f"{self._name}: path {place} {what}; give finished paths")
        said = split_thinking("".join(path.steps), *self._thinking)[1]
        return self._reader.extract(said)

    @abstractmethod
    async def _judge(self, asked: Sequence[Asked]) -> Mapping[Asked, bool]:
        """Say which answers are right."""

    @abstractmethod
    def _facts(self) -> Facts:
        """Say by which rules, so that a calibration map tells them from others."""


class Exact(_Finished):
    """Scores a finished path 1 if its answer is right by a checker, else 0; one without a readable answer is not right.

    It reads the answer after the thinking, as a search does, and nothing else of the path: a right answer by wrong
    steps scores 1. A checker that needs only the question (Countdown: does the expression make the target?) is one that
    a person could have too; one that knows gold answers is an oracle, and its name says so: what it finds is a bound on
    what verifiers can do, not a result that anyone could have.
    """

    def __init__(
        self,
        check: Check,
        reader: AnswerReader | None = None,
        *,
        name: str = "check",
        oracle: bool = False,
        rules: str | None = None,
        thinking: tuple[str, str] = THINKING,
    ) -> None:
        """Say what is right.

        Args:
            check: Whether an answer to a conversation is right. It runs on the event loop, so its work is to be
                bounded; what may hang belongs in a grader (`ExactAnswers`).
            reader: Reads answers; None is the mathematical one.
            name: How results name the rule.
            oracle: Whether the checker knows gold answers.
            rules: What tells the checker from others in the fingerprint, beside the name; None is where it is defined,
                which does not tell apart what one place makes more than once.
            thinking: The texts that open and close thinking, in which no answer is read.
        """
        super().__init__(reader, _name(name, oracle), thinking)
        self._check = check
        self._rules = _defined(check) if rules is None else rules

    @classmethod
    def from_task(cls, task: Task, items: Iterable[Item]) -> Self:
        """Grade by a task's rule, which gets the items with their gold answers: an oracle.

        Raises:
            ParameterError: Two items ask the same and have different gold answers.
        """
        known = _by_question(items)

        def check(messages: Messages, answer: str) -> bool:
            return task.grade(_known(known, messages, _name(task.name, True)), answer)

        return cls(check, task.reader, name=task.name, oracle=True, rules=f"task {task.name}")

    def _facts(self) -> Facts:
        return {"rules": self._rules}

    async def _judge(self, asked: Sequence[Asked]) -> Mapping[Asked, bool]:
        return {pair: _checked(self._name, [self._check(*pair)], 1)[0] for pair in asked}

    async def aclose(self) -> None:
        """Hold nothing."""


class ExactAnswers(_Finished):
    """Scores a finished path 1 if its answer is equal to the gold one of its question, else 0: an oracle.

    What "equal" is, a grader says; without one, answers are equal that share the reader's key. A pair that the grader
    cannot decide (`tts.grading.Undecided`) is an error: it is not known to be wrong.
    """

    def __init__(
        self,
        golds: Mapping[str, str],
        reader: AnswerReader | None = None,
        grader: Grader | None = None,
        *,
        name: str = "answers",
        thinking: tuple[str, str] = THINKING,
    ) -> None:
        """Give the answers.

        Args:
            golds: The gold answer of each question; a question is the last message of a conversation.
            reader: Reads answers; None is the mathematical one.
            grader: Compares them, and is closed with the verifier; None compares the reader's keys.
            name: How results name the set of answers.
            thinking: The texts that open and close thinking.
        """
        super().__init__(reader, _name(name, True), thinking)
        self._golds = dict(golds)
        self._grader: Grader = KeyGrader(self._reader) if grader is None else grader

    async def _judge(self, asked: Sequence[Asked]) -> Mapping[Asked, bool]:
        right: dict[Asked, bool] = {}

        async def judge(messages: Messages, answer: str) -> None:
            verdict = await self._grader.equal(_known(self._golds, messages, self._name), answer)
            if isinstance(verdict, Undecided):
                raise VerifierError(f"{self._name}: answer {answer!r} to {messages[-1].content[:80]!r} is {verdict}")
            right[messages, answer] = verdict

        async with Tasks() as tasks:
            for messages, answer in asked:
                tasks.start_soon(judge, messages, answer)
        return right

    def _facts(self) -> Facts:
        answers = hashlib.sha256(repr(sorted(self._golds.items())).encode()).hexdigest()[:16]
        return {"answers": answers, **self._grader.fingerprint}

    async def aclose(self) -> None:
        """Close the grader."""
        await self._grader.aclose()


class ExactSteps:
    """Scores each step 1 or 0 by a task's exact labels: whether a right answer can still be reached after it.

    Steps are labelled as they are given, so unfinished paths too. A label is not to hang on later steps.
    """

    def __init__(self, label: Label, *, name: str = "labels", oracle: bool = False, rules: str | None = None) -> None:
        """Say what is right.

        Args:
            label: As many labels as steps. It runs on the event loop, so its work is to be bounded.
            name: How results name the rule.
            oracle: Whether the labels come from knowing gold answers.
            rules: What tells the rule from others in the fingerprint, as in `Exact`.
        """
        self._label = label
        self._name = _name(name, oracle)
        self._rules = _defined(label) if rules is None else rules

    @classmethod
    def from_task(cls, task: LabelledTask, items: Iterable[Item]) -> Self:
        """Label by a task's rule, which gets the items with their gold answers: an oracle.

        Raises:
            ParameterError: Two items ask the same and have different gold answers.
        """
        known = _by_question(items)

        def label(messages: Messages, steps: Sequence[str]) -> Sequence[bool]:
            return task.label_steps(_known(known, messages, _name(task.name, True)), steps)

        return cls(label, name=task.name, oracle=True, rules=f"task {task.name}")

    @property
    def capabilities(self) -> VerifierCapabilities:
        """One score a step, for no tokens and no money; unfinished paths too."""
        return VerifierCapabilities(
            name=self._name, steps=True, dollars_per_token=0.0, flops_per_token=0.0, fingerprint={"rules": self._rules}
        )

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Label every step of every path.

        Raises:
            VerifierError: A path has no steps, or its question is not known.
            ScoreCountError: The labels are not one a step.
            ScoreValueError: A label is neither True nor False.
        """
        return [self._labelled(place, path) for place, path in enumerate(paths)]

    def _labelled(self, place: int, path: Path) -> PathScore:
        if not path.steps:
            raise VerifierError(f"{self._name}: path {place} has no steps; there is nothing to label")
        labels = self._label(path.messages, path.steps)
        return PathScore([float(label) for label in _checked(f"{self._name}: path {place}", labels, len(path.steps))])

    async def aclose(self) -> None:
        """Hold nothing."""


def _checked(who: str, labels: Sequence[bool], wanted: int) -> Sequence[bool]:
    """Refuse labels that are not one a step, or no verdicts: None often says that a text could not be read.

    Raises:
        ScoreCountError: Too few or too many.
        ScoreValueError: One is neither True nor False.
    """
    if len(labels) != wanted:
        raise ScoreCountError(f"{who} has {wanted} steps, but {len(labels)} labels")
    for place, label in enumerate(labels):
        if label not in (True, False):
            raise ScoreValueError(f"{who}: label {place} is {label!r}; expected True or False")
    return labels


def _name(name: str, oracle: bool) -> str:
    return f"oracle({name})" if oracle else f"exact({name})"


def _defined(rule: object) -> str:
    """Return where a function is defined, or the class of what is called like one."""
    made: Any = rule if hasattr(rule, "__qualname__") else type(rule)
    return f"{made.__module__}.{made.__qualname__}"


def _by_question(items: Iterable[Item]) -> dict[str, Item]:
    known: dict[str, Item] = {}
    for item in items:
        before = known.setdefault(item.problem.question, item)
        if before.gold != item.gold:
            raise ParameterError(f"{item.problem.id} asks what {before.problem.id} does, with another gold answer")
    return known


def _known(known: Mapping[str, T], messages: Messages, name: str) -> T:
    question = messages[-1].content
    if question not in known:
        raise VerifierError(f"{name}: no gold answer for the question {question[:80]!r}; there are {len(known)}")
    return known[question]
