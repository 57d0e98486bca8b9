"""The process reward verifier: where it reads, what it refuses, and that it takes whatever a model writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tts.errors import ScoreCountError
from tts.protocols import Path, ScorerCapabilities
from tts.types import Message
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Sequence

QUESTION = (Message(role="user", content="Use 3, 5, 7, 2 to make 24."),)


class PlaceScorer:
    """A token a character; the good class's probability is the position over 100."""

    capabilities = ScorerCapabilities(name="place")

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost

    async def encode(self, messages: Sequence[Message]) -> Sequence[int]:
        return [0] * 10

    async def tokenize(self, text: str) -> Sequence[int]:
        return list(map(ord, text))

    async def probabilities(
        self, sequences: Sequence[Sequence[int]], positions: Sequence[Sequence[int]], *, labels: object = None
    ) -> list[list[list[float]]]:
        rows = [[[1 - place / 100, place / 100] for place in places] for places in positions]
        return [row[self.lost :] for row in rows]

    async def aclose(self) -> None:
        """Nothing."""


async def test_each_step_is_read_at_its_last_token() -> None:
    verifier = ProcessReward(PlaceScorer())
    replies = await verifier.score([Path(QUESTION, ("ab\n\n", "c\n\n"), False), Path(QUESTION, ("abcd",), True)])
    assert [list(reply.values) for reply in replies] == [pytest.approx([0.13, 0.16]), pytest.approx([0.13])]
    assert [reply.tokens for reply in replies] == [17, 14]


async def test_the_good_class_can_be_the_other_one() -> None:
    verifier = ProcessReward(PlaceScorer(), good=0)
    assert list((await verifier.score([Path(QUESTION, ("ab",), True)]))[0].values) == pytest.approx([0.89])


async def test_a_scorer_that_loses_rows_is_refused() -> None:
    with pytest.raises(ScoreCountError):
        await ProcessReward(PlaceScorer(lost=1)).score([Path(QUESTION, ("ab", "c"), True)])


@pytest.mark.engine
async def test_text_that_the_tokenizer_cannot_read_back_is_scored_all_the_same() -> None:
    from tts.registry import verifier

    judge = verifier("embedded")
    try:
        # The policy can write two numbers with nothing between them, which read back as one that no token stands for.
        replies = await judge.score([Path(QUESTION, ("28136 + 3 = 5 (left: 5)\n\n",), False)])
    finally:
        await judge.aclose()
    assert 0 <= replies[0].values[0] <= 1
