"""Comparisons: both orders, rankings and winners, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import tts
from tests.verifiers.label_scorer import LABELS, QUESTION, READS, FakeScorer
from tts.errors import NeedsError, ParameterError, ScoreCountError
from tts.fakes import GENERATES, ScriptedGenerator
from tts.protocols import Verifier
from tts.strategies.self_consistency import SelfConsistency
from tts.verifiers.pairwise import Pairwise, best, rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.types import Message


def shown_first(text: str) -> str:
    return text.partition("Solution A:\n")[2].partition("\n\nSolution B:")[0]


class Numbers:
    """Takes the greater number for the better one, and is the surer the farther they are apart."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def compare(self, messages: Sequence[Message], first: str, second: str) -> float:
        self.asked.append((first, second))
        return 0.5 + (int(first) - int(second)) / 20


async def test_it_asks_in_both_orders_and_takes_the_mean() -> None:
    scorer = FakeScorer(lambda text: {"good": 0.9, "bad": 0.3}[shown_first(text)])
    judge = Pairwise(scorer)
    assert await judge.compare(QUESTION, "good", "bad") == pytest.approx((0.9 + 0.7) / 2)
    assert await judge.compare(QUESTION, "bad", "good") == pytest.approx((0.3 + 0.1) / 2)
    assert scorer.asked[0] == (LABELS[" A"], LABELS[" B"])
    assert scorer.seen[0].endswith("[assistant]Better solution:")
    assert (judge.calls, judge.tokens) == (4, sum(map(len, scorer.seen)))


async def test_a_judge_that_prefers_a_place_says_nothing() -> None:
    assert await Pairwise(FakeScorer(lambda text: 0.95)).compare(QUESTION, "good", "bad") == pytest.approx(0.5)


@pytest.mark.parametrize("chance", [0.0, 1e-16, 0.1, 0.17, 0.7, 0.9999999999999999, 1.0])
async def test_equal_texts_get_a_half_and_the_first_of_them_wins(chance: float) -> None:
    judge = Pairwise(FakeScorer(lambda text: chance))
    assert await judge.compare(QUESTION, "good", "good") == 0.5
    assert await best(judge, QUESTION, ["good", "good"], "knockout") == 0


async def test_a_question_that_fails_was_asked_all_the_same() -> None:
    judge = Pairwise(FakeScorer(lost=1))
    with pytest.raises(ScoreCountError):
        await judge.compare(QUESTION, "good", "bad")
    assert judge.calls == 2 and judge.tokens > 0


async def test_all_are_ranked_by_their_mean_against_the_others() -> None:
    comparer = Numbers()
    assert await rank(comparer, QUESTION, ["1", "5", "3"]) == pytest.approx([0.35, 0.65, 0.5])
    assert sorted(comparer.asked) == [("1", "3"), ("1", "5"), ("5", "3")]


@pytest.mark.parametrize("texts", [["1", "5", "3"], ["5", "1"], ["2"], ["3", "1", "4", "1", "5", "9", "2"], ["7", "7"]])
async def test_both_rules_find_the_best_and_of_equal_ones_the_first(texts: list[str]) -> None:
    wanted = texts.index(max(texts))
    comparer = Numbers()
    assert await best(comparer, QUESTION, texts, "knockout") == wanted
    assert len(comparer.asked) == len(texts) - 1
    assert await best(Numbers(), QUESTION, texts) == wanted


async def test_what_cannot_be_compared_is_refused_before_anything_is_sent() -> None:
    scorer = FakeScorer()
    judge = Pairwise(scorer)
    with pytest.raises(ParameterError, match="the second of two solutions says nothing"):
        await judge.compare(QUESTION, "good", " ")
    with pytest.raises(ParameterError, match=r"that begin 'good' and 'aaa.*more than the 8192 that judge"):
        await judge.compare(QUESTION, "good", "a" * 8192)
    with pytest.raises(ParameterError, match="there are no solutions"):
        await best(judge, QUESTION, [])
    with pytest.raises(ParameterError, match="1 solutions cannot be ranked"):
        await rank(judge, QUESTION, ["good"])
    with pytest.raises(ParameterError, match="rule is 'swiss'"):
        await best(judge, QUESTION, ["good", "bad"], "swiss")  # type: ignore[arg-type]
    assert scorer.rounds == 0


async def test_a_scorer_that_loses_a_row_is_refused() -> None:
    with pytest.raises(ScoreCountError, match="asked for two labels after each of 2 texts"):
        await Pairwise(FakeScorer(lost=1)).compare(QUESTION, "good", "bad")


async def test_a_model_without_labels_is_refused_at_the_start() -> None:
    with pytest.raises(NeedsError, match="none of labels"):
        await Pairwise(FakeScorer(able=replace(READS, labels=False))).connect()


async def test_it_chooses_among_the_candidates_of_an_outcome() -> None:
    generator = ScriptedGenerator(lambda text, seed: f"So it is \\boxed{{{56 + seed % 3}}}", able=GENERATES)
    outcome = await tts.solve("What is 7 times 8?", strategy=SelfConsistency(n=3), generator=generator)
    texts = [candidate.text for candidate in outcome.candidates if candidate.answer is not None]
    judge = Pairwise(FakeScorer(lambda text: 0.9 if "57" in shown_first(text) else 0.2))
    await judge.connect()
    assert texts[await best(judge, QUESTION, texts)] == "So it is \\boxed{57}"
    assert judge.calls == 6


async def test_it_is_no_verifier_and_releases_its_scorer() -> None:
    scorer = FakeScorer()
    judge = Pairwise(scorer)
    assert not isinstance(judge, Verifier)
    await judge.aclose()
    assert scorer.closed
