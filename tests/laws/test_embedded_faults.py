"""Laws 5, 7 and 8 on the real engine: broken scores, faults on the way, and what votes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

import tts
from tts import registry
from tts.backends.embedded import EmbeddedGenerator, EmbeddedScorer
from tts.errors import TransientError, VerifierError
from tts.fakes import FakeClock
from tts.protocols import PathScore
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tts.protocols import GenerationRequest, Path, Sink

pytestmark = pytest.mark.engine
QUESTION = "Use 18, 11, 11, 30 to make 34."
STRATEGIES = ["best_of_n", "beam", "a_star", "particle_filter"]


@pytest.fixture
async def generator() -> AsyncIterator[EmbeddedGenerator]:
    engine = EmbeddedGenerator()
    yield engine
    await engine.aclose()


class Spoiled(ProcessReward):
    """The bundled reward model, whose third reply is broken."""

    def __init__(self, values: list[float]) -> None:
        super().__init__(EmbeddedScorer())
        self.values = values
        self.replies = 0

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        replies = await super().score(paths)
        for place in range(len(replies)):
            self.replies += 1
            if self.replies == 3:
                replies[place] = PathScore(self.values)
        return replies


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("values", [[], [math.nan] * 4, [2.0] * 4], ids=["none", "nan", "beyond one"])
async def test_law_5_a_broken_score_is_an_error(name: str, values: list[float], generator: EmbeddedGenerator) -> None:
    verifier = Spoiled(values)
    try:
        with pytest.raises(VerifierError) as caught:
            await tts.solve(QUESTION, strategy=name, generator=generator, verifier=verifier)
    finally:
        await verifier.aclose()
    outcome = caught.value.outcome
    assert outcome is not None and outcome.graph is not None
    assert outcome.usage.generated == sum(node.tokens for node in outcome.graph) > 0
    assert {node.score for node in outcome.graph}.isdisjoint({0.0, 2.0})


async def test_law_7_a_fault_on_the_way_is_tried_again_and_is_no_candidate(
    generator: EmbeddedGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    real = EmbeddedGenerator.generate

    async def shaky(self: EmbeddedGenerator, request: GenerationRequest, sink: Sink) -> None:
        nonlocal calls
        calls += 1
        await real(self, request, sink)
        if calls == 1:
            raise TransientError("the line went down")

    smooth = await tts.solve(QUESTION, strategy="self_consistency", generator=generator, seed=3)
    monkeypatch.setattr(EmbeddedGenerator, "generate", shaky)
    outcome = await tts.solve(QUESTION, strategy="self_consistency", generator=generator, seed=3, clock=FakeClock())
    assert outcome.answer == smooth.answer
    assert not any("line" in candidate.text for candidate in outcome.candidates)


async def test_law_8_equal_expressions_vote_together(generator: EmbeddedGenerator) -> None:
    outcome = await tts.solve(
        "Use 3, 5, 7, 2 to make 24.", strategy=tts.strategy("self_consistency", n=64), generator=generator
    )
    voters = [candidate for candidate in outcome.candidates if candidate.votes is not None]
    key = registry.task("countdown").reader.key
    votes = {key(candidate.answer or ""): candidate.votes for candidate in voters}
    assert len(votes) < len({candidate.answer for candidate in voters})
    assert sum(count or 0 for count in votes.values()) == len(voters)
