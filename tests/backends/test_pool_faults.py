"""Replicas that die, hang, are busy, come back, or are not what they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import tts
from tests.backends.replicas import Gate, Time, draw, fleet, settle
from tts.affinity import on_behalf_of
from tts.backends.pool import GeneratorPool
from tts.backends.routing import rendezvous
from tts.errors import BackendError, EngineDeadError, TransientError
from tts.fakes import ScriptedGenerator, ScriptedVerifier, tree_script

if TYPE_CHECKING:
    from tts.checks import Received
    from tts.graph import Node
    from tts.outcome import Outcome

PROBLEMS = [f"problem {place}" for place in range(64)]


async def solved(generator: ScriptedGenerator | GeneratorPool) -> dict[str, Outcome]:
    async with tts.solve_many(
        PROBLEMS, generator=generator, verifier=ScriptedVerifier(), strategy=tts.strategy("beam", width=2, expansion=3),
        sampling=tts.Sampling(max_tokens=120, step_tokens=60), retry=tts.Retry(first_delay=0.0),
    ) as outcomes:  # fmt: skip
        found = {outcome.problem: outcome async for outcome in outcomes}
    return found


def grown(outcome: Outcome) -> list[tuple[object, ...]]:
    def facts(node: Node) -> tuple[object, ...]:
        return node.key, node.text, node.seed, node.score, node.status

    assert outcome.graph is not None
    return [facts(node) for node in outcome.graph.consumed()]


@pytest.mark.parametrize("end", ["gone", "dead"])
async def test_a_replica_that_dies_midway_changes_no_answer_and_loses_no_charge(end: str) -> None:
    alone = await solved(ScriptedGenerator(tree_script()))
    made = await fleet()

    async def kill_it_later() -> None:
        while made.home.sampled < 2000 or not made.home.running:
            await anyio.lowlevel.checkpoint()
        made.home.endpoint.state = end

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kill_it_later)
        through = await solved(made.pool)
    assert list(made.pool.down) == [made.home.endpoint.url]
    assert {problem: grown(outcome) for problem, outcome in through.items()} == {
        problem: grown(outcome) for problem, outcome in alone.items()
    }
    assert {outcome.error for outcome in through.values()} == {None}
    assert sum(outcome.usage.generated for outcome in through.values()) == sum(each.sampled for each in made.servers)
    assert sum(outcome.usage.prompt_computed for outcome in through.values()) == sum(s.prompts for s in made.servers)


async def test_a_dead_replica_is_left_at_once_and_come_back_to() -> None:
    made = await fleet()
    await draw(made.pool, "hot")
    made.home.endpoint.state = "gone"
    with pytest.raises(TransientError, match=r"cannot connect to http://host-.*; another replica goes on") as raised:
        await draw(made.pool, "hot")
    assert (raised.value.at_once, raised.value.began) == (True, False)
    assert str(raised.value.__cause__).startswith("cannot connect")
    for _ in range(3):
        await draw(made.pool, "hot")
    assert made.calls() == [1, 3, 0]
    made.time.seconds = 1.0  # it is looked at beside the next request, and again in two seconds
    asked = made.home.endpoint.asked
    await draw(made.pool, "hot")
    await draw(made.pool, "hot")
    assert made.home.endpoint.asked == asked + 1
    made.home.endpoint.state = "up"
    made.time.seconds = 2.9
    await draw(made.pool, "hot")
    assert list(made.pool.down) == [made.home.endpoint.url]
    made.time.seconds = 3.0
    await draw(made.pool, "hot")
    assert made.pool.down == {}
    assert made.calls() == [1, 7, 0]
    await draw(made.pool, "hot")
    assert made.calls() == [2, 7, 0]


async def test_what_is_in_flight_on_a_dead_replica_is_given_up_as_soon_as_one_request_finds_out() -> None:
    made = await fleet()
    made.home.given = Gate()
    faults: list[BackendError] = []

    async def ask() -> None:
        try:
            await draw(made.pool, "hot")
        except BackendError as fault:
            faults.append(fault)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)
        await settle()
        assert made.home.running == 5
        made.home.endpoint.state = "gone"  # what waits at the gate does not see it
        await ask()
    assert len(faults) == 6
    assert all(isinstance(fault, TransientError) and fault.at_once for fault in faults)
    assert [fault.began for fault in faults if isinstance(fault, TransientError)] == [False, *[True] * 5]
    assert made.home.running == 0


async def test_a_request_that_breaks_just_as_it_is_given_up_is_an_error_like_any_other() -> None:
    made = await fleet()

    async def breaks(*_: object) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                raise TransientError("the connection broke") from None

    made.home.generate = breaks  # type: ignore[method-assign,assignment]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_fails, made.pool)
        await settle()
        made.pool._replicas[made.home.endpoint.url].leave(EngineDeadError("dead"))


async def test_what_waits_for_a_place_goes_elsewhere_when_the_replica_dies() -> None:
    made = await fleet(2, limit=1, spill=9.0)
    made.home.given = Gate()
    got: list[Received] = []

    async def ask() -> None:
        got.append(await draw(made.pool, "hot"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_fails, made.pool)
        await settle()
        for _ in range(4):
            tasks.start_soon(ask)
        await settle()
        assert made.calls() == [1, 0]
        made.home.endpoint.state = "dead"
        made.home.given.opened.set()
    assert [len(received.completions) for received in got] == [1] * 4
    assert made.calls() == [1, 4]


async def _fails(pool: GeneratorPool) -> None:
    with pytest.raises(TransientError):
        await draw(pool, "hot")


async def test_one_that_hangs_is_noticed_and_left() -> None:
    made = await fleet(watch=0.01)
    made.home.endpoint.state = "hangs"
    made.pool._replicas[made.home.endpoint.url]._now = lambda: anyio.current_time()
    with pytest.raises(TransientError, match="does not answer") as raised:
        await draw(made.pool, "hot")
    assert raised.value.at_once
    await draw(made.pool, "hot")
    assert made.calls() == [1, 1, 0]


async def test_one_that_lives_is_not_disturbed_by_the_questions() -> None:
    made = await fleet(watch=0.001)
    made.pool._replicas[made.home.endpoint.url]._now = lambda: anyio.current_time()
    gate = made.home.given = Gate()

    async def alive() -> bool:
        made.home.endpoint.asked += 1
        if made.home.endpoint.asked == 3:
            gate.opened.set()
        return True

    made.home.endpoint.alive = alive  # type: ignore[method-assign]
    await draw(made.pool, "hot")
    assert made.pool.down == {}
    assert made.calls() == [1, 0, 0]


async def test_a_look_at_one_that_hangs_does_not_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tts.backends.replica.PROBE", 0.01)
    made = await fleet()
    made.home.endpoint.state = "gone"
    await _fails(made.pool)
    made.home.endpoint.state, made.time.seconds = "up", 1.0
    made.home.reconnect = anyio.sleep_forever  # type: ignore[method-assign]
    await draw(made.pool, "hot")
    assert "does not answer within" in str(made.pool.down[made.home.endpoint.url])


@pytest.mark.parametrize(
    ("fault", "seconds"), [(TransientError("429", began=False), 1.0), (TransientError("503", delay=7.0), 7.0)]
)
async def test_a_busy_replica_is_spared_not_left(fault: TransientError, seconds: float) -> None:
    made = await fleet()
    made.home.fault = fault
    with pytest.raises(TransientError, match="another replica goes on") as raised:
        await draw(made.pool, "hot")
    assert raised.value.at_once
    assert raised.value.began == fault.began
    assert made.pool.down == {}
    made.home.fault, made.time.seconds = None, seconds - 0.01
    await draw(made.pool, "hot")
    assert made.calls() == [0, 1, 0]
    made.time.seconds = seconds
    await draw(made.pool, "hot")
    assert made.calls() == [1, 1, 0]


async def test_when_all_are_busy_the_caller_waits_as_long_as_it_was_asked_to() -> None:
    made = await fleet()
    for server in made.servers:
        server.fault = TransientError("429", delay=5.0, began=False)
    for at_once in (True, True, False):
        with pytest.raises(TransientError, match="429") as raised:
            await draw(made.pool, "hot")
        assert raised.value.at_once == at_once
    assert raised.value is made.servers[2].fault
    for server in made.servers:
        server.fault = None
    await draw(made.pool, "hot")
    assert made.calls() == [1, 0, 0]


async def test_one_request_that_fails_says_nothing_about_its_replica_but_several_in_a_row_do() -> None:
    made = await fleet()
    made.home.fault = TransientError("status 500")
    for _ in range(2):
        with pytest.raises(TransientError) as raised:
            await draw(made.pool, "hot")
        assert raised.value is made.home.fault
        with on_behalf_of("hot"):  # what is no work of the engine says nothing of it
            assert len(await made.pool.tokenize("text")) == 4
    with pytest.raises(TransientError, match="another replica goes on"):
        await draw(made.pool, "hot")
    await draw(made.pool, "hot")
    assert made.calls() == [0, 1, 0]
    assert made.pool.down == {}


async def test_idle_connections_that_were_closed_move_no_problem() -> None:
    made = await fleet()
    made.home.fault = TransientError("the connection broke", at_once=True, began=False)
    with pytest.raises(TransientError) as raised:
        await draw(made.pool, "hot")
    assert raised.value is made.home.fault
    made.home.fault = None
    await draw(made.pool, "hot")
    assert made.calls() == [1, 0, 0]


async def test_without_any_replica_it_says_what_is_wrong_with_each_and_when_to_come_again() -> None:
    made = await fleet(2)
    for server in made.servers:
        server.endpoint.state = "gone"
    with pytest.raises(TransientError):
        await draw(made.pool, "hot")
    made.home.endpoint.state = "dead"
    with pytest.raises(TransientError) as raised:
        await draw(made.pool, "hot")
    made.time.seconds = 0.25
    with pytest.raises(TransientError) as raised:
        await draw(made.pool, "hot")
    assert (raised.value.delay, raised.value.began) == (0.75, False)
    for server in made.servers:
        assert f"{server.endpoint.url}, down for 0 s: cannot connect" in str(raised.value)
    made.time.seconds = 1.0
    made.next.endpoint.state = "up"
    await draw(made.pool, "hot")
    assert made.calls() == [0, 1]
    assert "its engine is dead" in str(made.pool.down[made.home.endpoint.url])


async def test_when_all_engines_are_dead_that_is_the_end() -> None:
    made = await fleet(2)
    for server in made.servers:
        server.endpoint.state = "dead"
    with pytest.raises(TransientError, match="another replica goes on"):
        await draw(made.pool, "hot")
    with pytest.raises(EngineDeadError, match=r"host-0.*host-1|host-1.*host-0"):
        await draw(made.pool, "hot")


async def test_an_engine_in_this_process_that_died_is_not_asked_again() -> None:
    class Engine(ScriptedGenerator):
        dead = False

        async def generate(self, *given: object) -> None:
            if self.dead:
                raise EngineDeadError("no more")
            await super().generate(*given)  # type: ignore[arg-type]

    time, engines = Time(), {name: Engine(tree_script()) for name in ("a", "b")}
    pool = GeneratorPool(engines, now=time)
    await pool.connect()
    home, other = (engines[name] for name in rendezvous("hot", engines))
    home.dead = True
    await _fails(pool)
    home.dead = False
    time.seconds = 1e9
    for _ in range(3):
        await draw(pool, "hot")
    assert (len(home.calls), len(other.calls)) == (0, 3)
