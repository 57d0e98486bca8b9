"""Places for work in flight, given to problems that have begun before those that come later."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(order=True, slots=True)
class _Waiter:
    order: int
    ticket: int
    count: int = field(compare=False)
    admitted: anyio.Event = field(compare=False, default_factory=anyio.Event)
    gone: bool = field(compare=False, default=False)


class Admission:
    """At most `limit` places taken at a time; who waits is let in by the order of its problem, then of its coming.

    Thousands of problems that took turns would each find its prefix gone from the engine's cache; so a problem that has
    begun goes on before another begins. More places than there are at all are given when nobody else has one.

    It belongs to one event loop.

    Attributes:
        limit: Places that there are.
        taken: Places that are taken; more than `limit` only by one who asked for more.
        waiting: Places that are waited for.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.waiting = 0
        self._tickets = 0
        self._waiters: list[_Waiter] = []

    def has_room(self, count: int = 1) -> bool:
        """Whether so many places would be given without waiting."""
        return not self._waiters and self._fits(count)

    @asynccontextmanager
    async def places(self, count: int = 1, *, order: int = 0) -> AsyncIterator[None]:
        """Take `count` places, for the problem that was the `order`-th to begin."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self.has_room(count):
            self.taken += count
        else:
            await self._wait(count, order)
        try:
            yield
        finally:
            self.taken -= count
            self._let_in()

    async def _wait(self, count: int, order: int) -> None:
        self._tickets += 1
        waiter = _Waiter(order, self._tickets, count)
        heappush(self._waiters, waiter)
        self.waiting += count
        # Who comes for an earlier problem may fit although a later one that waits does not.
        self._let_in()
        try:
            await waiter.admitted.wait()
        except BaseException:
            if waiter.admitted.is_set():
                self.taken -= count
            else:
                # It leaves the line when it is its turn: thousands that are cancelled at once cost no search each.
                waiter.gone = True
                self.waiting -= count
            self._let_in()
            raise

    def _fits(self, count: int) -> bool:
        return self.taken == 0 or self.taken + count <= self.limit

    def _let_in(self) -> None:
        while self._waiters and (self._waiters[0].gone or self._fits(self._waiters[0].count)):
            waiter = heappop(self._waiters)
            if not waiter.gone:
                self.waiting -= waiter.count
                self.taken += waiter.count
                waiter.admitted.set()
