"""The laws on a real engine: the embedded model, its batches, its prefix cache and its reward model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.laws.subjects import MAIN, label
from tests.laws.wanderer import Wanderer
from tests.laws.watched import QUESTION, STEPS, trial_of
from tts.backends.embedded import EmbeddedGenerator, EmbeddedScorer
from tts.laws.accounting import charged_once
from tts.laws.bench import tight
from tts.laws.budget import within_budget
from tts.laws.cancellation import left_nothing
from tts.laws.determinism import same_search
from tts.testing import check_generator, check_scorer, check_verifier
from tts.types import Sampling
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tts.laws import Trial
    from tts.protocols import Strategy

SUBJECTS = [*MAIN, *(Wanderer(plan=plan, words=("12\n\n", "3", "")) for plan in range(4))]
"""What all that is registered does, and four random walks in words that the model knows."""
Engine = tuple[EmbeddedGenerator, ProcessReward]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    generator, verifier = EmbeddedGenerator(), ProcessReward(EmbeddedScorer())
    yield generator, verifier

    async def close() -> None:
        await generator.aclose()
        await verifier.aclose()

    anyio.run(close)


def search(engine: Engine, strategy: Strategy, loop: str = "asyncio", **changes: Any) -> Trial:
    return anyio.run(trial_of(*engine, strategy, **changes).run, backend=loop)


@pytest.mark.parametrize("strategy", SUBJECTS, ids=label)
def test_law_1_and_2_budgets_are_kept_and_all_is_charged(engine: Engine, strategy: Strategy) -> None:
    free = search(engine, strategy)
    charged_once(free)
    for budget in tight(free.ended().usage):
        trial = search(engine, strategy, "trio", budget=budget)
        within_budget(trial)
        charged_once(trial)


@pytest.mark.parametrize("strategy", [one for one in SUBJECTS if not one.order_sensitive], ids=label)
def test_law_3_neither_loop_nor_concurrency_nor_cache_changes_the_search(engine: Engine, strategy: Strategy) -> None:
    first = search(engine, strategy)
    for loop, concurrency in (("asyncio", 1), ("trio", 64)):
        same_search(first, search(engine, strategy, loop, concurrency=concurrency))


@pytest.mark.parametrize("strategy", SUBJECTS, ids=label)
def test_law_4_continuations_are_the_paths_own_tokens(engine: Engine, strategy: Strategy) -> None:
    trial = search(engine, strategy, sampling=Sampling(step_tokens=9, max_tokens=60))
    tokenize = engine[0].tokenize
    for request in trial.generator.calls:
        assert list(request.token_ids) == list(anyio.run(tokenize, request.text))
    graph = trial.ended().graph
    assert graph is not None
    for node in graph:
        assert not node.tokens or node.token_ids is None or len(node.token_ids) == node.tokens
        assert node.path_tokens <= 60
        assert node.done or not node.tokens or node.text.endswith("\n\n"), "only a delimiter leaves a path open"


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("strategy", SUBJECTS, ids=label)
def test_law_6_cancelled_from_outside_nothing_is_left_or_lost(engine: Engine, strategy: Strategy, loop: str) -> None:
    async def cancelled(after: int) -> Trial:
        trial = trial_of(*engine, strategy)
        watched: Any = trial.generator
        with anyio.CancelScope() as scope:
            watched.grown = lambda: scope.cancel() if watched.sampled >= after else None
            await trial.run()
        return trial

    for after in (1, 40, 150):
        left_nothing(anyio.run(cancelled, after, backend=loop))


async def test_the_engine_and_its_judges_keep_their_clauses() -> None:
    await check_generator(EmbeddedGenerator, QUESTION, max_tokens=48)
    await check_scorer(EmbeddedScorer, QUESTION, STEPS)
    await check_verifier(lambda: ProcessReward(EmbeddedScorer()), QUESTION, STEPS)
