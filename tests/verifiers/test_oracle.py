"""Oracles: what they know, how often the noisy one errs, and the ceiling that its errors set."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tts import solve
from tts.checks import STEPS, check_verifier
from tts.errors import ParameterError, ScoreCountError, ScoreValueError, VerifierError
from tts.fakes import ScriptedGenerator, tree_script
from tts.protocols import Path
from tts.seeds import derive, generator
from tts.strategies.best_of_n import BestOfN
from tts.types import Message
from tts.verifiers.oracle import NoisyOracle, Oracle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

QUESTION = (Message(role="user", content="What is 7 times 8?"),)


def right(messages: Sequence[Message], text: str) -> bool:
    return text.endswith("right")


def each_right(messages: Sequence[Message], steps: Sequence[str]) -> list[bool]:
    return [step.strip().endswith("right") for step in steps]


def finished(*texts: str) -> list[Path]:
    return [Path(QUESTION, (text,), True) for text in texts]


async def verdicts(oracle: Oracle, paths: Sequence[Path]) -> list[float]:
    return [value for score in await oracle.score(paths) for value in score.values]


async def test_the_oracle_says_what_is_so_for_one_call_and_no_tokens() -> None:
    scores = await Oracle(right).score(finished("all right", "all wrong"))
    assert [(list(score.values), score.tokens, score.calls) for score in scores] == [([1.0], 0, 1), ([0.0], 0, 1)]


async def test_the_check_sees_the_conversation_and_the_whole_text() -> None:
    seen: list[tuple[object, str]] = []

    def look(messages: Sequence[Message], text: str) -> bool:
        seen.append((messages, text))
        return True

    await Oracle(look).score([Path(QUESTION, ("a\n\n", "b"), True)])
    assert seen == [(QUESTION, "a\n\nb")]


async def test_steps_are_labelled_one_by_one() -> None:
    oracle = Oracle(label_steps=each_right)
    assert oracle.capabilities.steps and oracle.capabilities.partial
    path = Path(QUESTION, ("right\n\n", "wrong\n\n", "right"), False)
    assert await verdicts(oracle, [path]) == [1.0, 0.0, 1.0]


async def test_what_cannot_be_judged_is_an_error() -> None:
    with pytest.raises(VerifierError, match="oracle: a path has not finished"):
        await Oracle(right).score([Path(QUESTION, ("right",), False)])
    for oracle in (Oracle(right), Oracle(label_steps=each_right)):
        with pytest.raises(VerifierError, match="without steps"):
            await oracle.score([Path(QUESTION, (), True)])
    with pytest.raises(ScoreValueError, match="label 0 is None; expected True or False"):
        await Oracle(lambda messages, text: None).score(finished("?"))  # type: ignore[arg-type, return-value]
    with pytest.raises(ScoreCountError, match="2 steps, but 1 labels"):
        await Oracle(label_steps=lambda messages, steps: [True]).score([Path(QUESTION, ("a", "b"), True)])


def test_an_oracle_has_one_rule() -> None:
    makes: list[Callable[[], Oracle]] = [
        Oracle,
        partial(Oracle, right, label_steps=each_right),
        partial(NoisyOracle, accept_right=1, reject_wrong=1),
    ]
    for make in makes:
        with pytest.raises(ParameterError, match=r"check=\.\.\. for whole paths or label_steps=\.\.\. for steps"):
            make()


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_a_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(ParameterError, match="accept_right="):
        NoisyOracle(right, accept_right=rate, reject_wrong=0.5)
    with pytest.raises(ParameterError, match="reject_wrong="):
        NoisyOracle(right, accept_right=0.5, reject_wrong=rate)


def test_capabilities_say_that_it_is_an_oracle_and_with_which_rates() -> None:
    able = NoisyOracle(right, accept_right=0.9, reject_wrong=0.75, seed=3).capabilities
    assert (able.name, able.steps, able.partial, able.calls) == ("noisy_oracle", False, False, 1)
    assert (able.dollars_per_token, able.flops_per_token) == (0.0, 0.0)
    assert able.fingerprint == {
        "oracle": True, "rule": "right", "accept_right": 0.9, "reject_wrong": 0.75, "seed": 3,
    }  # fmt: skip


async def test_all_of_them_keep_the_clauses() -> None:
    await check_verifier(lambda: Oracle(right))
    await check_verifier(lambda: Oracle(label_steps=each_right))
    await check_verifier(lambda: NoisyOracle(right, accept_right=0.5, reject_wrong=0.5))
    for seed in range(8):
        await check_verifier(
            partial(NoisyOracle, label_steps=each_right, accept_right=0.5, reject_wrong=0.5, seed=seed),
            steps=(*STEPS, " right", " wrong"),
        )


async def test_without_errors_and_with_nothing_but_errors_it_is_the_oracle_or_its_opposite() -> None:
    paths = finished(*(f"{place} {word}" for place in range(200) for word in ("right", "wrong")))
    truth = await verdicts(Oracle(right), paths)
    assert await verdicts(NoisyOracle(right, accept_right=1, reject_wrong=1), paths) == truth
    assert await verdicts(NoisyOracle(right, accept_right=0, reject_wrong=0), paths) == [1 - value for value in truth]


async def test_verdicts_hang_on_text_conversation_and_seed_alone() -> None:
    paths = finished(*(f"{place} right" for place in range(64)))
    oracle = NoisyOracle(right, accept_right=0.5, reject_wrong=0.5)
    said = await verdicts(oracle, paths)
    assert await verdicts(oracle, paths[::-1]) == said[::-1]
    assert await verdicts(NoisyOracle(right, accept_right=0.5, reject_wrong=0.5), paths) == said
    in_steps = [Path(path.messages, tuple(path.steps[0]), True) for path in paths]
    assert await verdicts(oracle, in_steps) == said
    assert await verdicts(NoisyOracle(right, accept_right=0.5, reject_wrong=0.5, seed=1), paths) != said
    elsewhere = [Path((Message(role="user", content="What else?"),), path.steps, True) for path in paths]
    assert await verdicts(oracle, elsewhere) != said


async def test_each_step_errs_at_the_rates_and_for_itself() -> None:
    c, s, count = 0.9, 0.7, 4000
    oracle = NoisyOracle(label_steps=each_right, accept_right=c, reject_wrong=s, seed=5)
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
    oracle = NoisyOracle(right, accept_right=c, reject_wrong=s, seed=11)
    correct, waiting = 0, list(range(tasks))
    for attempt in range(tries):
        paths = finished(*(f"{task}.{attempt} {'right' if random.random() < r else 'wrong'}" for task in waiting))
        accepted = [value == 1.0 for value in await verdicts(oracle, paths)]
        correct += sum(yes and right((), path.steps[0]) for yes, path in zip(accepted, paths, strict=True))
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

    def is_one(messages: Sequence[Message], text: str) -> bool:
        return text.endswith("{1}")

    correct = 0
    for seed in range(searches):
        verifier = NoisyOracle(is_one, accept_right=1, reject_wrong=0.75, seed=seed)
        outcome = await solve(
            "What?", generator=ScriptedGenerator(say), verifier=verifier, strategy=BestOfN(n=n), seed=seed
        )
        correct += outcome.answer == "1"
    assert correct / searches == pytest.approx(expected, abs=4 * deviation(expected, searches))


async def test_a_search_with_an_oracle_finds_what_is_right_wherever_it_was_drawn() -> None:
    def two(messages: Sequence[Message], text: str) -> bool:
        return text.endswith("\\boxed{2}")

    outcome = await solve(
        "What?", generator=ScriptedGenerator(tree_script()), verifier=Oracle(two), strategy=BestOfN(n=16)
    )
    assert outcome.answer == "2"
    assert len({candidate.answer for candidate in outcome.candidates}) > 1
    distinct = {candidate.text for candidate in outcome.candidates}
    assert outcome.usage.verifier_calls == len(distinct)
    assert outcome.usage.verifier_tokens == 0
