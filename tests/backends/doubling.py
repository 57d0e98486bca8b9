"""Something to ask: it doubles numbers, takes its time, fails and refuses as it is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from tts.backends.coalesce import Coalescer, Sizes
from tts.errors import ParameterError, TTSError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BAD = 13
"""An item that a list is refused for."""


@dataclass
class Server:
    """Doubles numbers; how long each list takes, and which fail, is scripted by its number.

    Attributes:
        lists: Every list that came.
        answered: Those that were not cut short.
        running: Lists under way.
        most: The most that were.
    """

    pauses: Sequence[int] = ()
    faults: Callable[[int], TTSError | None] = lambda _: None
    refuses: tuple[int, ...] = ()
    gate: anyio.Event | None = None
    lists: list[list[int]] = field(default_factory=list)
    answered: list[list[int]] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def send(self, items: Sequence[int]) -> list[int]:
        number = len(self.lists)
        self.lists.append(list(items))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            for _ in range(self.pauses[number % len(self.pauses)] if self.pauses else 1):
                await anyio.lowlevel.checkpoint()
        finally:
            self.running -= 1
        fault = self.faults(number)
        if fault is not None:
            raise fault
        if set(items) & set(self.refuses):
            raise ParameterError(f"refused {items}")
        self.answered.append(list(items))
        return [2 * item for item in items]

    def asked(self) -> Counter[int]:
        return Counter(item for items in self.lists for item in items)


def gathered(server: Server, batch: int = 4, in_flight: int = 2, remembered: int = 1000) -> Coalescer[int, int]:
    return Coalescer(server.send, lambda item: item, Sizes(batch, in_flight, remembered))
