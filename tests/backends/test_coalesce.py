"""Gathered questions: asked once each, in lists that fit, whoever comes, goes or fails, in whatever order."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from tests.backends.doubling import BAD, Server, gathered
from tts.backends.coalesce import Coalescer, Sizes, _Line
from tts.errors import BackendError, ParameterError, TransientError, TTSError

if TYPE_CHECKING:
    from collections.abc import Sequence


async def test_replies_come_in_order_and_twice_the_same_is_one() -> None:
    server = Server()
    assert await gathered(server).ask([3, 1, 3, 2]) == [6, 2, 6, 4]
    assert server.lists == [[3, 1, 2]]
    assert await gathered(server).ask([]) == []


async def test_callers_of_one_turn_go_together() -> None:
    server, found = Server(), dict[int, list[int]]()
    coalescer = gathered(server, batch=8)

    async def ask(item: int) -> None:
        found[item] = await coalescer.ask([item])

    async with anyio.create_task_group() as tasks:
        for item in range(6):
            tasks.start_soon(ask, item)
    assert found == {item: [2 * item] for item in range(6)}
    assert sorted(server.lists[0]) == list(range(6))
    assert len(server.lists) == 1


async def test_what_is_known_or_under_way_is_not_asked_again() -> None:
    server = Server(gate=anyio.Event())
    coalescer = gathered(server)
    found: list[list[int]] = []

    async def ask(*items: int) -> None:
        found.append(await coalescer.ask(items))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, 1, 2)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(ask, 2, 1)
        await anyio.wait_all_tasks_blocked()
        assert server.lists == [[1, 2]]
        assert server.gate is not None
        server.gate.set()
    assert sorted(found) == [[2, 4], [4, 2]]
    assert await coalescer.ask([1, 2]) == [2, 4]
    assert server.lists == [[1, 2]]


async def test_one_large_caller_has_several_lists_under_way() -> None:
    server = Server(gate=anyio.Event())
    coalescer = gathered(server, batch=3, in_flight=2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(coalescer.ask, range(10))
        await anyio.wait_all_tasks_blocked()
        assert sorted(server.lists) == [[0, 1, 2], [3, 4, 5]]
        assert server.gate is not None
        server.gate.set()
    assert sorted(server.lists) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


async def test_room_for_two_is_used_by_two() -> None:
    server = Server(gate=anyio.Event())
    coalescer = gathered(server, batch=1, in_flight=2)
    async with anyio.create_task_group() as tasks:
        for item in range(4):
            tasks.start_soon(coalescer.ask, [item])
        await anyio.wait_all_tasks_blocked()
        first, server.gate, server.most = server.gate, anyio.Event(), 0
        assert first is not None
        first.set()
        with anyio.fail_after(10):
            while server.running < 2 or len(server.lists) < 4:
                await anyio.lowlevel.checkpoint()
        server.gate.set()


async def test_what_was_refused_joins_no_list_again() -> None:
    line = _Line[int, int](Sizes(4, 2, 0))
    one = line.join({BAD: BAD, 1: 1})
    (bad, fine) = line.take(one)
    bad.alone = fine.alone = True
    line.end([bad, fine])
    other = line.join({1: 1, 2: 2})
    assert [question.item for question in line.take(other)] == [1]
    assert [question.item for question in line.take(other)] == [2]
    assert [question.item for question in line.take(one)] == []


async def test_when_the_carrier_leaves_another_takes_it_up() -> None:
    server = Server(gate=anyio.Event())
    coalescer = gathered(server, in_flight=1)
    found: list[list[int]] = []
    leaver = anyio.CancelScope()

    async def ask(*items: int) -> None:
        found.append(await coalescer.ask(items))

    async def leave() -> None:
        with leaver:
            await coalescer.ask([1, 2])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(ask, 2, 3)
        await anyio.wait_all_tasks_blocked()
        leaver.cancel()
        with anyio.fail_after(10):
            while len(server.lists) < 2:
                await anyio.lowlevel.checkpoint()
        assert server.lists == [[1, 2], [2, 3]]  # nobody wants 1 any more
        assert server.gate is not None
        server.gate.set()
    assert found == [[4, 6]]


async def test_what_a_leaver_alone_waited_for_is_never_sent() -> None:
    server = Server(gate=anyio.Event())
    coalescer = gathered(server, in_flight=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(coalescer.ask, [1])
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0):
            await coalescer.ask([7])
        assert server.gate is not None
        server.gate.set()
    assert await coalescer.ask([2]) == [4]
    assert server.lists == [[1], [2]]


async def test_a_refused_list_is_sent_one_by_one() -> None:
    server, errors = Server(refuses=(BAD,)), dict[int, str]()
    coalescer = gathered(server)
    found: list[int] = []

    async def ask(item: int) -> None:
        try:
            found.extend(await coalescer.ask([item]))
        except ParameterError as error:
            errors[item] = str(error)

    async with anyio.create_task_group() as tasks:
        for item in (1, BAD, 2):
            tasks.start_soon(ask, item)
    assert sorted(found) == [2, 4]
    assert errors == {BAD: f"refused [{BAD}]"}
    assert sorted(map(sorted, server.lists)) == [[1], [1, 2, BAD], [2], [BAD]]
    with pytest.raises(ParameterError):
        await coalescer.ask([BAD, 1])
    assert server.lists[-1] == [BAD]  # what came before stays


@pytest.mark.parametrize("error", [TransientError("busy", delay=3.0, began=False), BackendError("broken")])
async def test_any_other_fault_is_everyones_each_with_an_error_of_its_own(error: TTSError) -> None:
    server = Server(faults=lambda number: error if number == 0 else None)
    coalescer = gathered(server)
    raised: list[TTSError] = []

    async def ask(item: int) -> None:
        try:
            await coalescer.ask([item])
        except TTSError as one:
            raised.append(one)

    async with anyio.create_task_group() as tasks:
        for item in range(3):
            tasks.start_soon(ask, item)
    assert [type(one) for one in raised] == [type(error)] * 3
    assert [str(one) for one in raised] == [str(error)] * 3
    assert len(set(map(id, raised))) == 3
    assert [getattr(one, "delay", None) for one in raised] == [getattr(error, "delay", None)] * 3
    assert await coalescer.ask([0, 1, 2]) == [0, 2, 4]


async def test_a_sender_that_answers_for_too_few_is_not_believed() -> None:
    async def send(items: Sequence[int]) -> list[int]:
        return [2 * item for item in items[1:]]

    coalescer = Coalescer(send, lambda item: item, Sizes(4, 1, 100))
    for _ in range(2):
        with pytest.raises(ValueError, match="shorter"):
            await coalescer.ask([1, 2])


async def test_the_oldest_is_forgotten_first() -> None:
    server = Server()
    coalescer = gathered(server, remembered=2)
    for item in (1, 2, 1, 3, 1, 2):
        await coalescer.ask([item])
    assert server.lists == [[1], [2], [3], [2]]


def test_event_loops_share_what_is_known() -> None:
    server = Server()
    coalescer = gathered(server)
    replies: list[list[int]] = []

    def run(backend: str) -> None:
        async def ask() -> list[int]:
            return await coalescer.ask(range(9))

        replies.append(anyio.run(ask, backend=backend))

    threads = [threading.Thread(target=run, args=(backend,)) for backend in ("asyncio", "trio") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run("trio")
    assert replies == [[2 * item for item in range(9)]] * 5
    assert max(server.asked().values()) <= 4


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, -1)])
def test_sizes_out_of_range_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ParameterError, match="batch and in_flight are at least 1"):
        Sizes(*sizes)
