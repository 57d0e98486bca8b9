"""The checks for third parties: they pass what keeps its promises, and name what breaks them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import pytest

from tests.laws.subjects import InOrder, small
from tts.capabilities import ScorerCapabilities
from tts.fakes import GENERATES, JUDGES, ScriptedGenerator, ScriptedVerifier, at_once, shuffled, tree_script
from tts.protocols import PathScore, Strategy
from tts.selection import Answer
from tts.testing import LawBroken, check_generator, check_scorer, check_strategy, check_verifier
from tts.types import Completion, Finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.protocols import GenerationRequest, Path, Sink
    from tts.search import Search
    from tts.types import Message


@pytest.mark.parametrize("strategy", [InOrder(), "best_of_n"], ids=["mine", "by name"])
async def test_a_strategy_that_keeps_the_laws_passes(strategy: Strategy | str) -> None:
    await check_strategy(small("best_of_n") if strategy == "best_of_n" else strategy, laws=[3, 5, 7, 8])


class Hasty(Strategy):
    """Goes by the order of arrival without saying so."""

    name: ClassVar[str] = "hasty"

    async def search(self, s: Search) -> Answer:
        async with s.arrivals(s.root, 8, whole=True, order="arrival") as children:
            async for child in children:
                return Answer(child, ())
        return Answer(None, ())


async def test_a_strategy_that_breaks_a_law_is_told_which() -> None:
    with pytest.raises(LawBroken, match=r"law 3: .* hangs on timing") as broken:
        await check_strategy(Hasty())
    assert broken.value.law == 3
    assert broken.value.values


class Generator(ScriptedGenerator):
    """A scripted generator that changes what it delivers."""

    def change(self, completion: Completion, request: GenerationRequest, place: int) -> Completion | None:
        return completion

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        await super().generate(request, Changing(self, request, sink))


class Changing:
    """A sink between."""

    def __init__(self, generator: Generator, request: GenerationRequest, sink: Sink) -> None:
        self._generator = generator
        self._request = request
        self._sink = sink

    def prompt(self, *, cached: int, computed: int) -> None:
        self._sink.prompt(cached=cached, computed=computed)

    def progress(self, index: int, tokens: int) -> None:
        self._sink.progress(index, tokens)

    def finish(self, index: int, completion: Completion) -> None:
        changed = self._generator.change(completion, self._request, index)
        if changed is not None:
            self._sink.finish(index, changed)


class Forgetful(Generator):
    def change(self, completion: Completion, request: GenerationRequest, place: int) -> Completion | None:
        return None if place == 2 else completion


class Trimming(Generator):
    def change(self, completion: Completion, request: GenerationRequest, place: int) -> Completion:
        return replace(completion, text=completion.text.rstrip())


class Guessing(Generator):
    def change(self, completion: Completion, request: GenerationRequest, place: int) -> Completion:
        return replace(completion, finish=Finish.LENGTH)


class Overlong(Generator):
    def change(self, completion: Completion, request: GenerationRequest, place: int) -> Completion:
        more = request.max_tokens + 1 - completion.tokens
        ids = completion.token_ids
        assert ids is not None
        assert completion.logprobs is not None
        return Completion(
            completion.text, completion.finish, request.max_tokens + 1, ids + ids[:1] * more, completion.logprobs * 99
        )


class Drifting(Generator):
    def change(self, completion: Completion, request: GenerationRequest, place: int) -> Completion:
        same = replace(completion, text=f"{len(self.calls)}{completion.text}")
        return completion if completion.finish is Finish.LENGTH else same


class Wordless(Generator):
    def change(self, completion: Completion, request: GenerationRequest, place: int) -> Completion:
        return replace(completion, token_ids=None)


class Certain(Generator):
    def change(self, completion: Completion, request: GenerationRequest, place: int) -> Completion:
        assert completion.logprobs is not None
        for index in range(len(completion.logprobs)):
            completion.logprobs[index] = 0.5
        return completion


BROKEN = {"G1": Forgetful, "G2": Trimming, "G3": Guessing, "G4": Overlong, "G5": Drifting, "G8": Wordless}


@pytest.mark.parametrize("schedule", [at_once, shuffled(1)], ids=["at once", "shuffled"])
async def test_a_generator_that_keeps_its_clauses_passes(schedule: object) -> None:
    await check_generator(lambda: ScriptedGenerator(tree_script(), schedule))  # type: ignore[arg-type]
    plain = replace(GENERATES, token_ids=False, logprobs=False, seeds=False)
    await check_generator(lambda: ScriptedGenerator(tree_script(), schedule, able=plain))  # type: ignore[arg-type]


@pytest.mark.parametrize("clause", BROKEN)
async def test_a_generator_that_breaks_a_clause_is_told_which(clause: str) -> None:
    made: list[ScriptedGenerator] = []

    def make() -> ScriptedGenerator:
        made.append(BROKEN[clause](tree_script(), shuffled(1)))
        return made[0]

    with pytest.raises(LawBroken) as broken:
        await check_generator(make, max_tokens=48)
    assert broken.value.law == clause
    assert made[0].closed


async def test_a_log_probability_above_zero_is_found() -> None:
    with pytest.raises(LawBroken, match="G8: a log-probability above zero"):
        await check_generator(lambda: Certain(tree_script()))


class Scorer:
    """Two classes by a hash of the tokens so far."""

    def __init__(self, *, classes: int = 2, total: float = 1.0, beside: float = 0.0, rows: int | None = None) -> None:
        self.capabilities = ScorerCapabilities(name="hash", classes=classes)
        self.closed = False
        self._total = total
        self._beside = beside
        self._rows = rows

    async def encode(self, messages: Sequence[Message]) -> Sequence[int]:
        return [ord(letter) for message in messages for letter in message.content]

    async def tokenize(self, text: str) -> Sequence[int]:
        return list(map(ord, text))

    async def probabilities(
        self,
        sequences: Sequence[Sequence[int]],
        positions: Sequence[Sequence[int]],
        *,
        labels: Sequence[int] | None = None,
    ) -> list[list[list[float]]]:
        shift = self._beside * len(sequences)
        return [
            [self._row(sequence[: place + 1], shift) for place in places[: self._rows]]
            for sequence, places in zip(sequences, positions, strict=True)
        ]

    def _row(self, tokens: Sequence[int], shift: float) -> list[float]:
        good = sum(tokens) % 89 / 100 + shift
        return [good, self._total - good]

    async def aclose(self) -> None:
        self.closed = True


async def test_a_scorer_is_held_to_its_clauses() -> None:
    await check_scorer(Scorer)
    for scorer, law in (
        (Scorer(rows=1), "S1"), (Scorer(classes=3), "S1"), (Scorer(total=1.5), "S1"), (Scorer(beside=0.01), "S2"),
    ):  # fmt: skip
        with pytest.raises(LawBroken) as broken:
            await check_scorer(lambda given=scorer: given)  # type: ignore[misc]
        assert broken.value.law == law
        assert scorer.closed


class Moody(ScriptedVerifier):
    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        return [PathScore([value / len(paths) for value in reply.values]) for reply in await super().score(paths)]


class Hindsight(ScriptedVerifier):
    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        replies = await super().score(paths)
        return [PathScore([value / len(reply.values) for value in reply.values]) for reply in replies]


UNTRUE: dict[str, ScriptedVerifier] = {
    "V1": ScriptedVerifier(spoil=lambda replies: replies[:-1]),
    "V2": ScriptedVerifier(spoil=lambda replies: [PathScore([*reply.values, 0.5]) for reply in replies]),
    "V3": ScriptedVerifier(spoil=lambda replies: [PathScore([math.nan] * len(reply.values)) for reply in replies]),
    "V4": Moody(),
    "V4 with hindsight": Hindsight(),
}


@pytest.mark.parametrize("able", [JUDGES, replace(JUDGES, steps=False), replace(JUDGES, partial=False)])
async def test_a_verifier_that_keeps_its_clauses_passes(able: object) -> None:
    await check_verifier(lambda: ScriptedVerifier(able=able))  # type: ignore[arg-type]


@pytest.mark.parametrize("clause", UNTRUE)
async def test_a_verifier_that_breaks_a_clause_is_told_which(clause: str) -> None:
    with pytest.raises(LawBroken) as broken:
        await check_verifier(lambda: UNTRUE[clause])
    assert broken.value.law == clause[:2]
