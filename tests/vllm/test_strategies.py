"""All strategies on the real engine: the laws, a seed reproduced, alone and beside others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import tts
from tests.laws.subjects import MAIN, label
from tests.laws.watched import QUESTION, trial_of
from tests.vllm.served import Server, settled
from tts.backends.embedded import EmbeddedScorer
from tts.backends.vllm_server import VLLMServer
from tts.laws.accounting import charged_once
from tts.laws.bench import tight
from tts.laws.budget import within_budget
from tts.laws.cancellation import left_nothing
from tts.laws.determinism import same_search
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tts.laws import Trial
    from tts.protocols import Strategy

Engine = tuple[VLLMServer, ProcessReward]


@pytest.fixture(scope="module")
def engine(policy: Server) -> Iterator[Engine]:
    generator = VLLMServer(policy.url, task="countdown", max_tokens=96, step_tokens=32)
    verifier = ProcessReward(EmbeddedScorer())
    anyio.run(generator.connect)
    yield generator, verifier
    anyio.run(verifier.aclose)


def search(engine: Engine, strategy: Strategy, loop: str = "asyncio", **changes: Any) -> Trial:
    return anyio.run(trial_of(*engine, strategy, **changes).run, backend=loop)


@pytest.mark.parametrize("strategy", MAIN, ids=label)
def test_budgets_are_kept_and_all_is_charged(engine: Engine, strategy: Strategy) -> None:
    free = search(engine, strategy)
    charged_once(free)
    for budget in tight(free.ended().usage):
        trial = search(engine, strategy, "trio", budget=budget)
        within_budget(trial)
        charged_once(trial)


@pytest.mark.parametrize("strategy", [one for one in MAIN if not one.order_sensitive], ids=label)
def test_a_seed_is_reproduced_at_any_concurrency_alone_and_beside_others(engine: Engine, strategy: Strategy) -> None:
    alone = search(engine, strategy)
    for loop, concurrency in (("asyncio", 1), ("trio", 64)):
        same_search(alone, search(engine, strategy, loop, concurrency=concurrency))
    same_search(alone, anyio.run(beside_others, engine, strategy))


async def beside_others(engine: Engine, strategy: Strategy) -> Trial:
    trial = trial_of(*engine, strategy)
    async with anyio.create_task_group() as tasks:
        for seed in range(1, 4):
            tasks.start_soon(trial_of(*engine, strategy, seed=seed).run)
        await trial.run()
    return trial


@pytest.mark.parametrize("strategy", MAIN, ids=label)
async def test_cancelled_from_outside_nothing_is_left_or_lost(
    engine: Engine, policy: Server, strategy: Strategy
) -> None:
    for after in (1, 40, 150):
        trial = trial_of(*engine, strategy)
        watched: Any = trial.generator
        with anyio.CancelScope() as scope:
            watched.grown = lambda watched=watched, after=after, scope=scope: (
                scope.cancel() if watched.sampled >= after else None
            )
            await trial.run()
        left_nothing(trial)
    await settled(policy)


async def test_solve_answers_right(generator: VLLMServer) -> None:
    outcome = await tts.solve(
        QUESTION, strategy="best_of_n", generator=generator, verifier=ProcessReward(EmbeddedScorer()), seed=3
    )
    assert outcome.ended is tts.Ended.DONE and outcome.answer is not None
    assert outcome.fingerprint["generator"]["engine"].startswith("vllm 0.")
