"""Outcome rewards: the map to [0, 1] is chosen out loud, and nothing else comes out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tts.capabilities import ScorerCapabilities
from tts.errors import NeedsError, ParameterError, ScoreCountError, ScoreValueError, VerifierError
from tts.protocols import Path
from tts.testing import check_verifier
from tts.types import Message
from tts.verifiers.outcome_reward import OutcomeReward

if TYPE_CHECKING:
    from collections.abc import Sequence

QUESTION = (Message(role="user", content="1+1?"),)


class Rewards:
    """A token a character; says the same row of every path, and notes what it read."""

    def __init__(self, *row: float, raw: bool = False, classes: int | None = None, rows: int = 1) -> None:
        self.capabilities = ScorerCapabilities(
            name="rewards",
            classes=len(row) if classes is None else classes,
            fingerprint={"activation": "none"} if raw else {},
        )
        self.read: list[tuple[str, Sequence[int]]] = []
        self._rows = [list(row)] * rows

    async def encode(self, messages: Sequence[Message]) -> Sequence[int]:
        return [ord(">")]

    async def tokenize(self, text: str) -> Sequence[int]:
        return list(map(ord, text))

    async def probabilities(
        self, sequences: Sequence[Sequence[int]], positions: Sequence[Sequence[int]], *, labels: object = None
    ) -> list[list[list[float]]]:
        self.read += [("".join(map(chr, ids)), places) for ids, places in zip(sequences, positions, strict=True)]
        return [self._rows for _ in sequences]

    async def aclose(self) -> None:
        """Nothing."""


async def score(scorer: Rewards, *, finished: bool = True, **options: Any) -> float:
    verifier = OutcomeReward(scorer, **options)
    await verifier.connect()
    (reply,) = await verifier.score([Path(QUESTION, ("a\n\n", "b"), finished)])
    assert len(reply.values) == 1
    return reply.values[0]


@pytest.mark.parametrize(
    ("reward", "map", "expected"),
    [
        (0.0, "sigmoid", 0.5),
        (2.0, "sigmoid", 1 / (1 + math.exp(-2))),
        (-2.0, "sigmoid", 1 / (1 + math.exp(2))),
        (-1e6, "sigmoid", 0.0),
        (1e6, "sigmoid", 1.0),
        (1.0, (-4.0, 6.0), 0.5),
        (-5.0, (-4.0, 6.0), 0.0),
        (7.0, (-4.0, 6.0), 1.0),
        (0.25, "clip", 0.25),
        (-0.25, "clip", 0.0),
        (1.25, "clip", 1.0),
    ],
)
async def test_a_raw_reward_is_mapped_as_was_said(reward: float, map: Any, expected: float) -> None:
    assert await score(Rewards(reward, raw=True), map=map) == pytest.approx(expected)


async def test_a_single_probability_is_taken_as_it_is() -> None:
    assert await score(Rewards(0.7), map="sigmoid") == pytest.approx(0.7)


async def test_one_of_several_classes_is_the_good_one() -> None:
    assert await score(Rewards(0.2, 0.7, 0.1)) == pytest.approx(0.7)
    assert await score(Rewards(0.2, 0.7, 0.1), map="softmax", good=2) == pytest.approx(0.1)


async def test_the_whole_path_and_what_ends_it_is_read_at_its_last_token() -> None:
    scorer = Rewards(0.2, 0.8)
    verifier = OutcomeReward(scorer, ending="<e>")
    (reply,) = await verifier.score([Path(QUESTION, ("a\n\n", "b"), True)])
    assert scorer.read == [(">a\n\nb<e>", [7])] and reply.tokens == 8


@pytest.mark.parametrize(
    ("scorer", "options", "error", "said"),
    [
        (Rewards(0.3), {}, ParameterError, "has a single output, a reward: say how it becomes a score"),
        (Rewards(0.3, raw=True), {"map": "softmax"}, ParameterError, "map='softmax', but rewards has a single output"),
        (Rewards(0.3), {"map": (0.0, 1.0)}, NeedsError, "needs raw rewards"),
        (Rewards(0.3), {"map": "clip"}, NeedsError, "map='sigmoid', or a scorer with activation='none'"),
        (Rewards(0.3, 0.7), {"map": "sigmoid"}, ParameterError, "is for a single output; rewards has 2"),
        (Rewards(0.3, 0.7), {"good": 2}, ParameterError, "good=2, but rewards tells 2 classes apart"),
        (Rewards(classes=0), {}, NeedsError, "a language model, which gives no classes"),
    ],
)
async def test_a_map_that_does_not_fit_the_model_is_refused_before_anything_is_read(
    scorer: Rewards, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        await OutcomeReward(scorer, **options).connect()
    with pytest.raises(error, match=said):
        await OutcomeReward(scorer, **options).score([Path(QUESTION, ("a",), True)])
    assert scorer.read == []


@pytest.mark.parametrize("map", [(1.0, 0.0), (0.0, math.inf), (0.0,), "linear", (math.nan, 1.0)])
def test_bounds_that_are_none_are_refused(map: Any) -> None:
    with pytest.raises(ParameterError, match="map="):
        OutcomeReward(Rewards(0.3, raw=True), map=map)


async def test_what_is_no_reward_is_an_error() -> None:
    with pytest.raises(ScoreValueError, match="no finite number"):
        await score(Rewards(math.nan, raw=True), map="clip")
    with pytest.raises(ScoreCountError, match="is not one number for each of 2"):
        await score(Rewards(0.3, classes=2))
    with pytest.raises(ScoreCountError, match="another number of rows than paths"):
        await score(Rewards(0.3, 0.7, rows=2))


async def test_a_path_beyond_the_context_is_refused_before_anything_is_read() -> None:
    scorer = Rewards(0.3, 0.7)
    scorer.capabilities = replace(scorer.capabilities, context=5)
    verifier = OutcomeReward(scorer, ending="<e>")
    assert len(await verifier.score([Path(QUESTION, ("a",), True)])) == 1
    said = r"path 1 of 2: 6 tokens are more than the 5 that rewards holds: lower max_tokens"
    with pytest.raises(ParameterError, match=said):
        await verifier.score([Path(QUESTION, ("a",), True), Path(QUESTION, ("ab",), True)])
    assert len(scorer.read) == 1


async def test_unfinished_paths_are_judged_where_that_was_asked_for() -> None:
    assert not OutcomeReward(Rewards(0.3, 0.7)).capabilities.partial
    with pytest.raises(VerifierError, match="path 0 of 1 has not finished; partial=True"):
        await score(Rewards(0.3, 0.7), finished=False)
    assert OutcomeReward(Rewards(0.3, 0.7), partial=True).capabilities.partial
    assert await score(Rewards(0.3, 0.7), finished=False, partial=True) == pytest.approx(0.7)


async def test_paths_are_tokenized_at_the_same_time() -> None:
    class Slow(Rewards):
        """Says what tokens a text has once it has been asked for three."""

        def __init__(self) -> None:
            super().__init__(0.3, 0.7)
            self._asked = 0
            self._all = anyio.Event()

        async def tokenize(self, text: str) -> Sequence[int]:
            self._asked += 1
            if self._asked == 3:
                self._all.set()
            await self._all.wait()
            return await super().tokenize(text)

    scorer = Slow()
    with anyio.fail_after(10):
        replies = await OutcomeReward(scorer).score([Path(QUESTION, (text,), True) for text in ("a", "bc", "a")])
    assert [text for text, _ in scorer.read] == [">a", ">bc", ">a"] and [reply.tokens for reply in replies] == [2, 3, 2]


@pytest.mark.parametrize("steps", [(), ("",)])
async def test_a_path_that_says_nothing_is_refused(steps: tuple[str, ...]) -> None:
    with pytest.raises(VerifierError, match="path 0 of 1 says nothing"):
        await OutcomeReward(Rewards(0.3, 0.7)).score([Path(QUESTION, steps, True)])


def test_results_say_which_map_it_was() -> None:
    able = OutcomeReward(Rewards(0.3, raw=True), map=(-4.0, 6.0), ending="<e>").capabilities
    assert {name: able.fingerprint[name] for name in ("map", "ending")} == {"map": "-4.0 to 6.0", "ending": "<e>"}
    assert able.name == "outcome_reward(rewards)" and not able.steps


async def test_the_clauses_are_kept() -> None:
    await check_verifier(lambda: OutcomeReward(Rewards(0.3, 0.7)))
    await check_verifier(lambda: OutcomeReward(Rewards(0.3, raw=True), map="clip", partial=True))
