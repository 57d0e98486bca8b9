"""The process reward verifier: where it reads, what it refuses, and that it takes whatever a model writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tts.capabilities import ScorerCapabilities
from tts.errors import NeedsError, ParameterError, ProblemError, ScoreCountError
from tts.protocols import Path
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
        self.asked = labels
        rows = [[[1 - place / 100, place / 100] for place in places] for places in positions]
        return [row[self.lost :] for row in rows]

    async def aclose(self) -> None:
        """Nothing."""


class SlowScorer(PlaceScorer):
    """Says what tokens a text has once it has been asked for so many texts."""

    def __init__(self, texts: int) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._wanted = texts
        self._all = anyio.Event()

    async def tokenize(self, text: str) -> Sequence[int]:
        self.texts.append(text)
        if len(self.texts) == self._wanted:
            self._all.set()
        await self._all.wait()
        if text == "x":
            raise ProblemError("there is no 'x' here")
        return await super().tokenize(text)


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


async def test_each_text_is_looked_up_once_and_all_at_a_time() -> None:
    scorer = SlowScorer(texts=3)
    paths = [Path(QUESTION, steps, False) for steps in (("a", "b"), ("a", "c"), ("a", "b", "c"))]
    with anyio.fail_after(10):
        replies = await ProcessReward(scorer).score(paths)
    assert sorted(scorer.texts) == ["a", "b", "c"]
    assert [list(reply.values) for reply in replies] == [
        pytest.approx(values) for values in ([0.10, 0.11], [0.10, 0.11], [0.10, 0.11, 0.12])
    ]


class LocalScorer(PlaceScorer):
    """Answers at once, and notes in which task each text was asked for."""

    capabilities = ScorerCapabilities(name="local", local=True)

    def __init__(self) -> None:
        super().__init__()
        self.asked_in: list[tuple[str, int]] = []

    async def tokenize(self, text: str) -> Sequence[int]:
        self.asked_in.append((text, anyio.get_current_task().id))
        return await super().tokenize(text)


async def test_a_scorer_in_this_process_is_asked_in_the_caller_s_own_task() -> None:
    scorer, here = LocalScorer(), anyio.get_current_task().id
    await ProcessReward(scorer).score([Path(QUESTION, ("a", "b"), False), Path(QUESTION, ("a", "c"), False)])
    assert scorer.asked_in == [("a", here), ("b", here), ("c", here)]


async def test_an_error_of_the_tokenizer_comes_as_itself() -> None:
    with pytest.raises(ProblemError, match="no 'x' here"):
        await ProcessReward(SlowScorer(texts=2)).score([Path(QUESTION, ("x", "b"), False)])


async def test_a_mark_stands_for_the_whitespace_that_ends_a_step() -> None:
    verifier = ProcessReward(PlaceScorer(), mark="#")
    assert verifier.capabilities.fingerprint["mark"] == "#"
    (reply,) = await verifier.score([Path(QUESTION, ("ab\n\n", "c"), False)])
    assert list(reply.values) == pytest.approx([0.12, 0.14])


async def test_labels_are_asked_for_as_tokens() -> None:
    scorer = PlaceScorer()
    verifier = ProcessReward(scorer, good=0, labels=["+", 7])
    await verifier.score([Path(QUESTION, ("ab",), False)])
    assert scorer.asked == (ord("+"), 7)
    with pytest.raises(ParameterError, match="'no' is 2 tokens"):
        await ProcessReward(scorer, labels=["no", 1]).score([Path(QUESTION, ("ab",), False)])
    with pytest.raises(NeedsError, match="leave labels="):
        await verifier.connect()


async def test_the_first_label_is_the_good_one() -> None:
    (reply,) = await ProcessReward(PlaceScorer(), labels=["+", "-"]).score([Path(QUESTION, ("ab",), False)])
    assert list(reply.values) == pytest.approx([0.89])


async def test_labels_that_are_one_token_are_refused() -> None:
    with pytest.raises(ParameterError, match="the model cannot tell them apart"):
        await ProcessReward(PlaceScorer(), labels=["+", ord("+")]).score([Path(QUESTION, ("ab",), False)])


async def test_a_language_model_without_labels_is_refused() -> None:
    scorer = PlaceScorer()
    scorer.capabilities = ScorerCapabilities(name="place", classes=0, labels=True)
    with pytest.raises(NeedsError, match="a language model, which gives no classes: give labels"):
        await ProcessReward(scorer).connect()


async def test_a_class_that_is_not_there_is_refused_at_the_start() -> None:
    with pytest.raises(ParameterError, match="good=2, but place tells 2 classes apart"):
        await ProcessReward(PlaceScorer(), good=2).connect()


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
