"""Real servers behind a proxy that spoils a fifth of all requests, and one that hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import tts
from tests.backends.proxy import FaultProxy
from tests.vllm.served import Server, settled
from tests.vllm.test_counters import PROBLEMS, SMALL
from tts import registry
from tts.backends.vllm_server import VLLMServer
from tts.errors import TransientError
from tts.fakes import ScriptedVerifier
from tts.graph import Status
from tts.retry import Retry

if TYPE_CHECKING:
    from tts.graph import Key
    from tts.outcome import Outcome

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])
UNUSED = (Status.CANCELLED, Status.DISCARDED)
STALLED = {"connect": 2.0, "first": 3.0, "between": 3.0, "total": 5.0}


async def solved(url: str, name: str, timeouts: dict[str, float] | None = None) -> list[Outcome]:
    generator = VLLMServer(url, task="countdown", max_tokens=96, step_tokens=32, timeouts=timeouts)
    async with tts.solve_many(
        PROBLEMS[:6], strategy=registry.strategy(name, **SMALL[name]), generator=generator,
        verifier=ScriptedVerifier(), retry=Retry(attempts=12, first_delay=0.01),
    ) as outcomes:  # fmt: skip
        found = [outcome async for outcome in outcomes]
    await generator.aclose()
    return sorted(found, key=lambda outcome: outcome.problem)


def consumed(outcome: Outcome) -> dict[Key, str]:
    assert outcome.graph is not None, outcome.error
    return {node.key: node.text for node in outcome.graph if node.status not in UNUSED}


@pytest.mark.parametrize("name", sorted(SMALL))
async def test_faults_change_no_answer_and_lose_no_charge(policy: Server, name: str) -> None:
    without = await solved(policy.url, name)
    before = await settled(policy)
    with FaultProxy(policy.url, seed=len(name)) as proxy:
        faulted = await solved(proxy.url, name, STALLED)
    sampled = (await settled(policy)).generated - before.generated
    assert proxy.met.total() > 0
    assert [outcome.error for outcome in faulted] == [None] * len(faulted)
    assert [outcome.answer for outcome in faulted] == [outcome.answer for outcome in without]
    assert list(map(consumed, faulted)) == list(map(consumed, without))
    generated = sum(outcome.usage.generated for outcome in faulted)
    assert generated <= sampled <= generated + sum(outcome.usage.unobserved for outcome in faulted)


@pytest.mark.parametrize("name", ["self_consistency", "first_finish"])
async def test_a_server_that_hangs_is_found_out_and_may_come_back(replica: Server, name: str) -> None:
    timeouts = {"connect": 5.0, "between": 1.0, "first": 60.0}
    generator = VLLMServer(replica.url, task="countdown", max_tokens=96, step_tokens=32, timeouts=timeouts)
    strategy = registry.strategy(name, n=4)

    def hang(event: tts.Event) -> None:
        if event.kind == "request":
            replica.freeze()

    try:
        with anyio.fail_after(30), pytest.raises(TransientError, match=r"does not answer /health") as raised:
            await tts.solve(
                PROBLEMS[0], strategy=strategy, generator=generator, retry=Retry(attempts=1), observers=[hang]
            )
    finally:
        replica.thaw()
    assert raised.value.outcome is not None
    assert raised.value.outcome.usage.unobserved == 4 * 96
    patient = VLLMServer(replica.url, task="countdown", max_tokens=96, step_tokens=32)
    assert (await tts.solve(PROBLEMS[0], strategy=strategy, generator=patient)).error is None
    for one in (generator, patient):
        await one.aclose()
