"""Best-of-N, self-consistency and first-finish on answers written by hand."""

from __future__ import annotations

from typing import Any

import pytest

import tts
from tts.protocols import SEED_BLOCK
from tts.testing import ScriptedGenerator, ScriptedVerifier, shuffled

ANSWERS = ["2", "1", "1", "2/1", "1", "unreadable"]
SCORES = {"2": 0.9, "1": 0.4, "2/1": 0.2, "unreadable": 0.95}


def say(path: str, seed: int) -> str:
    """The j-th answer, each a little longer than the one before."""
    place = seed % SEED_BLOCK % len(ANSWERS)
    answer = ANSWERS[place]
    return "." * place + ("no box" if answer == "unreadable" else f"\\boxed{{{answer}}}")


def value(text: str) -> float:
    """The answer's score."""
    return next((SCORES[a] for a in ("2/1", "2", "1") if f"{{{a}}}" in text), SCORES["unreadable"])


def search(name: str, **parameters: Any) -> tts.Outcome:
    """Run a strategy on the six answers."""
    return tts.solve_sync(
        "?",
        strategy=tts.strategy(name, **parameters),
        generator=ScriptedGenerator(say, schedule=shuffled(1)),
        verifier=ScriptedVerifier(value=value),
    )


def test_best_of_n_takes_the_best_scored_that_has_an_answer() -> None:
    outcome = search("best_of_n", n=6)
    assert outcome.answer == "2"
    assert outcome.candidates[0].score == 0.9
    assert [candidate.answer for candidate in outcome.candidates][-1] is None


def test_weighted_best_of_n_sums_over_equal_answers() -> None:
    outcome = search("best_of_n", n=6, selection="weighted")
    assert outcome.answer == "1"
    assert outcome.candidates[0].votes == pytest.approx(1.2)
    assert search("best_of_n", n=4, selection="weighted").answer == "2"


def test_self_consistency_groups_equal_answers_and_ignores_the_unreadable() -> None:
    outcome = search("self_consistency", n=6)
    assert outcome.answer == "1"
    assert [candidate.votes for candidate in outcome.candidates] == [3, 3, 3, 2, 2, None]
    assert outcome.support == pytest.approx(3 / 5)


def test_a_tie_goes_to_the_answer_seen_first() -> None:
    assert search("self_consistency", n=4).answer == "2"


def test_likelihood_and_score_weigh_votes() -> None:
    assert search("self_consistency", n=6, weights="score").answer == "1"
    assert search("self_consistency", n=6, weights="likelihood").answer is not None


def test_unanimous_answers_stop_at_four() -> None:
    outcome = tts.solve_sync(
        "?",
        strategy=tts.strategy("self_consistency", n=32, stopping="beta"),
        generator=ScriptedGenerator(lambda path, seed: "." * (seed % SEED_BLOCK) + "\\boxed{7}", schedule=shuffled(2)),
    )
    assert outcome.answer == "7"
    assert sum(candidate.votes is not None for candidate in outcome.candidates) == 4
    assert outcome.usage.cancelled + outcome.usage.discarded > 0


def test_first_finish_takes_the_shortest() -> None:
    outcome = search("first_finish", n=6)
    assert outcome.answer == "2"
    assert len([candidate for candidate in outcome.candidates if candidate.votes]) == 1


def test_first_three_vote() -> None:
    outcome = search("first_finish", n=6, k=3)
    assert outcome.answer == "1"


def test_last_finish_takes_the_longest() -> None:
    outcome = search("first_finish", n=5, k=1, which="last")
    assert outcome.answer == "2/1"
    assert outcome.usage.cancelled == 0
    assert search("first_finish", n=5, k=3, which="last").answer == "1"


def test_a_truncated_trace_has_not_finished() -> None:
    outcome = tts.solve_sync(
        "?",
        strategy=tts.strategy("first_finish", n=4),
        generator=ScriptedGenerator(lambda path, seed: "x" * 99 if seed % SEED_BLOCK else "a long one \\boxed{3}"),
        sampling=tts.Sampling(max_tokens=25),
    )
    assert outcome.answer == "3"


def test_without_a_readable_trace_there_is_no_answer() -> None:
    outcome = tts.solve_sync(
        "?", strategy="first_finish", generator=ScriptedGenerator(lambda path, seed: "no box here")
    )
    assert outcome.answer is None
    assert outcome.ended == "no_answer"
    assert len(outcome.candidates) == 8
