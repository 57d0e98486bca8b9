"""Noisy oracles: whose verdicts they turn over, how often, and the ceiling that their errors set."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tts import solve
from tts.checks import STEPS, check_verifier
from tts.errors import ParameterError, ScoreCountError, ScoreValueError, TransientError
from tts.fakes import JUDGES, ScriptedGenerator, ScriptedVerifier
from tts.protocols import Path, connect
from tts.seeds import derive, generator
from tts.strategies.best_of_n import BestOfN
from tts.types import Message
from tts.verifiers.exact import Exact
from tts.verifiers.oracle import NoisyOracle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.protocols import PathScore, Verifier

QUESTION = (Message(role="user", content="What is 7 times 8?"),)
PATHS = replace(JUDGES, name="words", steps=False, fingerprint={"seed": "a word"})


def right(text: str) -> bool:
    return text.strip().endswith("right")


def words(**more: object) -> ScriptedVerifier:
    """Say 1 of a path that ends in "right"."""
    return ScriptedVerifier(value=right, able=PATHS, **more)  # type: ignore[arg-type]


def words_of_steps() -> ScriptedVerifier:
    """Say 1 of each step that ends in "right"."""
    return ScriptedVerifier(value=right, able=JUDGES)


def noisy(
    verifier: Verifier | None = None, accept_right: float = 0.5, reject_wrong: float = 0.5, seed: int = 0
) -> NoisyOracle:
    return NoisyOracle(verifier or words(), accept_right=accept_right, reject_wrong=reject_wrong, seed=seed)


def finished(*texts: str) -> list[Path]:
    return [Path(QUESTION, (text,), True) for text in texts]


async def verdicts(verifier: Verifier, paths: Sequence[Path]) -> list[float]:
    return [value for score in await verifier.score(paths) for value in score.values]


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_a_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(ParameterError, match="accept_right="):
        noisy(accept_right=rate)
    with pytest.raises(ParameterError, match="reject_wrong="):
        noisy(reject_wrong=rate)


def test_capabilities_are_the_verifier_s_with_the_rates() -> None:
    able = noisy(accept_right=0.9, reject_wrong=0.75, seed=3).capabilities
    assert able.fingerprint == {"of.seed": "a word", "accept_right": 0.9, "reject_wrong": 0.75, "seed": 3}
    assert replace(able, fingerprint={}) == replace(PATHS, name="noisy(words)", fingerprint={})
    twice = noisy(noisy(seed=1), seed=2).capabilities
    assert (twice.fingerprint["of.seed"], twice.fingerprint["seed"]) == (1, 2)


async def test_it_costs_what_the_verifier_costs() -> None:
    (reply,) = await noisy(words(spoil=lambda replies: [replace(replies[0], tokens=40, calls=3)])).score(finished("?"))
    assert (reply.tokens, reply.calls) == (40, 3)


async def test_it_connects_and_closes_the_verifier() -> None:
    class Noting(ScriptedVerifier):
        noted = ""

        async def connect(self) -> None:
            self.noted += "connected "

        async def aclose(self) -> None:
            self.noted += "closed"

    verifier = Noting()
    judge = noisy(verifier)
    await connect(judge)
    await judge.aclose()
    assert verifier.noted == "connected closed"


async def test_what_is_no_verdict_is_an_error() -> None:
    with pytest.raises(ScoreValueError, match=r"noisy\(words\): path 1: value 0 is 0\.5; only verdicts of 0 or 1"):
        await noisy(ScriptedVerifier(value=lambda text: 0.5 * len(text), able=PATHS)).score(finished("ab", "a"))
    with pytest.raises(ScoreValueError, match=r"path 0: value 1 is nan"):
        spoilt = ScriptedVerifier(spoil=lambda replies: [replace(replies[0], values=[1, math.nan])])
        await noisy(spoilt).score([Path(QUESTION, ("a", "b"), True)])


async def test_another_number_of_verdicts_is_an_error() -> None:
    with pytest.raises(ScoreCountError, match=r"noisy\(words\): 2 paths, but 1 scores"):
        await noisy(words(spoil=lambda replies: replies[:1])).score(finished("a", "b"))
    for values in ([], [1.0, 1.0]):

        def spoil(replies: list[PathScore], values: Sequence[float] = values) -> list[PathScore]:
            return [replace(replies[0], values=values)]

        with pytest.raises(ScoreCountError, match=f"path 0: 1 verdicts are due, but there are {len(values)}"):
            await noisy(words(spoil=spoil)).score(finished("a"))


async def test_what_the_verifier_raises_comes_as_it_is() -> None:
    async def fail(call: int, tokens: int) -> None:
        raise TransientError("busy", began=False)

    with pytest.raises(TransientError, match="busy") as found:
        await noisy(words(schedule=fail)).score(finished("a"))
    assert not found.value.began


async def test_it_keeps_the_clauses() -> None:
    await check_verifier(noisy)
    for seed in range(8):
        await check_verifier(
            partial(noisy, words_of_steps(), accept_right=0.5, reject_wrong=0.5, seed=seed),
            steps=(*STEPS, " right", " wrong"),
        )


async def test_without_errors_and_with_nothing_but_errors_it_is_the_verifier_or_its_opposite() -> None:
    paths = finished(*(f"{place} {word}" for place in range(200) for word in ("right", "wrong")))
    truth = await verdicts(words(), paths)
    assert set(truth) == {0.0, 1.0}
    assert await verdicts(noisy(accept_right=1, reject_wrong=1), paths) == truth
    assert await verdicts(noisy(accept_right=0, reject_wrong=0), paths) == [1 - value for value in truth]


async def test_verdicts_hang_on_text_conversation_and_seed_alone() -> None:
    paths = finished(*(f"{place} right" for place in range(64)))
    oracle = noisy()
    said = await verdicts(oracle, paths)
    assert await verdicts(oracle, paths[::-1]) == said[::-1]
    assert await verdicts(noisy(), paths) == said
    in_steps = [Path(path.messages, tuple(path.steps[0]), True) for path in paths]
    assert await verdicts(oracle, in_steps) == said
    assert await verdicts(noisy(seed=1), paths) != said
    elsewhere = [Path((Message(role="user", content="What else?"),), path.steps, True) for path in paths]
    assert await verdicts(oracle, elsewhere) != said


async def test_each_step_errs_at_the_rates_and_for_itself() -> None:
    c, s, count = 0.9, 0.7, 4000
    oracle = noisy(words_of_steps(), c, s, seed=5)
    scores = await oracle.score([Path(QUESTION, (f"{place} right", " wrong"), False) for place in range(count)])
    first, second = zip(*(score.values for score in scores), strict=True)
    both = [one * other for one, other in zip(first, second, strict=True)]
    for seen, rate in ((first, c), (second, 1 - s), (both, c * (1 - s))):
        assert sum(seen) / count == pytest.approx(rate, abs=4 * deviation(rate, count))


def deviation(rate: float, count: float) -> float:
    """Return the standard error of a share of so many."""
    return math.sqrt(rate * (1 - rate) / count)


async def resample(c: float, s: float, r: float, tries: int, tasks: int) -> tuple[int, int]:
    """Return how many tasks got a right answer and how many none, drawing until one is accepted."""
    random = generator(7, c, s, r, tries)
    oracle = noisy(words(), c, s, seed=11)
    correct, waiting = 0, list(range(tasks))
    for attempt in range(tries):
        paths = finished(*(f"{task}.{attempt} {'right' if random.random() < r else 'wrong'}" for task in waiting))
        accepted = [value == 1.0 for value in await verdicts(oracle, paths)]
        correct += sum(yes and right(path.steps[0]) for yes, path in zip(accepted, paths, strict=True))
        waiting = [task for task, yes in zip(waiting, accepted, strict=True) if not yes]
    return correct, len(waiting)


@pytest.mark.parametrize("tries", [1, 2, 4, 40])
@pytest.mark.parametrize(("c", "s", "r"), [(1.0, 0.75, 0.3), (0.8, 0.9, 0.1), (0.6, 0.5, 0.7)])
async def test_resampling_until_one_is_accepted_meets_the_formulas(c: float, s: float, r: float, tries: int) -> None:
    tasks = 3000
    accepted_right, accepted_wrong = c * r, (1 - r) * (1 - s)
    rejected = 1 - accepted_right - accepted_wrong
    abstains = rejected**tries
    accuracy = accepted_right * (1 - abstains) / (1 - rejected)
    ceiling = accepted_right / (accepted_right + accepted_wrong)
    correct, unanswered = await resample(c, s, r, tries, tasks)
    answered = tasks - unanswered
    assert correct / tasks == pytest.approx(accuracy, abs=4 * deviation(accuracy, tasks))
    assert unanswered / tasks == pytest.approx(abstains, abs=4 * deviation(abstains, tasks) + 1 / tasks)
    assert correct / answered == pytest.approx(ceiling, abs=4 * deviation(ceiling, answered))


async def test_the_ceiling_of_the_paper_s_example_holds_however_many_are_drawn() -> None:
    tasks = 3000
    correct, unanswered = await resample(1.0, 0.75, 0.3, 60, tasks)
    assert unanswered == 0
    assert correct / tasks == pytest.approx(0.632, abs=4 * deviation(0.632, tasks))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("n", "expected"), [(1, 0.3), (3, 0.540), (16, 0.632)])
async def test_best_of_n_with_the_noisy_oracle_rises_to_the_ceiling_and_not_beyond(n: int, expected: float) -> None:
    """The paper's example by way of a search: 0.3 (1 - b^n) / (1 - b) with b = 0.7 * 0.75 rejected.

    Best-of-N does not abstain: where none is accepted it takes the first, which then is wrong, as all that is right is
    accepted. A perfect verifier would come to 0.997 with 16.
    """
    searches, r = 150, 0.3

    def say(path: str, seed: int) -> str:
        return f"{seed}: \\boxed{{{int(derive('policy', seed) < r * 2**62)}}}"

    def is_one(messages: Sequence[Message], answer: str) -> bool:
        return answer == "1"

    correct = 0
    for seed in range(searches):
        verifier = NoisyOracle(Exact(is_one), accept_right=1, reject_wrong=0.75, seed=seed)
        outcome = await solve(
            "What?", generator=ScriptedGenerator(say), verifier=verifier, strategy=BestOfN(n=n), seed=seed
        )
        correct += outcome.answer == "1"
    assert correct / searches == pytest.approx(expected, abs=4 * deviation(expected, searches))
