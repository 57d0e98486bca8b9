"""Several engines as one: where a problem goes, how many are in flight, and that none of it shows in what is drawn."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tts
from tests.backends.replicas import Classifier, Gate, Server, draw, request, settle
from tests.laws.subjects import small
from tts.affinity import on_behalf_of
from tts.backends.pool import GeneratorPool, ScorerPool
from tts.backends.routing import rendezvous
from tts.checks import Received
from tts.errors import BackendError, ParameterError
from tts.fakes import ScriptedGenerator, ScriptedVerifier, tree_script
from tts.registry import names
from tts.seeds import derive
from tts.testing import check_generator, check_scorer
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from tts.outcome import Outcome

PROBLEMS = [f"problem {place}" for place in range(64)]


def servers(count: int = 3) -> list[Server]:
    return [Server(f"host-{place}") for place in range(count)]


async def joined(replicas: list[Server], **settings: object) -> GeneratorPool:
    pool = GeneratorPool(replicas, **settings)  # type: ignore[arg-type]
    await pool.connect()
    return pool


def asked_about(replica: ScriptedGenerator) -> set[str]:
    return {call.prompt.text.strip() for call in replica.calls}


@given(st.sets(st.text(max_size=8), min_size=2, max_size=9), st.lists(st.text(), min_size=1, max_size=30))
def test_a_replica_that_goes_takes_only_its_own_problems_along(names: set[str], keys: list[str]) -> None:
    gone = min(names)
    for key in keys:
        order = rendezvous(key, names)
        assert sorted(order) == sorted(names)
        assert order == rendezvous(key, reversed(order))
        assert rendezvous(key, names - {gone}) == [name for name in order if name != gone]


def test_problems_are_spread_evenly() -> None:
    first = [rendezvous(f"{place:x}", ["a", "b", "c", "d"])[0] for place in range(2000)]
    assert all(420 <= first.count(name) <= 580 for name in "abcd")


async def test_a_problem_stays_on_its_replica_wherever_that_stands_in_the_list() -> None:
    homes: list[dict[str, str]] = []
    for replicas in (servers(), servers()[::-1]):
        pool = await joined(replicas)
        for problem in PROBLEMS[:30] * 3:
            await draw(pool, problem)
        told = {problem: replica.endpoint.url for replica in replicas for problem in asked_about(replica)}
        assert sum(len(asked_about(replica)) for replica in replicas) == len(told) == 30
        homes.append(told)
    assert homes[0] == homes[1]
    assert len(set(homes[0].values())) == 3


async def test_without_a_problem_the_prompt_decides() -> None:
    replicas = servers()
    pool = await joined(replicas)
    for question in PROBLEMS[:20] * 2:
        await pool.generate(request(question), Received(1))
    assert sum(len(asked_about(replica)) for replica in replicas) == 20
    assert all(replica.calls for replica in replicas)


async def test_a_deep_queue_spills_to_a_replica_with_room_and_a_shallow_one_waits() -> None:
    replicas = servers()
    gate = Gate()
    for replica in replicas:
        replica.given = gate
    pool = await joined(replicas, limit=4, spill=1.5)
    home, second, third = (
        next(replica for replica in replicas if replica.endpoint.url == url)
        for url in rendezvous("hot", [replica.endpoint.url for replica in replicas])
    )
    seen: list[list[int]] = []
    async with anyio.create_task_group() as tasks:
        for count in (2, 2, 2, 2, 2, 4, 2):
            tasks.start_soon(draw, pool, "hot", count)
            await settle()
            seen.append([replica.running for replica in (home, second, third)])
        gate.opened.set()
    # Two run, two wait, and beyond six places others are asked, the next first; when none has room, home it is.
    assert seen == [[2, 0, 0], [4, 0, 0], [4, 0, 0], [4, 2, 0], [4, 4, 0], [4, 4, 4], [4, 4, 4]]
    assert [len(replica.calls) for replica in (home, second, third)] == [4, 2, 1]


async def test_problems_that_began_earlier_go_first() -> None:
    replica, gate = Server("host"), Gate()
    replica.given = gate
    pool = await joined([replica], limit=1)
    waiting: list[str] = []

    async def begin(problem: str, later: anyio.Event) -> None:
        with on_behalf_of(problem):
            waiting.append(problem)
            await later.wait()
            await pool.generate(request(problem), Received(1))

    turns = {problem: anyio.Event() for problem in PROBLEMS[:4]}
    async with anyio.create_task_group() as tasks:
        for problem, turn in turns.items():
            tasks.start_soon(begin, problem, turn)
            await settle()
        for problem in ("problem 2", "problem 3", "problem 1", "problem 0"):
            turns[problem].set()
            await settle()
        gate.opened.set()
    assert waiting == PROBLEMS[:4]
    assert [call.prompt.text.strip() for call in replica.calls] == ["problem 2", *(PROBLEMS[i] for i in (0, 1, 3))]


@settings(max_examples=25, deadline=None)
@given(
    limit=st.integers(1, 5),
    visits=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 60)), min_size=4, max_size=24),
    killed=st.integers(0, 60),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_never_more_than_the_limit_and_no_place_lost_whoever_leaves(
    limit: int, visits: list[tuple[int, int]], killed: int, backend: str
) -> None:
    replicas = servers(2)

    async def visit(pool: GeneratorPool, place: int, count: int, patience: int) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_leave, tasks.cancel_scope, patience)
            with suppress(BackendError):
                await draw(pool, PROBLEMS[place], count)
            tasks.cancel_scope.cancel()

    async def main() -> None:
        pool = await joined(replicas, limit=limit)
        async with anyio.create_task_group() as tasks:
            for place, (count, patience) in enumerate(visits):
                tasks.start_soon(visit, pool, place, count, patience + (1000 if patience % 2 else 0))
            await settle(killed)
            replicas[0].endpoint.state = "gone"
        for replica in pool._replicas.values():
            assert (replica.admission.taken, replica.admission.waiting) == (0, 0)

    anyio.run(main, backend=backend)
    largest = max(count for count, _ in visits)
    assert all(replica.most <= max(limit, largest) for replica in replicas)
    assert [replica.running for replica in replicas] == [0, 0]


async def _leave(scope: anyio.CancelScope, turns: int) -> None:
    await settle(turns)
    scope.cancel()


async def solved(generator: ScriptedGenerator | GeneratorPool, strategy: str) -> dict[str, Outcome]:
    """Solve all problems side by side."""
    async with tts.solve_many(
        PROBLEMS, in_flight=64, strategy=small(strategy), generator=generator, verifier=ScriptedVerifier(),
        sampling=tts.Sampling(max_tokens=120, step_tokens=60), retry=tts.Retry(first_delay=0.0),
    ) as outcomes:  # fmt: skip
        found = {outcome.problem: outcome async for outcome in outcomes}
    return found


@pytest.mark.parametrize("strategy", names("strategy"))
async def test_every_strategy_answers_through_a_pool_as_from_one_generator(strategy: str) -> None:
    replicas = servers()
    alone = await solved(ScriptedGenerator(tree_script()), strategy)
    through = await solved(await joined(replicas, limit=16), strategy)
    assert sorted(alone) == sorted(through)
    for problem, outcome in through.items():
        assert (outcome.answer, outcome.text, outcome.error) == (alone[problem].answer, alone[problem].text, None)
    assert sum(outcome.usage.generated for outcome in through.values()) == sum(each.sampled for each in replicas)
    # A problem's requests leave their replica only where its queue is deep.
    assert all(replica.most <= 16 for replica in replicas)


async def test_a_pool_is_a_generator() -> None:
    await check_generator(lambda: GeneratorPool(servers()))
    await check_generator(lambda: GeneratorPool({"a": Server("x"), "b": Server("x")}, limit=1))


async def test_a_pool_is_a_scorer() -> None:
    await check_scorer(lambda: ScorerPool([Classifier("one"), Classifier("two")]))


async def test_scores_of_a_problem_come_from_one_replica_in_one_call() -> None:
    replicas = [Classifier("one"), Classifier("two")]
    verifier = ProcessReward(ScorerPool(replicas, limit=2))
    outcomes = [
        await tts.solve(problem, strategy="best_of_n", generator=Server("g"), verifier=verifier)
        for problem in PROBLEMS[:12]
    ]
    assert {outcome.error for outcome in outcomes} == {None}
    assert sum(len(replica.asked) for replica in replicas) >= 12
    assert sum(map(sum, (replica.asked for replica in replicas))) == sum(o.usage.verifier_calls for o in outcomes)
    assert all(replica.asked for replica in replicas)
    assert await ScorerPool(replicas).probabilities([], []) == []


async def test_it_says_what_its_replicas_can_do_and_how_many_they_are() -> None:
    pool = GeneratorPool(servers())
    with pytest.raises(BackendError, match=r"await connect\(\) first"):
        _ = pool.capabilities
    await pool.connect()
    assert pool.capabilities.name == "scripted x3"
    assert pool.capabilities.fingerprint == {"model": "scripted", "replicas": 3}


async def test_closing_closes_all_also_when_one_fails_to() -> None:
    class Stubborn(Server):
        async def aclose(self) -> None:
            raise RuntimeError("no")

    replicas = [Server("a"), Stubborn("b"), Server("c")]
    with pytest.raises(RuntimeError, match="no"):
        await GeneratorPool(replicas).aclose()
    assert [replica.closed for replica in replicas] == [True, False, True]


@pytest.mark.parametrize(
    ("replicas", "settings"),
    [
        ([], {}),
        ([Server("a"), Server("a")], {}),
        ([Server("a")], {"limit": 0}),
        ([Server("a")], {"spill": 0.5}),
        ([Server("a")], {"watch": 0.0}),
    ],
)
def test_what_makes_no_pool_is_refused(replicas: list[Server], settings: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        GeneratorPool(replicas, **settings)  # type: ignore[arg-type]


def test_it_may_be_used_from_one_event_loop_after_another() -> None:
    replicas = servers()
    pool = GeneratorPool(replicas, limit=2)

    async def main() -> None:
        await pool.connect()
        async with anyio.create_task_group() as tasks:
            for problem in PROBLEMS[:8]:
                tasks.start_soon(draw, pool, problem)
            await settle(3)
            tasks.cancel_scope.cancel()
        await draw(pool, "one")

    for backend in ("asyncio", "trio", "asyncio"):
        anyio.run(main, backend=backend)
    assert all(replica.most <= 2 for replica in replicas)


async def test_what_a_foreign_generator_raises_comes_through_as_it_is() -> None:
    replica = Server("host")
    replica.fault = KeyError("its own")
    with pytest.raises(KeyError, match="its own"):
        await draw(await joined([replica]), "problem")


def test_homes_do_not_change_between_releases() -> None:
    # A problem that moved in the middle of a run that goes on would not find its prefix.
    urls = ["http://a:8000", "http://b:8000", "http://c:8000"]
    assert [rendezvous(f"{derive(place):016x}", urls)[0][7] for place in range(12)] == list("bacccacaabac")
