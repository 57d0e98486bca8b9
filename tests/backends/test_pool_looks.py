"""Looks at replicas that are down, and the calls beside which they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.backends.replicas import Gate, draw, fleet, settle
from tts.errors import TransientError

if TYPE_CHECKING:
    from tests.backends.replicas import Fleet


@pytest.fixture(autouse=True)
def no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let looks last until the call beside them ends them, and that at once."""
    monkeypatch.setattr("tts.backends.replica.PROBE", 3600.0)
    monkeypatch.setattr("tts.backends.routing.GRACE", 0.001)


async def with_one_down(**settings: float) -> Fleet:
    """Return two replicas of which the home of "hot" is down, may be looked at, and hangs when it is."""
    made = await fleet(2, **settings)
    made.home.endpoint.state = "gone"
    with pytest.raises(TransientError):
        await draw(made.pool, "hot")
    made.home.endpoint.state, made.time.seconds = "up", 1.0
    made.home.reconnect = anyio.sleep_forever  # type: ignore[method-assign]
    return made


async def test_a_call_does_not_wait_for_a_look_at_one_that_hangs() -> None:
    made = await with_one_down()
    with anyio.fail_after(10):
        await draw(made.pool, "hot")
    assert "does not answer within" in str(made.pool.down[made.home.endpoint.url])
    asked = made.home.endpoint.asked
    made.time.seconds = 2.9  # it counts as no answer: the next look is made two seconds later
    await draw(made.pool, "hot")
    assert made.home.endpoint.asked == asked
    made.time.seconds = 3.0
    await draw(made.pool, "hot")
    assert made.home.endpoint.asked == asked + 1


async def test_a_call_that_ended_holds_no_place_while_the_look_beside_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tts.backends.routing.GRACE", 3600.0)
    made = await with_one_down(limit=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(draw, made.pool, "hot")
        await settle()
        await draw(made.pool, "hot")
        assert made.calls() == [0, 2]
        assert not made.pool._replicas[made.next.endpoint.url].admission.taken
        tasks.cancel_scope.cancel()


async def test_one_that_is_back_is_found_beside_calls_shorter_than_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tts.backends.routing.GRACE", 3600.0)
    made = await with_one_down()

    async def slow() -> None:
        await settle(500)

    made.home.reconnect = slow  # type: ignore[method-assign]
    await draw(made.pool, "hot")
    assert made.pool.down == {}
    await draw(made.pool, "hot")
    assert made.calls() == [1, 1]


async def test_a_call_that_waits_for_a_place_is_looked_beside_too() -> None:
    made = await with_one_down(limit=1)
    del made.home.reconnect
    gate = made.next.given = Gate()
    made.time.seconds = 0.5
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(draw, made.pool, "hot")
        await settle()
        made.time.seconds = 1.0
        tasks.start_soon(draw, made.pool, "hot")
        await settle()
        assert made.pool.down == {}
        gate.opened.set()


async def test_a_look_whose_call_was_left_is_made_again_a_second_later() -> None:
    made = await with_one_down()
    made.next.given = Gate()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(draw, made.pool, "hot")
        await settle()
        tasks.cancel_scope.cancel()
    del made.home.reconnect
    made.next.given.opened.set()
    made.time.seconds = 2.0
    await draw(made.pool, "hot")
    assert made.pool.down == {}


@pytest.mark.parametrize("method", ["reconnect", "alive"])
async def test_whatever_a_look_comes_upon_is_told_of_the_replica_not_of_the_call_beside_it(method: str) -> None:
    made = await with_one_down()

    async def breaks() -> bool:
        raise AttributeError("'bool' object has no attribute 'get'")

    del made.home.reconnect
    setattr(made.home if method == "reconnect" else made.home.endpoint, method, breaks)
    await draw(made.pool, "hot")
    fault = made.pool.down[made.home.endpoint.url]
    assert f"{made.home.endpoint.url}, asked wh" in str(fault)
    assert str(fault).endswith("failed: AttributeError: 'bool' object has no attribute 'get'")


async def test_a_question_that_breaks_while_a_call_waits_is_no_answer() -> None:
    made = await fleet(watch=0.001)
    made.home.given = Gate()
    made.pool._replicas[made.home.endpoint.url]._now = anyio.current_time

    async def breaks() -> bool:
        raise AttributeError("no")

    made.home.endpoint.alive = breaks  # type: ignore[method-assign]
    with pytest.raises(TransientError, match="AttributeError: no; another replica goes on"):
        await draw(made.pool, "hot")
