"""A process reward model: one probability a step, read at each step's last token, or at a mark after the step."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from tts.capabilities import VerifierCapabilities
from tts.errors import NeedsError, ParameterError, ScoreCountError
from tts.groups import Tasks
from tts.protocols import PathScore, connect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from tts.protocols import Path, Scorer

Given = TypeVar("Given")
Found = TypeVar("Found")


class ProcessReward:
    """Scores each step by the probability of the good class at the step's last token.

    Let's Verify Step by Step (Lightman et al. 2023, arXiv 2305.20050), in the token-classification form of
    Math-Shepherd (arXiv 2312.08935). What a path is charged (`PathScore.tokens`) is its length in tokens, however much
    of it the scorer has in a cache or reads several times, so that it does not hang on what was scored before.
    """

    def __init__(
        self, scorer: Scorer, *, good: int | None = None, mark: str = "", labels: Sequence[int | str] | None = None
    ) -> None:
        """Say how to read a model.

        Args:
            scorer: The model.
            good: The class that means a good step, from 0; None is class 1 or, with `labels`, the first of them.
            mark: Text that the model expects in place of the whitespace that ends a step, such as "<extra_0>".
            labels: For a language model: the verdicts that it may give next, as token ids or as texts of one token.
        """
        self._scorer = scorer
        self._good = (1 if labels is None else 0) if good is None else good
        self._mark = mark
        self._given = labels
        self._labels: tuple[int, ...] | None = None

    async def connect(self) -> None:
        """Let the scorer find out what it can do.

        Raises:
            NeedsError: It gives no labels, and they are wanted; or it gives nothing else.
            ParameterError: There is no such class, or a label is not one token, or two are the same one.
        """
        await connect(self._scorer)
        able = self._scorer.capabilities
        if self._given is not None and not able.labels:
            raise NeedsError(f"{able.name} gives {able.classes} classes and no labels: leave labels={self._given} out")
        if self._given is None and not able.classes:
            raise NeedsError(
                f"{able.name} is a language model, which gives no classes: give labels=..., or name the server of a "
                "reward model"
            )
        classes = able.classes if self._given is None else len(self._given)
        if not 0 <= self._good < classes:
            raise ParameterError(f"good={self._good}, but {able.name} tells {classes} classes apart, from 0")
        await self._verdicts()

    @cached_property
    def capabilities(self) -> VerifierCapabilities:
        """One score a step; unfinished paths too."""
        able = self._scorer.capabilities
        further: dict[str, str] = {"mark": self._mark} if self._mark else {}
        if self._given is not None:
            further["labels"] = " ".join(map(str, self._given))
        return VerifierCapabilities(
            name=f"process_reward({able.name})",
            steps=True,
            dollars_per_token=able.dollars_per_token,
            flops_per_token=able.flops_per_token,
            runtimes=able.runtimes,
            fingerprint={**able.fingerprint, "good": self._good, **further},
        )

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Score every step of every path.

        Raises:
            ScoreCountError: The scorer did not return a row for each step.
        """
        sequences, positions = await self._encode(paths)
        rows = await self._scorer.probabilities(sequences, positions, labels=await self._verdicts())
        if [len(row) for row in rows] != [len(places) for places in positions]:
            raise ScoreCountError(f"{self.capabilities.name}: the scorer returned another number of rows than steps")
        return [
            PathScore([float(row[self._good]) for row in path_rows], len(ids))
            for path_rows, ids in zip(rows, sequences, strict=True)
        ]

    async def _encode(self, paths: Sequence[Path]) -> tuple[list[list[int]], list[list[int]]]:
        each = _one_by_one if self._scorer.capabilities.local else _side_by_side
        starts = await each(self._scorer.encode, dict.fromkeys(path.messages for path in paths))
        steps = dict.fromkeys(self._marked(step) for path in paths for step in path.steps)
        pieces = await each(self._scorer.tokenize, steps)
        sequences, positions = [], []
        for path in paths:
            ids, places = list(starts[path.messages]), []
            for step in path.steps:
                ids += pieces[self._marked(step)]
                places.append(len(ids) - 1)
            sequences.append(ids)
            positions.append(places)
        return sequences, positions

    def _marked(self, step: str) -> str:
        return step.rstrip() + self._mark if self._mark else step

    async def _verdicts(self) -> tuple[int, ...] | None:
        """Return the labels' token ids, looked up once."""
        if self._labels is None and self._given is not None:
            found: list[int] = []
            for label in self._given:
                tokens = await self._scorer.tokenize(label) if isinstance(label, str) else [label]
                if len(tokens) != 1:
                    raise ParameterError(f"label {label!r} is {len(tokens)} tokens; a label is one")
                found += tokens
            if len(set(found)) < len(found):
                raise ParameterError(f"labels {self._given} are tokens {found}: the model cannot tell them apart")
            self._labels = tuple(found)
        return self._labels

    async def aclose(self) -> None:
        """Release the scorer."""
        await self._scorer.aclose()


async def _one_by_one(ask: Callable[[Given], Awaitable[Found]], wanted: Iterable[Given]) -> dict[Given, Found]:
    """Return what `ask` says of each thing, without a task for each: they cost more than an answer from memory."""
    return {thing: await ask(thing) for thing in wanted}


async def _side_by_side(ask: Callable[[Given], Awaitable[Found]], wanted: Iterable[Given]) -> dict[Given, Found]:
    """Return what `ask` says of each thing, asked at the same time."""
    found: dict[Given, Found] = {}

    async def look_up(thing: Given) -> None:
        found[thing] = await ask(thing)

    async with Tasks() as tasks:
        for thing in wanted:
            tasks.start_soon(look_up, thing)
    return found
