"""The verbs of a search: expand, score, transform, split."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.freely import search_freely
from tts.aggregation import Aggregation
from tts.budget import Amounts, Budget
from tts.errors import NeedsError, ParameterError, TransientError
from tts.fakes import GENERATES, JUDGES, FakeClock, ScriptedVerifier, letters, paced, shuffled
from tts.graph import Status
from tts.laws import Conditions
from tts.protocols import SEED_BLOCK
from tts.retry import Retry
from tts.types import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from tts.graph import Node
    from tts.laws import Trial
    from tts.search import Search


async def graph_of(trial: Trial) -> list[Node]:
    graph = trial.ended().graph
    assert graph is not None
    return [node for node in graph if node.parent is not None]


async def test_children_come_in_key_order_whatever_the_order_of_arrival() -> None:
    drawn: list[Node] = []

    async def body(s: Search) -> list[Node]:
        drawn.extend(await s.expand(s.root, 6))
        drawn.extend(await s.expand(list(reversed(drawn)), 2))
        return drawn

    await search_freely(body, Conditions(schedule=shuffled(9)))
    keys = [node.key for node in drawn]
    assert keys[:6] == sorted(keys[:6])
    assert keys[6:] == sorted(keys[6:])
    assert sorted(node.arrival for node in drawn[:6]) != [node.arrival for node in drawn[:6]]


async def test_the_finished_are_passed_over() -> None:
    async def body(s: Search) -> list[Node]:
        whole = await s.expand(s.root, 2, whole=True)
        assert all(node.finished for node in whole)
        return whole + await s.expand(whole, 3)

    trial = await search_freely(body)
    assert len(trial.generator.calls) == 1


@pytest.mark.parametrize("n", [0, -1])
async def test_at_least_one_child_is_drawn(n: int) -> None:
    async def body(s: Search) -> list[Node]:
        with pytest.raises(ParameterError, match=f"n is {n}"):
            await s.expand(s.root, n)
        return []

    await search_freely(body)


async def test_a_batch_too_large_for_one_request_is_sent_in_several_that_share_no_seed() -> None:
    async def body(s: Search) -> list[Node]:
        return await s.expand(s.root, SEED_BLOCK + 3)

    trial = await search_freely(body, Conditions(script=lambda path, seed: "x"))
    assert sorted(request.count for request in trial.generator.calls) == [3, SEED_BLOCK]
    assert len({node.seed for node in await graph_of(trial)}) == SEED_BLOCK + 3


async def test_what_a_wave_leaves_unused_admits_the_next() -> None:
    async def body(s: Search) -> list[Node]:
        return await s.expand(s.root, 8, whole=True)

    fits_one = Conditions(script=lambda path, seed: "it is 4", budget=Budget(tokens=130))
    trial = await search_freely(body, fits_one)
    outcome = trial.ended()
    # Each costs 8 tokens and holds 120: one at a time, until 130 - 8 k is below 120.
    assert (outcome.usage.samples, outcome.usage.generated) == (2, 16)
    assert outcome.limit == "tokens"


async def test_a_batch_that_just_fits_exhausts_nothing() -> None:
    async def body(s: Search) -> list[Node]:
        return await s.expand(s.root, 2, whole=True)

    trial = await search_freely(body, Conditions(script=lambda path, seed: "\\boxed{4}", budget=Budget(tokens=240)))
    assert trial.ended().limit is None


async def test_scores_were_asked_for_without_a_verifier() -> None:
    async def body(s: Search) -> list[Node]:
        with pytest.raises(NeedsError, match="no verifier"):
            await s.expand(s.root, scored=True)
        with pytest.raises(NeedsError, match="no verifier"):
            await s.score([])
        return []

    trial = await search_freely(body, Conditions(judge=None))
    assert not trial.generator.calls


@pytest.mark.parametrize("how", Aggregation)
async def test_step_scores_become_one_as_asked(how: Aggregation) -> None:
    async def body(s: Search) -> list[Node]:
        return await s.expand(s.root, 4, whole=True, scored=how)

    trial = await search_freely(body, Conditions(value=lambda text: len(text) % 10 / 10))
    rules: dict[Aggregation, Callable[[tuple[float, ...]], float]] = {
        Aggregation.MIN: min,
        Aggregation.MEAN: fmean,
        Aggregation.PROD: math.prod,
    }
    for node in await graph_of(trial):
        expected = rules[how](node.scores) if how in rules else len(node.text) % 10 / 10
        assert node.score == pytest.approx(expected)
        assert len(node.scores) == (1 if how is Aggregation.WHOLE else node.steps)


async def test_equal_paths_are_paid_for_once_and_each_has_its_score() -> None:
    async def body(s: Search) -> list[Node]:
        children = await s.expand(s.root, 5, whole=True, scored=True)
        return await s.score(children)

    trial = await search_freely(body, Conditions(script=lambda path, seed: "same"))
    assert trial.ended().usage.verifier_calls == 1
    assert len({node.score for node in await graph_of(trial)}) == 1


async def test_another_verifier_may_score_again() -> None:
    other = ScriptedVerifier(value=lambda text: 0.25, able=replace(JUDGES, name="other", steps=False))

    async def body(s: Search) -> list[Node]:
        children = await s.expand(s.root, 3, whole=True, scored=True)
        return await s.score(children, by=other)

    trial = await search_freely(body)
    assert {node.score for node in await graph_of(trial)} == {0.25}
    assert all(len(node.scores) == 1 for node in await graph_of(trial))
    assert trial.ended().usage.verifier_calls == 6


async def test_what_the_budget_has_no_call_for_is_not_scored() -> None:
    scored: list[Node] = []

    async def body(s: Search) -> list[Node]:
        scored.extend(await s.score(await s.expand(s.root, 5, whole=True)))
        return scored

    trial = await search_freely(body, Conditions(budget=Budget(verifier_calls=2)))
    assert [node.key for node in scored] == [(0,), (1,)]
    assert trial.ended().limit == "verifier_calls"


async def test_a_verifier_of_whole_answers_is_not_asked_about_parts() -> None:
    async def body(s: Search) -> list[Node]:
        return await s.expand(s.root, 4, scored=True) + await s.expand(s.root, 2, whole=True, scored=True)

    trial = await search_freely(body, Conditions(judge=replace(JUDGES, partial=False, steps=False)))
    assert trial.verifier is not None
    assert all(path.finished for path in trial.verifier.seen)
    assert len(trial.verifier.seen) == 2


async def test_the_deadline_closes_scoring_and_its_retries() -> None:
    clock = FakeClock()

    def busy(text: str) -> float:
        raise TransientError("busy")

    async def body(s: Search) -> list[Node]:
        return await s.score(await s.expand(s.root, 3, whole=True))

    patient = Retry(attempts=99, first_delay=1.0)
    trial = await search_freely(body, Conditions(value=busy, clock=clock, budget=Budget(seconds=2), retry=patient))
    assert trial.ended().limit == "seconds"
    slow = Conditions(clock=FakeClock(), budget=Budget(seconds=2))
    assert slow.clock is not None
    trial = await search_freely(body, replace(slow, judging=paced(slow.clock, 5)))
    assert trial.ended().usage.seconds == 2
    assert trial.ledger.held == Amounts()


async def test_given_text_is_a_step_that_costs_nothing_and_is_continued_as_ids() -> None:
    async def body(s: Search) -> list[Node]:
        first = await s.expand(s.root)
        wait = await s.transform(first[0], "Wait.\n\n")
        return await s.expand(wait, 2, whole=True)

    trial = await search_freely(body)
    request = trial.generator.calls[-1]
    assert request.text.endswith("Wait.\n\n")
    assert list(request.token_ids) == list(letters(request.text))
    given = next(node for node in await graph_of(trial) if node.text == "Wait.\n\n")
    assert (given.tokens, given.path_tokens, given.steps) == (0, given.parent.tokens + 7, 1)  # type: ignore[union-attr]
    assert trial.ended().usage.generated == trial.generator.sampled


async def test_what_goes_on_after_a_finished_path_goes_on_without_its_end_of_sequence() -> None:
    async def body(s: Search) -> list[Node]:
        [finished] = await s.expand(s.root, whole=True)
        return await s.expand(await s.transform(finished, "Wait.\n\n"), 2, whole=True)

    trial = await search_freely(body)
    request = trial.generator.calls[-1]
    assert "boxed" in request.text
    assert list(request.token_ids) == list(letters(request.text))


async def test_given_text_that_fills_the_path_ends_it() -> None:
    async def body(s: Search) -> list[Node]:
        return [await s.transform(s.root, "x" * 120)]

    trial = await search_freely(body)
    assert [node.status for node in await graph_of(trial)] == [Status.TRUNCATED]


async def test_engines_without_ids_are_sent_text() -> None:
    async def body(s: Search) -> list[Node]:
        return await s.expand(await s.expand(s.root), 2)

    trial = await search_freely(body, Conditions(able=replace(GENERATES, token_ids=False)))
    assert [bool(request.text) for request in trial.generator.calls] == [False, True]
    assert all(not request.token_ids for request in trial.generator.calls)


async def test_parts_have_equal_shares_and_give_back_what_they_leave() -> None:
    limits: list[dict[str, float]] = []

    async def part(s: Search) -> list[Node]:
        limits.append(s.ledger.limits)
        return await s.expand(s.root, 9, whole=True)

    async def body(s: Search) -> list[Node]:
        found = await s.split(3, part)
        assert s.ledger.held == Amounts()
        return [node for nodes in found for node in nodes] + await s.expand(s.root, whole=True)

    conditions = Conditions(budget=Budget(samples=10, tokens=1200), schedule=shuffled(4))
    trial = await search_freely(body, conditions)
    assert limits == [{"samples": 3, "tokens": 400}] * 3
    assert trial.ended().usage.samples == 10
    assert [node.key for node in await graph_of(trial) if not node.tokens] == [(0,), (1,), (2,)]


async def test_results_of_parts_come_in_their_order() -> None:
    async def part(s: Search) -> int:
        for _ in range(9 - 3 * s.root.key[0]):
            await anyio.lowlevel.checkpoint()
        return s.root.key[0]

    async def body(s: Search) -> list[Node]:
        assert await s.split(3, part) == [0, 1, 2]
        return []

    await search_freely(body)


async def test_paths_of_parts_are_continued_as_ids() -> None:
    async def part(s: Search) -> list[Node]:
        return await s.expand(await s.expand(s.root), 1)

    async def body(s: Search) -> list[Node]:
        return [node for nodes in await s.split(2, part) for node in nodes]

    trial = await search_freely(body)
    later = [request for request in trial.generator.calls if request.text]
    assert later
    assert all(list(request.token_ids) == list(letters(request.text)) for request in later)


async def test_a_part_that_fails_ends_the_others_and_leaves_nothing_held() -> None:
    async def part(s: Search) -> list[Node]:
        if s.root.key == (1,):
            raise ParameterError("no")
        return await s.expand(s.root, 3, whole=True)

    async def body(s: Search) -> list[Node]:
        with pytest.raises(ParameterError, match="no"):
            await s.split(3, part)
        return []

    conditions = Conditions(budget=Budget(samples=9, flops=1e9, dollars=5), schedule=shuffled(4))
    trial = await search_freely(body, conditions)
    assert trial.ledger.held == Amounts()
    assert trial.generator.running == 0


async def test_random_generators_are_the_same_in_every_run_and_differ_between_parts() -> None:
    async def numbers() -> list[float]:
        seen: list[float] = []

        async def part(s: Search) -> float:
            return s.random().random()

        async def body(s: Search) -> list[Node]:
            seen.extend([s.random().random(), s.random().random(), *await s.split(2, part)])
            return []

        await search_freely(body)
        return seen

    first = await numbers()
    assert len(set(first)) == 4
    assert await numbers() == first


async def test_a_batch_may_be_drawn_otherwise_than_the_rest() -> None:
    async def body(s: Search) -> list[Node]:
        return await s.expand(s.root, 2, whole=True, sampling=Sampling(temperature=0.0, max_tokens=5))

    trial = await search_freely(body)
    request = trial.generator.calls[0]
    assert request.sampling.temperature == 0
    assert request.max_tokens == 120, "caps remain the run's"


async def test_critical_path_counts_tokens_waited_for_one_after_another() -> None:
    async def body(s: Search) -> list[Node]:
        first = await s.expand(s.root, 3, whole=True)
        second = await s.expand(s.root, 3, whole=True)
        return first + second

    trial = await search_freely(body, Conditions(script=lambda path, seed: "x" * (1 + seed % 3)))
    tokens = [node.tokens for node in await graph_of(trial)]
    assert trial.ended().usage.critical_path == max(tokens[:3]) + max(tokens[3:])
