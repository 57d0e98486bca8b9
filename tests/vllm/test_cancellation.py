"""What is left is aborted on the engine, and what it cost is charged or bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

import tts
from tests.laws.watched import QUESTION
from tests.vllm.served import Counters, Server, settled
from tests.vllm.test_generator import request_of
from tts.checks import Received
from tts.strategies.first_finish import FirstFinish
from tts.strategies.self_consistency import SelfConsistency
from tts.types import Sampling

if TYPE_CHECKING:
    from tts.backends.vllm_server import VLLMServer

WILD = Sampling(temperature=2.0)
"""As hot as the server allows: few paths end by themselves soon."""
MANY = 2048
"""Children that no machine here draws in a moment: more than run at a time."""


async def test_leaving_a_scope_aborts_what_runs_and_what_waits(generator: VLLMServer, policy: Server) -> None:
    await generator.connect()
    before = await settled(policy)
    request = await request_of(generator, count=MANY, max_tokens=96, sampling=WILD, cancellable=True)
    received = Received(MANY)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generator.generate, request, received)
        await received.changed.wait()
        assert Counters(policy.url).in_flight
        tasks.cancel_scope.cancel()
    after = await settled(policy)
    sampled = after.generated - before.generated
    assert sum(received.seen) <= sampled < MANY * 96 // 2
    await generator.aclose()


async def test_an_answer_that_is_not_streamed_is_aborted_too(generator: VLLMServer, policy: Server) -> None:
    await generator.connect()
    before = await settled(policy)
    request = await request_of(generator, count=MANY, max_tokens=96, sampling=WILD)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generator.generate, request, Received(MANY))
        while not Counters(policy.url)["num_requests_running"]:  # noqa: ASYNC110 (the server has no events)
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert (await settled(policy)).generated - before.generated < MANY * 96 // 2
    await generator.aclose()


async def test_a_race_ends_on_the_engine_when_it_is_won(generator: VLLMServer, policy: Server) -> None:
    before = await settled(policy)
    race = FirstFinish(n=MANY, tie="arrival")
    outcome = await tts.solve(QUESTION, strategy=race, generator=generator)
    after = await settled(policy)
    usage = outcome.usage
    assert outcome.answer is not None and usage.cancelled + usage.unobserved
    assert usage.generated <= after.generated - before.generated <= usage.generated + usage.unobserved


async def test_a_deadline_ends_what_runs_on_the_engine(generator: VLLMServer, policy: Server) -> None:
    before = await settled(policy)
    outcome = await tts.solve(
        QUESTION, strategy=SelfConsistency(n=MANY), generator=generator, sampling=WILD, budget="0.5s"
    )
    after = await settled(policy)
    usage = outcome.usage
    assert (outcome.ended, outcome.limit) == (tts.Ended.BUDGET, "seconds")
    assert usage.generated <= after.generated - before.generated <= usage.generated + usage.unobserved
    assert after.generated - before.generated < MANY * 96 // 2
