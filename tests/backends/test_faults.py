"""A fifth of all requests spoiled changes no answer and loses no charge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tts
from tests.backends.fake_vllm import FakeVLLM
from tests.backends.proxy import FAULTS, FaultProxy
from tts import registry
from tts.backends.vllm_server import VLLMServer
from tts.fakes import ScriptedVerifier, tree_script
from tts.graph import Status
from tts.outcome import Ended
from tts.retry import Retry
from tts.types import Sampling

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tts.graph import Key
    from tts.outcome import Outcome
    from tts.protocols import Strategy

PROBLEMS = [f"What is {number}?" for number in range(8)]
SHORT = {"connect": 1.0, "first": 0.25, "between": 0.25, "total": 1.0}
STRATEGIES = ("best_of_n", "beam", "a_star", "particle_filter", "first_finish", "self_consistency")
UNUSED = (Status.CANCELLED, Status.DISCARDED)


async def solve_all(
    url: str, strategy: Strategy, timeouts: dict[str, float] | None = None, problems: Sequence[str] = PROBLEMS
) -> list[Outcome]:
    generator = VLLMServer(url, timeouts=timeouts)
    async with tts.solve_many(
        problems,
        strategy=strategy,
        generator=generator,
        verifier=ScriptedVerifier(),
        sampling=Sampling(max_tokens=120, step_tokens=60),
        retry=Retry(attempts=12, first_delay=0),
        concurrency=32,
    ) as outcomes:
        found = {outcome.problem: outcome async for outcome in outcomes}
    await generator.aclose()
    return [found[str(place)] for place in range(len(problems))]


def consumed(outcome: Outcome) -> dict[Key, str]:
    assert outcome.graph is not None
    return {node.key: node.text for node in outcome.graph if node.status not in UNUSED}


def sampled(outcomes: Iterable[Outcome]) -> tuple[int, int, int]:
    """Return tokens seen, tokens of failed attempts among them, and the bound of those not seen."""
    usages = [outcome.usage for outcome in outcomes]
    return sum(u.generated for u in usages), sum(u.failed for u in usages), sum(u.unobserved for u in usages)


@pytest.mark.parametrize(("seed", "name"), list(enumerate(STRATEGIES)))
async def test_faults_change_no_answer_and_lose_no_charge(name: str, seed: int) -> None:
    strategy = registry.strategy(name)
    with FakeVLLM(tree_script()) as server:
        without = await solve_all(server.url, strategy)
        server.generated = 0
        with FaultProxy(server.url, seed=seed) as proxy:
            faulted = await solve_all(proxy.url, strategy, SHORT)
    assert proxy.met.total() > 0
    assert {outcome.ended for outcome in faulted} <= {Ended.DONE, Ended.NO_ANSWER}, [o.error for o in faulted]
    assert [outcome.answer for outcome in faulted] == [outcome.answer for outcome in without]
    assert list(map(consumed, faulted)) == list(map(consumed, without))
    generated, failed, unobserved = sampled(faulted)
    assert generated <= server.generated <= generated + unobserved
    if not any(outcome.usage.cancelled for outcome in (*faulted, *without)):
        assert generated - failed == sampled(without)[0]


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_alone(fault: str) -> None:
    strategy, timeouts, problems = registry.strategy("beam"), SHORT if "stall" in fault else None, PROBLEMS[:1]
    with FakeVLLM(tree_script()) as server:
        without = await solve_all(server.url, strategy, problems=problems)
        server.generated = 0
        with FaultProxy(server.url, faults=(fault,)) as proxy:
            faulted = await solve_all(proxy.url, strategy, timeouts, problems)
    assert set(proxy.met) == {fault}
    assert list(map(consumed, faulted)) == list(map(consumed, without))
    generated, _, unobserved = sampled(faulted)
    assert generated <= server.generated <= generated + unobserved
    if fault.startswith("503"):
        assert unobserved == 0, "a request that was turned away has cost nothing"
