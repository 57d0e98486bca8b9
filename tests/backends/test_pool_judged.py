"""What a fault says about a replica, and what it does not."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.backends.replicas import Classifier, Gate, Health, draw, fleet, settle
from tts.affinity import on_behalf_of
from tts.backends.pool import ScorerPool
from tts.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def faults_of(call: Callable[[], Awaitable[object]], times: int, then: Callable[[], None]) -> int:
    """Make a call so many times at once, let something happen, and count those that failed for a fault that passes."""
    failed = 0

    async def once() -> None:
        nonlocal failed
        try:
            await call()
        except TransientError:
            failed += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(times):
            tasks.start_soon(once)
        await settle()
        then()
    return failed


def breaking(gate: Gate, fault: TransientError) -> Callable[[int, int], Awaitable[None]]:
    """Return a schedule that waits at a gate and fails there."""

    async def given(seed: int, tokens: int) -> None:
        await gate(seed, tokens)
        raise fault

    return given


async def test_what_resets_many_calls_at_once_is_one_fault() -> None:
    made, gate = await fleet(), Gate()
    made.home.given = breaking(gate, TransientError("the connection was reset"))
    assert await faults_of(partial(draw, made.pool, "hot"), 10, gate.opened.set) == 10
    assert made.calls() == [10, 0, 0]
    # Two more, one after the other, make three in a row; only then others are preferred.
    assert await faults_of(partial(draw, made.pool, "hot"), 1, lambda: None) == 1
    assert await faults_of(partial(draw, made.pool, "hot"), 1, lambda: None) == 1
    assert made.calls() == [12, 0, 0]
    assert await faults_of(partial(draw, made.pool, "hot"), 1, lambda: None) == 0
    assert made.calls() == [12, 1, 0]


async def test_a_list_that_many_callers_share_counts_once() -> None:
    class Shared(Classifier):
        """One whose callers wait for one answer."""

        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.gate = Gate()

        async def probabilities(self, *given: object, **labels: object) -> list[list[list[float]]]:
            self.asked.append(1)
            await self.gate(0, 0)
            raise TransientError("the connection broke")

    scorers = [Shared("a"), Shared("b")]
    pool = ScorerPool(scorers)
    await pool.connect()

    async def ask() -> None:
        with on_behalf_of("hot"):
            await pool.probabilities([[1, 2]], [[1]])

    def reset() -> None:
        for scorer in scorers:
            scorer.gate.opened.set()

    assert await faults_of(ask, 10, reset) == 10
    assert await faults_of(ask, 1, reset) == 1
    assert sorted(len(scorer.asked) for scorer in scorers) == [0, 11]


async def test_a_success_ends_the_rest_that_an_earlier_fault_began() -> None:
    made = await fleet(1)
    made.home.fault = TransientError("503", delay=30.0, began=False)
    with pytest.raises(TransientError):
        await draw(made.pool, "hot")
    replica = made.pool._replicas[made.home.endpoint.url]
    assert not replica.ready
    made.home.fault = None
    await draw(made.pool, "hot")
    assert replica.ready


async def test_a_success_that_began_before_the_server_turned_others_away_ends_no_rest() -> None:
    made = await fleet()
    gate = made.home.given = Gate()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(draw, made.pool, "hot")
        await settle()
        made.home.fault = TransientError("503", delay=30.0, began=False)
        with pytest.raises(TransientError):
            await draw(made.pool, "hot")
        gate.opened.set()
    made.home.fault = None
    await draw(made.pool, "hot")
    assert made.calls() == [1, 1, 0]


async def test_what_waits_for_a_place_goes_elsewhere_when_the_replica_turns_another_away() -> None:
    made, gate = await fleet(2, limit=1, spill=9.0), Gate()
    made.home.given = breaking(gate, TransientError("503", delay=30.0, began=False))
    assert await faults_of(partial(draw, made.pool, "hot"), 6, gate.opened.set) == 1
    assert made.calls() == [1, 5]


async def test_what_waits_stays_when_every_replica_turns_others_away() -> None:
    made, gate = await fleet(2, limit=1, spill=9.0), Gate()
    for server in made.servers:
        server.given = breaking(gate, TransientError("503", delay=30.0, began=False))
    assert await faults_of(partial(draw, made.pool, "hot"), 6, gate.opened.set) == 6
    assert made.calls() == [1, 5]  # they left the first for the second, which has no better to leave it for


async def test_no_call_is_made_at_a_replica_that_went_down_while_it_waited_for_a_place() -> None:
    made, gate = await fleet(1, limit=1), Gate()
    made.home.given = breaking(gate, TransientError("cannot connect", began=False))

    def leave() -> None:
        made.home.endpoint.state = "gone"
        gate.opened.set()

    assert await faults_of(partial(draw, made.pool, "hot"), 3, leave) == 3
    assert made.calls() == [1]


class Talking(Health):
    """The endpoint of a server whose tokens flow, and whose process is too busy to say that it lives.

    Attributes:
        last_heard: Another whenever it is looked at; what is waited for at the gate comes with the sixth look.
    """

    def __init__(self, url: str, gate: Gate, *, pauses: bool) -> None:
        super().__init__(url)
        self.gate = gate
        self.pauses = pauses
        self.looks = 0

    @property
    def last_heard(self) -> float:
        self.looks += 1
        if self.looks == 6:
            self.gate.opened.set()
        return float(self.asked if self.pauses else self.looks)

    async def alive(self) -> bool:
        await super().alive()
        return False


@pytest.mark.parametrize("pauses", [False, True])
async def test_one_whose_tokens_flow_is_not_left_however_long_it_takes_to_say_that_it_lives(pauses: bool) -> None:
    made, gate = await fleet(watch=0.001), Gate()
    made.home.given = gate
    replica = made.pool._replicas[made.home.endpoint.url]
    replica._endpoint = talking = Talking(made.home.endpoint.url, gate, pauses=pauses)
    replica._now = anyio.current_time
    await draw(made.pool, "hot")
    assert made.pool.down == {}
    # It is not even asked but after a silence, and what comes during the question answers it.
    assert (talking.asked > 0) == pauses
