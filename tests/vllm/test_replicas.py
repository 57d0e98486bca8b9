"""Two real servers as one generator: each keeps its problems, and one that is killed midway loses nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tts
from tests.vllm.cacheable import Cacheable
from tests.vllm.served import Server, settled
from tests.vllm.test_counters import PROBLEMS
from tts.backends.embedded import EmbeddedScorer
from tts.backends.pool import GeneratorPool, pool_of_servers
from tts.strategies.particle_filter import ParticleFilter
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vllm.conftest import Fleet
    from tts.backends.vllm_server import VLLMServer
    from tts.outcome import Outcome
    from tts.protocols import Generator

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])
SEARCH = ParticleFilter(n=4)


def pool_of(*servers: Server) -> GeneratorPool:
    urls = ",".join(server.url for server in servers)
    return pool_of_servers(urls, task="countdown", max_tokens=96, step_tokens=32)


async def answers(generator: Generator, came: Callable[[int], None] = lambda _: None) -> dict[str, Outcome]:
    """Search 64 problems at a time; `came` is told how many outcomes there are."""
    found: dict[str, Outcome] = {}
    async with tts.solve_many(
        PROBLEMS[:64], strategy=SEARCH, generator=generator, verifier=ProcessReward(EmbeddedScorer()), in_flight=64,
        seed=11,
    ) as outcomes:  # fmt: skip
        async for outcome in outcomes:
            assert outcome.error is None
            found[outcome.problem] = outcome
            came(len(found))
    assert len(found) == 64
    return found


def said(outcomes: dict[str, Outcome]) -> dict[str, tuple[str | None, str]]:
    return {name: (outcome.answer, outcome.text) for name, outcome in outcomes.items()}


@pytest.fixture(scope="module")
def alone() -> dict[str, Outcome]:
    """What one server answers; filled by the first test."""
    return {}


async def test_two_replicas_answer_as_one_and_each_keeps_its_problems(
    policy: Server, replica: Server, generator: VLLMServer, alone: dict[str, Outcome]
) -> None:
    alone |= await answers(generator)
    before = [await settled(server) for server in (policy, replica)]
    watched = Cacheable(pool_of(policy, replica))
    found = await answers(watched)
    after = [await settled(server) for server in (policy, replica)]
    assert said(found) == said(alone)
    sampled = [now.generated - then.generated for now, then in zip(after, before, strict=True)]
    assert all(sampled) and sum(sampled) == sum(outcome.usage.generated for outcome in found.values())
    cached = sum(now.cached - then.cached for now, then in zip(after, before, strict=True))
    assert cached >= 0.95 * watched.most > 0


async def test_a_replica_killed_midway_loses_nothing(
    policy: Server, replica: Server, fleet: Fleet, alone: dict[str, Outcome]
) -> None:
    def kill_midway(outcomes: int) -> None:
        if outcomes == 1:
            replica.kill()

    found = await answers(pool_of(policy, replica), kill_midway)
    assert said(found) == said(alone)
    assert any(outcome.usage.failed or outcome.usage.unobserved for outcome in found.values()), "nothing ran there"
    await settled(policy)
    fleet.renew()
