"""Pools of servers over HTTP: sticky problems, servers that are killed midway, are busy, hang, or differ."""

from __future__ import annotations

import itertools
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

import tts
from tests.backends.fake_vllm import FakeVLLM, Response, refusal, text_of
from tests.backends.replicas import Time, draw
from tts.backends.http import Timeouts
from tts.backends.pool import GeneratorPool, pool_of_servers
from tts.backends.routing import rendezvous
from tts.backends.vllm_server import VLLMServer
from tts.cli.backends import Backend, make
from tts.errors import BackendError, ParameterError, TransientError, UnknownNameError
from tts.fakes import ScriptedGenerator, ScriptedVerifier, tree_script
from tts.setup import as_problem
from tts.solve import affinity_key
from tts.testing import check_generator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.backends.fake_vllm import Call
    from tts.outcome import Outcome

PROBLEMS = [f"problem {place}" for place in range(16)]
COMPLETIONS = "/v1/completions"
NAMES = "abc"


@pytest.fixture
def fakes() -> Iterator[list[FakeVLLM]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FakeVLLM()) for _ in range(3)]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def pool(fakes: list[FakeVLLM], time: Time) -> AsyncIterator[GeneratorPool]:
    # By names, since the URLs, and with them the problems' homes, are others in each run.
    named = {name: VLLMServer(fake.url, priorities=False) for name, fake in zip(NAMES, fakes, strict=True)}
    joined = GeneratorPool(named, now=time)
    yield joined
    await joined.aclose()


def home_of(key: str) -> str:
    return rendezvous(key, NAMES)[0]


HOME = NAMES.index(home_of("hot"))


async def solved(generator: VLLMServer | GeneratorPool, strategy: str = "beam") -> dict[str, Outcome]:
    async with tts.solve_many(
        PROBLEMS, generator=generator, verifier=ScriptedVerifier(), retry=tts.Retry(first_delay=0.0),
        strategy=tts.strategy(strategy), sampling=tts.Sampling(max_tokens=120, step_tokens=60),
    ) as outcomes:  # fmt: skip
        found = {outcome.problem: outcome async for outcome in outcomes}
    return found


def grown(outcomes: dict[str, Outcome]) -> dict[str, list[object]]:
    graphs = {problem: outcome.graph for problem, outcome in outcomes.items() if outcome.graph is not None}
    return {
        problem: [(node.key, node.text, node.seed, node.score) for node in graph.consumed()]
        for problem, graph in graphs.items()
    }


def sessions(fake: FakeVLLM) -> set[str]:
    return {call.headers["x-session-id"] for call in fake.calls if call.path == COMPLETIONS}


def unplugged(call: Call) -> Response:
    return Response(reset=True)


def unplug_after(count: int) -> Callable[[Call], Response | None]:
    """Answer so many completions, then nothing at all any more."""
    numbers, gone = itertools.count(1), threading.Event()

    def misbehave(call: Call) -> Response | None:
        if call.path == COMPLETIONS and next(numbers) > count:
            gone.set()
        return Response(reset=True) if gone.is_set() else None

    return misbehave


async def test_each_problem_keeps_to_one_server(fakes: list[FakeVLLM], pool: GeneratorPool) -> None:
    outcomes = await solved(pool)
    assert {outcome.error for outcome in outcomes.values()} == {None}
    keys = [sessions(fake) for fake in fakes]
    assert sum(map(len, keys)) == len(set.union(*keys)) == len(PROBLEMS)
    assert all(keys)


@pytest.mark.parametrize("strategy", ["beam", "first_finish"])
async def test_one_that_is_killed_midway_changes_no_answer(
    fakes: list[FakeVLLM], pool: GeneratorPool, time: Time, strategy: str
) -> None:
    alone = VLLMServer(fakes[2].url, priorities=False)
    expected = await solved(alone, strategy)
    await alone.aclose()
    fakes[0].misbehave = unplug_after(3)
    through = await solved(pool, strategy)
    assert {outcome.error for outcome in (*expected.values(), *through.values())} == {None}
    assert list(pool.down) == ["a"]
    assert grown(through) == grown(expected)
    assert {p: o.answer for p, o in through.items()} == {p: o.answer for p, o in expected.items()}
    fakes[0].misbehave, time.seconds = lambda call: None, 1.0
    await solved(pool, strategy)
    assert pool.down == {}


async def test_what_came_before_a_stream_was_cut_stays_and_the_rest_comes_from_another(
    fakes: list[FakeVLLM], pool: GeneratorPool
) -> None:
    def cut(call: Call) -> Response | None:
        if call.path != COMPLETIONS:
            return Response(reset=True) if fakes[0].count(COMPLETIONS) else None
        whole = fakes[0].answer(call)
        return Response(chunks=whole.chunks, cut=9000)

    await pool.connect()
    fakes[0].misbehave = cut
    problem = next(question for question in PROBLEMS if home_of(affinity_key(as_problem(question))) == "a")
    through = await tts.solve(problem, strategy="first_finish", generator=pool, retry=tts.Retry(first_delay=0.0))
    alone = await tts.solve(problem, strategy="first_finish", generator=VLLMServer(fakes[2].url, priorities=False))
    assert grown({"": through}) == grown({"": alone})
    assert list(pool.down) == ["a"]
    sampled = sum(fake.generated for fake in fakes[:2])
    assert sampled - through.usage.unobserved <= through.usage.generated <= sampled + fakes[2].generated


async def test_a_server_that_turns_requests_away_is_spared_not_left(fakes: list[FakeVLLM], pool: GeneratorPool) -> None:
    fakes[0].misbehave = lambda call: refusal("busy", 503) if call.path == COMPLETIONS else None
    outcomes = await solved(pool)
    assert {outcome.error for outcome in outcomes.values()} == {None}
    assert sum(outcome.usage.failed for outcome in outcomes.values()) == 0
    assert pool.down == {}
    turned_away = fakes[0].count(COMPLETIONS)
    assert 0 < turned_away <= len(PROBLEMS)  # each problem of it once at most, since time stands still


async def test_a_server_that_hangs_is_left_within_watch_and_connect_timeout(fakes: list[FakeVLLM]) -> None:
    stall = threading.Event()
    timeouts = Timeouts(connect=0.3)
    servers = [VLLMServer(fake.url, priorities=False, timeouts=timeouts) for fake in fakes]
    pool = GeneratorPool(dict(zip(NAMES, servers, strict=True)), watch=0.05)
    await pool.connect()
    home = fakes[HOME]
    home.misbehave = lambda call: Response(stall=stall)
    try:
        with pytest.raises(TransientError, match="does not answer") as raised:
            await draw(pool, "hot")
        assert raised.value.at_once
        assert len((await draw(pool, "hot", 3)).completions) == 3
    finally:
        stall.set()
        await pool.aclose()
    assert list(pool.down) == [home_of("hot")]


async def test_a_server_that_is_not_there_yet_and_then_serves_something_else(
    fakes: list[FakeVLLM], pool: GeneratorPool, time: Time
) -> None:
    late = fakes[HOME]
    late.misbehave = unplugged
    await pool.connect()
    assert pool.capabilities.name == "vllm/scripted x3"
    assert list(pool.down) == [home_of("hot")]
    late.misbehave, late.context, time.seconds = lambda call: None, 512, 1.0
    await draw(pool, "hot")
    assert "context (512, not 4096)" in str(pool.down[home_of("hot")])
    late.context, time.seconds = 4096, 3.0
    await draw(pool, "hot")
    assert pool.down == {}


async def test_a_server_that_was_started_anew_with_another_model_does_not_come_back(
    fakes: list[FakeVLLM], pool: GeneratorPool, time: Time
) -> None:
    await pool.connect()
    home = fakes[HOME]
    home.misbehave = unplugged
    with pytest.raises(TransientError, match="another replica goes on"):
        await draw(pool, "hot")
    other: Any = {"data": [{"id": "other", "root": "other", "max_model_len": 4096}]}
    home.misbehave = lambda call: Response(body=other) if call.path == "/v1/models" else None
    time.seconds = 1.0
    await draw(pool, "hot")
    assert "does not serve 'scripted'" in str(pool.down[home_of("hot")])


async def test_servers_that_differ_make_no_pool(fakes: list[FakeVLLM], pool: GeneratorPool) -> None:
    fakes[1].context = 512
    with pytest.raises(BackendError, match="differs from the others in context"):
        await pool.connect()


async def test_a_pool_of_servers_is_a_generator(fakes: list[FakeVLLM]) -> None:
    await check_generator(lambda: pool_of_servers(",".join(fake.url for fake in fakes), priorities=False))


async def test_it_is_made_from_urls_and_the_options_of_a_server(fakes: list[FakeVLLM]) -> None:
    urls = f"{fakes[0].url}, {fakes[1].url}/v1"
    pool = make("generator", Backend(f"pool:{urls}", {"limit": 32, "max_tokens": 77, "task": "countdown"}))
    await pool.connect()
    assert (pool.capabilities.max_tokens, pool.capabilities.task) == (77, "countdown")
    assert pool.capabilities.name == "vllm/scripted x2"
    await pool.aclose()
    with pytest.raises(UnknownNameError, match=r"max_token.*did you mean max_tokens"):
        make("generator", Backend(f"pool:{urls}", {"max_token": 77}))
    for wrong in ("", "localhost", f"{fakes[0].url},{fakes[0].url}"):
        with pytest.raises(ParameterError):
            tts.generator(f"pool:{wrong}")


async def test_a_verifier_of_several_servers_keeps_each_problem_on_one(fakes: list[FakeVLLM]) -> None:
    urls = ",".join(fake.url for fake in fakes)
    verifier = tts.verifier(f"pool:{urls}")
    for question in PROBLEMS:
        generator = ScriptedGenerator(tree_script())
        outcome = await tts.solve(question, strategy="best_of_n", generator=generator, verifier=verifier)
        assert outcome.error is None
    asked = [{text_of(ids).partition("\n")[0] for call in fake.calls for ids in scored(call)} for fake in fakes]
    questions = [{question for question in PROBLEMS if any(text == question for text in texts)} for texts in asked]
    assert sum(map(len, questions)) == len(PROBLEMS) > max(map(len, questions))
    await verifier.aclose()


def scored(call: Call) -> list[list[int]]:
    return list(call.body["input"]) if call.path in ("/classify", "/pooling") else []
