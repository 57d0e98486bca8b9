"""Places for work in flight: never more than there are, in the order in which problems began, none lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tts.admission import Admission
from tts.affinity import Caller, caller, on_behalf_of
from tts.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup


class Visitors:
    """Tasks that take places, hold them until they are told to go, and note when they came in."""

    def __init__(self, admission: Admission, tasks: TaskGroup) -> None:
        self.admission = admission
        self.inside: list[str] = []
        self._tasks = tasks
        self._go: dict[str, anyio.Event] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}

    async def send(self, name: str, *, count: int = 1, order: int = 0) -> None:
        self._go[name] = anyio.Event()
        self._scopes[name] = anyio.CancelScope()
        self._tasks.start_soon(self._visit, name, count, order)
        await settle()

    async def dismiss(self, name: str) -> None:
        self._go[name].set()
        await settle()

    async def cancel(self, name: str) -> None:
        self._scopes[name].cancel()
        await settle()

    async def _visit(self, name: str, count: int, order: int) -> None:
        with self._scopes[name]:
            async with self.admission.places(count, order=order):
                self.inside.append(name)
                await self._go[name].wait()


async def settle() -> None:
    for _ in range(8):
        await anyio.lowlevel.checkpoint()


async def test_who_waits_is_let_in_by_the_order_of_problems_then_of_coming() -> None:
    async with anyio.create_task_group() as tasks:
        visitors = Visitors(Admission(1), tasks)
        await visitors.send("first", order=9)
        for name, order in (("late", 7), ("early", 3), ("early again", 3), ("earliest", 1)):
            await visitors.send(name, order=order)
        assert visitors.inside == ["first"]
        for name in ("first", "earliest", "early", "early again", "late"):
            await visitors.dismiss(name)
    assert visitors.inside == ["first", "earliest", "early", "early again", "late"]


async def test_an_earlier_problem_goes_ahead_of_a_later_one_that_needs_more_room() -> None:
    async with anyio.create_task_group() as tasks:
        visitors = Visitors(Admission(4), tasks)
        await visitors.send("three", count=3, order=5)
        await visitors.send("two of a later one", count=2, order=8)
        await visitors.send("one of an earlier one", count=1, order=2)
        assert visitors.inside == ["three", "one of an earlier one"]
        await visitors.send("one of the last", count=1, order=9)
        await visitors.dismiss("one of an earlier one")
        # There is room for one, but who came last does not overtake.
        assert visitors.inside == ["three", "one of an earlier one"]
        await visitors.dismiss("three")
        assert set(visitors.inside[2:]) == {"two of a later one", "one of the last"}
        tasks.cancel_scope.cancel()


async def test_a_request_larger_than_the_limit_goes_alone() -> None:
    async with anyio.create_task_group() as tasks:
        admission = Admission(4)
        visitors = Visitors(admission, tasks)
        await visitors.send("small")
        await visitors.send("huge", count=9)
        await visitors.send("after")
        assert visitors.inside == ["small"]
        assert not admission.has_room(1)
        await visitors.dismiss("small")
        assert visitors.inside == ["small", "huge"]
        assert (admission.taken, admission.waiting) == (9, 1)
        await visitors.dismiss("huge")
        assert visitors.inside == ["small", "huge", "after"]
        await visitors.dismiss("after")
        assert (admission.taken, admission.waiting) == (0, 0)
        assert admission.has_room(9)


async def test_who_is_cancelled_while_waiting_makes_way() -> None:
    async with anyio.create_task_group() as tasks:
        admission = Admission(2)
        visitors = Visitors(admission, tasks)
        await visitors.send("one")
        await visitors.send("both", count=2, order=1)
        await visitors.send("small", order=2)
        assert visitors.inside == ["one"]
        await visitors.cancel("both")
        assert visitors.inside == ["one", "small"]
        assert (admission.taken, admission.waiting) == (2, 0)
        tasks.cancel_scope.cancel()
    assert admission.taken == 0


async def test_who_is_cancelled_when_just_let_in_gives_the_place_back() -> None:
    async with anyio.create_task_group() as tasks:
        admission = Admission(1)
        visitors = Visitors(admission, tasks)
        async with admission.places():
            await visitors.send("waits")
            await visitors.send("waits longer", order=1)
        assert (admission.taken, admission.waiting) == (1, 1)  # let in, but not awake yet
        await visitors.cancel("waits")
        assert visitors.inside[-1] == "waits longer"
        await visitors.dismiss("waits longer")
        assert (admission.taken, admission.waiting) == (0, 0)


async def test_who_is_cancelled_while_overtaking_gives_the_place_back() -> None:
    async with anyio.create_task_group() as tasks:
        admission = Admission(4)
        visitors = Visitors(admission, tasks)
        await visitors.send("three", count=3, order=5)
        await visitors.send("two of a later one", count=2, order=8)
        with anyio.CancelScope() as scope:
            tasks.start_soon(_cancel_when, scope, lambda: admission.taken == 4)
            async with admission.places(order=2):
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert (admission.taken, admission.waiting) == (3, 2)
        tasks.cancel_scope.cancel()


async def _cancel_when(scope: anyio.CancelScope, so: Callable[[], bool]) -> None:
    while not so():
        await anyio.lowlevel.checkpoint()
    scope.cancel()


async def test_an_error_within_gives_the_places_back() -> None:
    admission = Admission(3)
    with pytest.raises(KeyError):
        async with admission.places(3):
            raise KeyError
    assert (admission.taken, admission.waiting) == (0, 0)


async def test_cancelled_tasks_take_no_place() -> None:
    admission = Admission(1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with admission.places():
            pytest.fail("it was let in")
    assert scope.cancelled_caught
    assert admission.taken == 0


async def test_thousands_cancelled_at_once_leave_nothing_behind() -> None:
    admission = Admission(1)
    async with admission.places():
        async with anyio.create_task_group() as tasks:
            for order in range(2000):
                tasks.start_soon(_take, admission, order)
            while admission.waiting < 2000:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert (admission.taken, admission.waiting) == (1, 0)
    assert admission.has_room()


async def _take(admission: Admission, order: int) -> None:
    async with admission.places(order=order):
        pytest.fail("it was let in")


@settings(max_examples=40, deadline=None)
@given(
    limit=st.integers(1, 6),
    visits=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 5), st.booleans()), min_size=1, max_size=20),
    schedule=st.integers(0, 2**32),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_under_any_schedule_the_limit_holds_and_everyone_who_stays_gets_in(
    limit: int, visits: list[tuple[int, int, bool]], schedule: int, backend: str
) -> None:
    admission = Admission(limit)
    inside: set[int] = set()
    served: set[int] = set()

    async def visit(place: int) -> None:
        count, order, leaves = visits[place]
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                if leaves:
                    tasks.start_soon(_cancel_later, scope, derive(schedule, place, "leaves") % 12)
                await _pause(derive(schedule, place) % 6)
                async with admission.places(count, order=order):
                    inside.add(place)
                    try:
                        taken = sum(visits[other][0] for other in inside)
                        assert taken <= limit or inside == {place}
                        await _pause(derive(schedule, place, "stays") % 6)
                    finally:
                        inside.remove(place)
                served.add(place)
                tasks.cancel_scope.cancel()

    async def main() -> None:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for place in range(len(visits)):
                    tasks.start_soon(visit, place)

    anyio.run(main, backend=backend)
    assert {place for place, (_, _, leaves) in enumerate(visits) if not leaves} <= served
    assert (admission.taken, admission.waiting) == (0, 0)


async def _pause(turns: int) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()


async def _cancel_later(scope: anyio.CancelScope, turns: int) -> None:
    await _pause(turns)
    scope.cancel()


async def test_callers_are_numbered_as_they_begin_and_known_in_their_tasks() -> None:
    seen: dict[str, Caller] = {}

    async def note(name: str) -> None:
        seen[name] = caller()

    assert caller() == Caller()
    with on_behalf_of("a"):
        first = caller()
        with on_behalf_of("b"):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(note, "within b")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(note, "within a")
    assert caller() == Caller()
    assert seen["within a"] == first
    assert seen["within b"] == Caller("b", first.order + 1)
