"""Scores from real servers in numbers: 200 prefixes against the embedded engine, tokens sampled, refusals in a list."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.vllm.served import CONTEXT, Server, settled
from tts.backends.embedded import EmbeddedScorer
from tts.backends.vllm_scorer import VLLMScorer
from tts.errors import NeedsError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.protocols import Scorer

CLOSE = 1e-5
"""How far two engines may lie apart in single precision; 2.4e-6 was measured."""
LABELS = (5, 16, 18)
KNOWN = 900
"""Token ids below this stand for numbers."""


def drawn(count: int) -> tuple[list[list[int]], list[list[int]]]:
    """Sequences of any tokens, each with four positions."""
    random = Random(0)
    sequences = [[random.randrange(3, KNOWN) for _ in range(random.randrange(5, CONTEXT - 1))] for _ in range(count)]
    return sequences, [sorted(random.sample(range(len(sequence)), 4)) for sequence in sequences]


async def farthest(one: Scorer, other: Scorer, labels: Sequence[int] | None) -> float:
    """Return by how much two scorers differ, at most, over 200 prefixes."""
    sequences, positions = drawn(50)
    here = await one.probabilities(sequences, positions, labels=labels)
    there = await other.probabilities(sequences, positions, labels=labels)
    pairs = [pair for rows in zip(here, there, strict=True) for pair in zip(*rows, strict=True)]
    assert len(pairs) == 200
    return max(abs(a - b) for row in pairs for a, b in zip(*row, strict=True))


@pytest.mark.parametrize("form", ["prm", "prm_of_every_token"])
async def test_classes_are_those_of_the_embedded_engine(form: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(form)
    scorer = VLLMScorer(server.url)
    await scorer.connect()
    assert await farthest(EmbeddedScorer(), scorer, None) < CLOSE
    assert scorer.sent == (200 if form == "prm" else 50)
    with pytest.raises(NeedsError, match="takes no labels"):
        await scorer.probabilities([[5]], [[0]], labels=LABELS)
    await scorer.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_labels_are_those_of_the_embedded_engine_at_a_token_a_verdict(policy: Server) -> None:
    before = await settled(policy)
    scorer = VLLMScorer(policy.url)
    await scorer.connect()
    assert (await settled(policy)).generated == before.generated
    assert await farthest(EmbeddedScorer("arithmetic-policy"), scorer, LABELS) < CLOSE
    assert (await settled(policy)).generated - before.generated == scorer.sent == 200
    with pytest.raises(NeedsError, match="--runner pooling"):
        await scorer.probabilities([[5]], [[0]])
    await scorer.aclose()


async def test_a_token_that_the_model_lacks_fails_its_own_sequence_alone(prm: Server) -> None:
    scorer = VLLMScorer(prm.url)
    await scorer.connect()
    ends: dict[int, object] = {}

    async def ask(token: int) -> None:
        try:
            ends[token] = len(await scorer.probabilities([[7, token]], [[1]]))
        except ParameterError as error:
            ends[token] = str(error)

    async with anyio.create_task_group() as tasks:
        for token in (8, 99_999, 9):
            tasks.start_soon(ask, token)
    assert "99999 is out of vocabulary" in str(ends.pop(99_999))
    assert ends == {8: 1, 9: 1}
    with pytest.raises(ParameterError, match=f"{CONTEXT + 1} tokens are more than the {CONTEXT}"):
        await scorer.probabilities([[7] * (CONTEXT + 1)], [[CONTEXT]])
    await scorer.aclose()
