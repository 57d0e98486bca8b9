"""Gathered questions under schedules made to break them: callers come and go, lists fail, slowly and quickly."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.doubling import BAD, Server, gathered
from tts.errors import ParameterError, TransientError, TTSError

if TYPE_CHECKING:
    from tts.backends.coalesce import Coalescer


@dataclass(frozen=True)
class Caller:
    """Comes after some turns, asks, and may leave after some more."""

    items: tuple[int, ...]
    comes: int
    leaves: int | None


CALLERS = st.builds(
    Caller,
    st.lists(st.integers(0, 20), min_size=1, max_size=8).map(tuple),
    st.integers(0, 12),
    st.none() | st.integers(0, 15),
)


@settings(max_examples=150, deadline=None)
@given(
    callers=st.lists(CALLERS, min_size=1, max_size=8),
    pauses=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    faulty=st.sets(st.integers(0, 6), max_size=3),
    refuses=st.booleans(),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 3), st.sampled_from([0, 1000])),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_under_any_schedule(
    callers: list[Caller], pauses: list[int], faulty: set[int], refuses: bool, sizes: tuple[int, int, int], backend: str
) -> None:
    """Nobody waits for ever, is answered wrongly, or suffers for another; nothing goes out twice without need."""
    server = Server(
        pauses, lambda number: TransientError("busy") if number in faulty else None, (BAD,) if refuses else ()
    )
    coalescer = gathered(server, *sizes)
    ends: dict[int, list[int] | TTSError | None] = {}
    anyio.run(_play, coalescer, callers, ends, server, backend=backend)

    assert server.running == 0
    assert server.most <= sizes[1]
    assert all(len(items) <= sizes[0] and len(set(items)) == len(items) for items in server.lists)
    for place, caller in enumerate(callers):
        end = ends[place]
        if isinstance(end, ParameterError):
            assert refuses
            assert BAD in caller.items
        elif isinstance(end, TransientError):
            assert faulty
        elif end is None:
            assert caller.leaves is not None
        else:
            assert end == [2 * item for item in caller.items]
    answered = Counter(item for items in server.answered for item in items)
    if sizes[2]:
        assert not answered or max(answered.values()) == 1


async def _play(
    coalescer: Coalescer[int, int],
    callers: list[Caller],
    ends: dict[int, list[int] | TTSError | None],
    server: Server,
) -> None:
    async def call(place: int, caller: Caller) -> None:
        for _ in range(caller.comes):
            await anyio.lowlevel.checkpoint()
        ends[place] = None
        async with anyio.create_task_group() as tasks:
            if caller.leaves is not None:
                tasks.start_soon(leave, tasks.cancel_scope, caller.leaves)
            try:
                ends[place] = await coalescer.ask(caller.items)
            except TTSError as error:
                ends[place] = error
            tasks.cancel_scope.cancel()

    async def leave(scope: anyio.CancelScope, turns: int) -> None:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for place, caller in enumerate(callers):
                tasks.start_soon(call, place, caller)
    # Whatever happened, all the room there was is there again, and nothing waits that nobody wants.
    server.faults, server.pauses = lambda _: None, (3,)
    before, most, server.most = len(server.lists), server.most, 0
    fresh = list(range(100, 160))
    assert await coalescer.ask(fresh) == [2 * item for item in fresh]
    assert server.most == coalescer.sizes.in_flight
    assert sorted(item for items in server.lists[before:] for item in items) == fresh
    server.most = max(most, server.most)
