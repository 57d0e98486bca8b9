"""vLLM's engine in this process, stepped on a thread and in processes of its own: the clauses and the laws."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

import anyio
import pytest

pytest.importorskip("vllm")

from tests.laws.subjects import label
from tests.laws.watched import QUESTION, trial_of
from tests.vllm.served import MODELS, POLICY
from tts import registry
from tts.backends.embedded import EmbeddedScorer
from tts.backends.vllm_engine import VLLMEngine
from tts.checks import Received
from tts.errors import BackendError, EngineDeadError, ParameterError, ProblemError, UnknownNameError
from tts.laws.accounting import charged_once
from tts.laws.bench import tight
from tts.laws.budget import within_budget
from tts.laws.cancellation import left_nothing
from tts.laws.determinism import same_search
from tts.protocols import SEED_BLOCK, GenerationRequest
from tts.setup import as_problem
from tts.testing import check_generator
from tts.types import Finish, Message, Sampling
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tts.laws import Trial
    from tts.protocols import Sink, Strategy
    from tts.types import Completion, Prompt

# vLLM and what it brings warn of their own future while they are imported.
pytestmark = [pytest.mark.engine, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

SETTINGS = {
    "max_model_len": 128, "dtype": "float32", "block_size": 32, "enforce_eager": True, "scheduling_policy": "priority",
    "max_num_batched_tokens": 8192, "kv_cache_memory_bytes": 2**28, "gpu_memory_utilization": 0.1,
}  # fmt: skip
SUBJECTS = [registry.strategy(name) for name in registry.names("strategy")]
LOOPS = ("asyncio", "trio")


class Kept:
    """A generator that stays open when it is closed."""

    def __init__(self, inner: VLLMEngine) -> None:
        self.inner = inner
        self.capabilities = inner.capabilities

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        return await self.inner.encode(messages)

    async def tokenize(self, text: str) -> Sequence[int]:
        return await self.inner.tokenize(text)

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        await self.inner.generate(request, sink)

    async def aclose(self) -> None:
        pass


def started(*, single_process: bool) -> Iterator[VLLMEngine]:
    engine = VLLMEngine(
        MODELS / POLICY, single_process=single_process, engine=SETTINGS, task="countdown", max_tokens=96, step_tokens=32
    )
    anyio.run(engine.connect)
    yield engine
    anyio.run(engine.aclose)


@pytest.fixture(scope="module")
def stepped() -> Iterator[VLLMEngine]:
    yield from started(single_process=True)


@pytest.fixture(scope="module")
def spawned() -> Iterator[VLLMEngine]:
    yield from started(single_process=False)


@pytest.fixture(params=["stepped", "spawned"])
def either(request: pytest.FixtureRequest) -> VLLMEngine:
    found: VLLMEngine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def verifier() -> ProcessReward:
    return ProcessReward(EmbeddedScorer())


@pytest.fixture
def sampled(stepped: VLLMEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens vLLM's core gave out, step by step, seen where nothing of ours has touched them."""
    counts: list[int] = []
    driver: Any = stepped._driver
    core = driver._engine.engine_core
    get_output = core.get_output

    def counted() -> Any:
        outputs = get_output()
        counts.append(sum(len(output.new_token_ids) for output in outputs.outputs))
        return outputs

    monkeypatch.setattr(core, "get_output", counted)
    return counts


async def busy(engine: VLLMEngine) -> None:
    while not engine.unfinished:  # noqa: ASYNC110 (vLLM tells nobody)
        await anyio.sleep(0.001)


async def ask(engine: VLLMEngine, count: int = 1, **changes: Any) -> GenerationRequest:
    prompt = await engine.encode(as_problem(QUESTION).messages)
    given: dict[str, Any] = {
        "prompt": prompt, "text": "", "token_ids": (), "count": count, "seed": 3 * SEED_BLOCK, "max_tokens": 96,
        "delimiters": (), "sampling": Sampling(), **changes,
    }  # fmt: skip
    return GenerationRequest(**given)


async def draw(engine: VLLMEngine, count: int = 1, **changes: Any) -> list[Completion]:
    received = Received(count)
    await engine.generate(await ask(engine, count, **changes), received)
    return [received.completions[index] for index in range(count)]


async def test_it_keeps_the_clauses(either: VLLMEngine) -> None:
    await check_generator(lambda: Kept(either), QUESTION, max_tokens=48)
    assert either.unfinished == 0


def test_two_forms_draw_the_same(stepped: VLLMEngine, spawned: VLLMEngine) -> None:
    assert anyio.run(draw, stepped, 8) == anyio.run(draw, spawned, 8)


async def test_greedy_children_are_alike_and_each_is_there(either: VLLMEngine) -> None:
    children = await draw(either, 3, sampling=Sampling(temperature=0))
    assert children[0] == children[1] == children[2]


async def test_the_end_of_sequence_is_counted_but_not_shown(stepped: VLLMEngine) -> None:
    (child,) = await draw(stepped, delimiters=("\n\n\n",))
    assert child.finish is Finish.EOS
    assert child.token_ids is not None and len(child.token_ids) == child.tokens
    assert child.text == stepped._decode(child.token_ids[:-1])


async def test_log_probabilities_of_the_most_likely_tokens(either: VLLMEngine) -> None:
    (child,) = await draw(either, logprobs=True, top_logprobs=3, sampling=Sampling(temperature=0))
    assert child.logprobs is not None and child.top_logprobs is not None
    assert len(child.logprobs) * 3 == len(child.top_logprobs) == child.tokens * 3
    assert list(child.top_logprobs[::3]) == list(child.logprobs), "drawn without chance, the most likely one is drawn"


class Prefix(Received):
    cached = 0

    def prompt(self, *, cached: int, computed: int) -> None:
        super().prompt(cached=cached, computed=computed)
        self.cached += cached


async def test_whole_blocks_of_a_prefix_come_from_the_cache(either: VLLMEngine) -> None:
    (whole,) = await draw(either, sampling=Sampling(temperature=0))
    path = list(whole.token_ids or ())[:30]
    request = await ask(either, 3, token_ids=path, text=either._decode(path), max_tokens=4)
    for _ in range(2):
        received = Prefix(3)
        await either.generate(request, received)
    prompt = len(request.prompt.token_ids) + len(path)
    assert (received.prompts, received.cached) == (prompt, (prompt - 1) // 32 * 32)
    assert received.cached


async def test_an_answer_that_was_begun_goes_on(stepped: VLLMEngine) -> None:
    asked = Message(role="user", content=QUESTION)
    open_one = await stepped.encode([asked])
    begun = await stepped.encode([asked, Message(role="assistant", content="11 + 11 = 22")])
    assert begun.token_ids == (*open_one.token_ids, *await stepped.tokenize("11 + 11 = 22"))
    assert begun.text == open_one.text + "11 + 11 = 22"


async def test_what_does_not_fit_is_refused_and_the_engine_goes_on(either: VLLMEngine) -> None:
    with pytest.raises(ParameterError, match=r"max_tokens 128 is more than the 128 tokens"):
        await draw(either, max_tokens=128)
    with pytest.raises(ParameterError, match="count=0"):
        await either.generate(await ask(either, 0), Received(1))
    with pytest.raises(ParameterError, match="refuses the request"):
        await draw(either, token_ids=(10**6,), text="?")
    with pytest.raises(ProblemError, match="holds 128"):
        await either.encode(as_problem(QUESTION * 30).messages)
    assert len(await draw(either, 2)) == 2
    assert either.unfinished == 0


def search(
    engine: VLLMEngine, verifier: ProcessReward, strategy: Strategy, loop: str = "asyncio", **changes: Any
) -> Trial:
    return anyio.run(trial_of(engine, verifier, strategy, **changes).run, backend=loop)


@pytest.mark.parametrize("strategy", SUBJECTS, ids=label)
def test_law_1_and_2_budgets_are_kept_and_all_is_charged(
    stepped: VLLMEngine, verifier: ProcessReward, sampled: list[int], strategy: Strategy
) -> None:
    free = search(stepped, verifier, strategy)
    charged_once(free)
    assert free.ended().usage.generated == sum(sampled)
    for budget in tight(free.ended().usage):
        sampled.clear()
        trial = search(stepped, verifier, strategy, "trio", budget=budget)
        within_budget(trial)
        charged_once(trial)
        assert trial.ended().usage.generated == sum(sampled)


@pytest.mark.parametrize("strategy", [one for one in SUBJECTS if not one.order_sensitive], ids=label)
def test_law_3_neither_loop_nor_concurrency_nor_form_changes_the_search(
    stepped: VLLMEngine, spawned: VLLMEngine, verifier: ProcessReward, strategy: Strategy
) -> None:
    first = search(stepped, verifier, strategy)
    for engine, loop, concurrency in ((stepped, "asyncio", 1), (stepped, "trio", 64), (spawned, "asyncio", 64)):
        same_search(first, search(engine, verifier, strategy, loop, concurrency=concurrency))


async def cancelled(engine: VLLMEngine, verifier: ProcessReward, strategy: Strategy, after: int) -> Trial:
    trial = trial_of(engine, verifier, strategy)
    watched: Any = trial.generator
    with anyio.CancelScope() as scope:
        watched.grown = lambda: scope.cancel() if watched.sampled >= after else None
        await trial.run()
    return trial


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("strategy", SUBJECTS, ids=label)
def test_law_6_cancelled_from_outside_nothing_is_left_or_lost(
    stepped: VLLMEngine, verifier: ProcessReward, sampled: list[int], strategy: Strategy, loop: str
) -> None:
    for after in (1, 40, 150):
        sampled.clear()
        trial = anyio.run(cancelled, stepped, verifier, strategy, after, backend=loop)
        left_nothing(trial)
        assert stepped.unfinished == 0
        assert trial.ledger.spent.tokens == sum(sampled), "not every token that was sampled is charged"


@pytest.mark.parametrize("loop", LOOPS)
def test_law_6_in_processes_of_its_own(spawned: VLLMEngine, verifier: ProcessReward, loop: str) -> None:
    for name in ("best_of_n", "beam", "first_finish"):
        for after in (1, 150):
            left_nothing(anyio.run(cancelled, spawned, verifier, registry.strategy(name), after, backend=loop))
            assert spawned.unfinished == 0


async def test_a_request_that_nobody_may_cancel_is_cancelled_from_outside_all_the_same(either: VLLMEngine) -> None:
    received, sure = Received(64), Received(64)
    request = await ask(either, 64)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(either.generate, request, received)
        await busy(either)
        tasks.cancel_scope.cancel()
    assert either.unfinished == 0
    assert not received.completions
    await either.generate(request, sure)
    assert len(sure.completions) == 64


def test_a_start_that_fails_says_why() -> None:
    with pytest.raises(UnknownNameError, match="did you mean max_model_len"):
        anyio.run(VLLMEngine(MODELS / POLICY, engine={"max_model_length": 128}).connect)
    with pytest.raises(BackendError, match=r"(?s)could not start.*no/such"):
        anyio.run(VLLMEngine("/no/such/model").connect)


async def test_a_second_one_in_this_process_is_refused(stepped: VLLMEngine) -> None:
    with pytest.raises(BackendError, match="an engine is stepped in this process already"):
        await VLLMEngine(MODELS / POLICY, single_process=True, engine=SETTINGS).connect()
    assert len(await draw(stepped, 2)) == 2


def test_an_engine_that_dies_is_told(spawned: VLLMEngine) -> None:
    async def die() -> None:
        with pytest.raises(ExceptionGroup) as raised:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(killed_once_running, spawned)
                await draw(spawned, 64)
        assert [type(error) for error in raised.value.exceptions] == [EngineDeadError]
        with pytest.raises(EngineDeadError, match="died"):
            await draw(spawned)

    anyio.run(die)


async def killed_once_running(engine: VLLMEngine) -> None:
    await busy(engine)
    for process in multiprocessing.active_children():
        process.kill()


def test_closed_nothing_is_left(stepped: VLLMEngine, spawned: VLLMEngine) -> None:
    for engine in (stepped, spawned):
        for loop in LOOPS:
            anyio.run(engine.aclose, backend=loop)
        with pytest.raises(EngineDeadError, match="was closed"):
            anyio.run(draw, engine)
        with pytest.raises(EngineDeadError, match="was closed"):
            anyio.run(engine.connect)
    assert multiprocessing.active_children() == []
