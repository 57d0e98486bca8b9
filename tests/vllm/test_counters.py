"""The ledger against the server's own counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tts
from tests.vllm.cacheable import Cacheable
from tests.vllm.served import Server, settled
from tts import registry
from tts.backends.embedded import EmbeddedScorer
from tts.benchmarks.tasks import COUNTDOWN
from tts.types import Message, Problem, Usage
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.protocols import Generator, Strategy

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""The transport that is quick at 64 in flight; the laws are tried on both loops elsewhere."""
PROBLEMS = [item.problem for item in COUNTDOWN.items(128)]
EXAMPLE = (
    Message(role="user", content="Use 18, 11, 11, 30 to make 34."),
    Message(
        role="assistant",
        content="11 + 11 = 22 (left: 18, 30, 22)\n\n30 - 18 = 12 (left: 22, 12)\n\n22 + 12 = 34 (left: 34)\n\n"
        "The answer is \\boxed{(11 + 11) + (30 - 18)}",
    ),
)
"""A conversation before the question makes prompts of two blocks and a bit."""
SMALL: dict[str, dict[str, object]] = {
    "a_star": {"expansion": 2, "max_expansions": 6}, "beam": {"width": 2, "expansion": 2}, "best_of_n": {"n": 4},
    "first_finish": {"n": 4}, "particle_filter": {"n": 4}, "self_consistency": {"n": 4},
}  # fmt: skip


async def solved(generator: Generator, strategy: Strategy, problems: Sequence[Problem]) -> Usage:
    """Solve problems, 64 in flight, and sum up what they cost."""
    total: dict[str, int] = {}
    async with tts.solve_many(
        problems, strategy=strategy, generator=generator, verifier=ProcessReward(EmbeddedScorer()), in_flight=64, seed=7
    ) as outcomes:
        async for outcome in outcomes:
            assert outcome.error is None
            for name, value in outcome.usage:
                total[name] = total.get(name, 0) + int(value or 0)
    return Usage.model_validate(total)


@pytest.mark.parametrize("name", sorted(SMALL))
async def test_every_token_sampled_is_charged(generator: Generator, policy: Server, name: str) -> None:
    strategy = registry.strategy(name, **SMALL[name])
    before = await settled(policy)
    usage = await solved(generator, strategy, PROBLEMS[:24])
    sampled = (await settled(policy)).generated - before.generated
    assert usage.generated <= sampled <= usage.generated + usage.unobserved
    assert name == "first_finish" or usage.generated == sampled, "nothing was cancelled"


async def measured(generator: Cacheable, policy: Server, strategy: str, **parameters: object) -> tuple[Usage, int, int]:
    """Return what a search over new problems cost, and the prompt tokens that the server read, and had cached."""
    problems = [
        Problem(messages=(*EXAMPLE, *problem.messages), id=problem.id, task=problem.task) for problem in PROBLEMS[64:]
    ]
    before = await settled(policy)
    usage = await solved(generator, registry.strategy(strategy, **parameters), problems)
    after = await settled(policy)
    return usage, after.read - before.read, after.cached - before.cached


async def test_cached_tokens_are_the_counters_where_each_request_has_one_child(
    generator: Generator, policy: Server
) -> None:
    watched = Cacheable(generator)
    usage, read, cached = await measured(watched, policy, "particle_filter", n=1)
    assert (usage.prompt_cached, usage.prompt_cached + usage.prompt_computed) == (cached, read)
    assert cached >= 0.95 * watched.most > 0


async def test_every_child_of_a_request_reads_the_cache(generator: Generator, policy: Server) -> None:
    watched = Cacheable(generator)
    usage, _, cached = await measured(watched, policy, "particle_filter", n=4)
    assert cached >= 0.95 * watched.most > 0
    # The server counts every child; what it tells, and the ledger keeps, is one child's, and not always the first's.
    assert watched.least_told <= usage.prompt_cached <= watched.most_told
