"""The laws on a real engine: the embedded model, its batches, its prefix cache and its reward model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.laws.subjects import MAIN, label
from tests.laws.wanderer import Wanderer
from tts.backends.embedded import EmbeddedGenerator, EmbeddedScorer
from tts.laws import Conditions, Trial
from tts.laws.accounting import charged_once
from tts.laws.bench import tight
from tts.laws.budget import within_budget
from tts.laws.cancellation import left_nothing
from tts.laws.determinism import same_search
from tts.testing import check_generator, check_scorer, check_verifier
from tts.types import Sampling
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tts.protocols import GenerationRequest, Path, PathScore, Sink, Strategy, Verifier
    from tts.types import Completion, Message, Prompt

QUESTION = "Use 18, 11, 11, 30 to make 34."
STEPS = (
    "11 + 11 = 22 (left: 18, 30, 22)\n\n",
    "22 - 18 = 4 (left: 30, 4)\n\n",
    "30 + 4 = 34 (left: 34)\n\n",
    "The answer is \\boxed{30 + ((11 + 11) - 18)}",
)


class Watched:
    """A generator that counts what the one inside reports."""

    def __init__(self, inner: EmbeddedGenerator) -> None:
        self.inner = inner
        self.capabilities = inner.capabilities
        self.calls: list[GenerationRequest] = []
        self.running = 0
        self.sampled = 0
        self.prompts = 0
        self.grown: Callable[[], None] = lambda: None

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        return await self.inner.encode(messages)

    async def tokenize(self, text: str) -> Sequence[int]:
        return await self.inner.tokenize(text)

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        self.calls.append(request)
        self.running += request.count
        try:
            await self.inner.generate(request, Counting(self, sink, request.count))
        finally:
            self.running -= request.count


class Counting:
    """A sink that counts on its way to another."""

    def __init__(self, watched: Watched, sink: Sink, count: int) -> None:
        self._watched = watched
        self._sink = sink
        self._seen = [0] * count

    def prompt(self, *, cached: int, computed: int) -> None:
        self._watched.prompts += cached + computed
        self._sink.prompt(cached=cached, computed=computed)

    def progress(self, index: int, tokens: int) -> None:
        self._count(index, tokens)
        self._sink.progress(index, tokens)

    def finish(self, index: int, completion: Completion) -> None:
        self._count(index, completion.tokens)
        self._sink.finish(index, completion)

    def _count(self, index: int, tokens: int) -> None:
        self._watched.sampled += tokens - self._seen[index]
        self._seen[index] = tokens
        self._watched.grown()


class Judge:
    """A verifier that keeps what the one inside was asked."""

    def __init__(self, inner: Verifier) -> None:
        self.inner = inner
        self.capabilities = inner.capabilities
        self.seen: list[Path] = []

    async def score(self, paths: Sequence[Path]) -> Sequence[PathScore]:
        self.seen += paths
        return await self.inner.score(paths)


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


def trial_of(engine: Engine, strategy: Strategy, **changes: Any) -> Trial:
    generator, verifier = Watched(engine[0]), Judge(engine[1])
    conditions = Conditions(
        question=QUESTION, sampling=Sampling(), able=generator.capabilities, judge=verifier.capabilities
    )
    trial = Trial(strategy, replace(conditions, **changes))
    given: Any = trial
    given.generator, given.verifier = generator, verifier
    return trial


def search(engine: Engine, strategy: Strategy, loop: str = "asyncio", **changes: Any) -> Trial:
    return anyio.run(trial_of(engine, strategy, **changes).run, backend=loop)


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
        trial = trial_of(engine, strategy)
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
