"""The engine of a scorer: sequences of all callers are read together, as they come."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from tts.backends.embedded.network import Lanes, Reading
from tts.backends.worker import Mailbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.backends.embedded.cache import PrefixCache
    from tts.backends.embedded.network import Network


class Posed:
    """One call: sequences, and the places in each after which logits are wanted.

    Attributes:
        logits: For each sequence, a row for each of its places, once the mailbox is closed.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], positions: Sequence[Sequence[int]], outputs: int) -> None:
        self.sequences = sequences
        self.positions = positions
        self.mailbox = Mailbox()
        self.logits = [np.empty((len(at), outputs), np.float32) for at in positions]
        self.unread = len(sequences)


class Readers:
    """Reads sequences in the order in which they come, from any caller, so many at a time."""

    def __init__(self, network: Network, cache: PrefixCache, rows: int) -> None:
        self._lanes = Lanes(network, rows)
        self._cache = cache
        self._waiting: deque[tuple[Posed, int]] = deque()

    def add(self, posed: Posed) -> None:
        """Take up a call."""
        self._waiting.extend((posed, index) for index in range(len(posed.sequences)))

    def drop(self, posed: Posed) -> None:
        """Let go of a call."""
        self._waiting = deque(item for item in self._waiting if item[0] is not posed)

    def step(self) -> list[Posed]:
        """Read the next sequences; returns the calls that are answered."""
        self._lanes.clear()
        count = min(self._lanes.rows, len(self._waiting))
        items = [self._waiting.popleft() for _ in range(count)]
        readings = [self._reading(row, *item) for row, item in enumerate(items)]
        logits = self._lanes.read(readings)
        answered, begin = [], 0
        for row, ((posed, index), reading) in enumerate(zip(items, readings, strict=True)):
            posed.logits[index][...] = logits[begin : begin + len(reading.at)]
            begin += len(reading.at)
            stop = reading.start + len(reading.tokens)
            self._cache.store(posed.sequences[index][:stop], self._lanes.save(row, reading.start, stop))
            posed.unread -= 1
            if not posed.unread:
                answered.append(posed)
        return answered

    def _reading(self, row: int, posed: Posed, index: int) -> Reading:
        """What lies before the first wanted place may come from the cache; what comes after the last is not read."""
        sequence, positions = posed.sequences[index], posed.positions[index]
        states = self._cache.fetch(sequence[: min(positions)])
        self._lanes.load(row, 1, states)
        start = len(states)
        return Reading(start, sequence[start : max(positions) + 1], [place - start for place in positions])
