"""Continuous batching: requests join and leave between steps, and every step draws one token for each live child."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from tts.backends.embedded.network import Lanes, Reading
from tts.backends.embedded.sampling import draw, log_probabilities
from tts.types import Finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.backends.embedded.arrays import Floats
    from tts.backends.embedded.cache import PrefixCache
    from tts.backends.embedded.children import Asked, Child
    from tts.backends.embedded.network import Network

READERS = 16
"""Prefixes that are read in one batch, at most."""


class Batch:
    """The engine of a generator.

    Child i of `live` has row i of the lanes, so the rows in use are always the first ones; when a child leaves, the
    last one takes its row. Requests are served in the order in which they come.
    """

    def __init__(self, network: Network, cache: PrefixCache, rows: int) -> None:
        self._lanes = Lanes(network, rows)
        self._readers = Lanes(network, min(READERS, rows))
        self._end_tokens = network.shape.end_tokens
        self._cache = cache
        self._waiting: deque[Asked] = deque()
        self.live: list[Child] = []

    def add(self, asked: Asked) -> None:
        """Take up a request."""
        self._waiting.append(asked)

    def drop(self, asked: Asked) -> None:
        """Let go of a request and of its rows."""
        if asked in self._waiting:
            self._waiting.remove(asked)
        self._leave([row for row, child in enumerate(self.live) if child.asked is asked])

    def step(self) -> list[Asked]:
        """Let children in as rows are free, then draw a token for each; returns the requests that are finished."""
        touched = {child.asked: None for child in self.live}
        if self.live:
            self._continue()
        else:
            self._lanes.clear()
        while self._waiting and self._free:
            touched |= dict.fromkeys(self._let_in())
        for asked in touched:
            asked.report()
        return [asked for asked in touched if asked.finished]

    @property
    def _free(self) -> int:
        return self._lanes.rows - len(self.live)

    def _continue(self) -> None:
        tokens = np.array([[child.tokens[-1]] for child in self.live])
        positions = np.array([[child.position] for child in self.live])
        self._draw(self.live, self._lanes.step(tokens, positions))
        self._leave([row for row, child in enumerate(self.live) if child.finish is not None])

    def _let_in(self) -> list[Asked]:
        """Read the prefixes of the next requests together and begin children; returns whose were begun."""
        heads = list(islice(self._waiting, min(self._free, self._readers.rows)))
        if unread := [asked for asked in heads if asked.states is None]:
            self._read(unread)
        begun = []
        for asked in heads:
            while asked.waiting and self._free:
                self._begin(asked)
            if asked.children:
                begun.append(asked)
            if not asked.waiting:
                self._waiting.popleft()
                asked.states = asked.logits = None
        return begun

    def _read(self, unread: Sequence[Asked]) -> None:
        """Read the prefixes of requests, as far as the cache does not know them; the last token is always read."""
        self._readers.clear()
        readings, cached = [], []
        for row, asked in enumerate(unread):
            known = self._cache.fetch(asked.prefix[:-1])
            self._readers.load(row, 1, known)
            fresh = asked.prefix[len(known) :]
            readings.append(Reading(len(known), fresh, [len(fresh) - 1]))
            cached.append(known)
        logits = self._readers.read(readings)
        for row, (asked, known) in enumerate(zip(unread, cached, strict=True)):
            fresh_states = self._readers.save(row, len(known), len(asked.prefix))
            self._cache.store(asked.prefix, fresh_states)
            asked.states, asked.logits = np.concatenate([known, fresh_states]), logits[row : row + 1]
            asked.read(len(known))

    def _begin(self, asked: Asked) -> None:
        """Begin as many children of a request as there are rows; those that end with their first token take none."""
        assert asked.states is not None and asked.logits is not None
        begun = asked.begin(min(asked.waiting, self._free))
        self._draw(begun, np.repeat(asked.logits, len(begun), axis=0))
        stay = [child for child in begun if child.finish is None]
        self._lanes.load(len(self.live), len(stay), asked.states)
        self.live += stay

    def _draw(self, children: Sequence[Child], logits: Floats) -> None:
        tokens = draw(logits, [child.draw for child in children])
        if any(child.asked.request.logprobs for child in children):
            for child, value in zip(children, log_probabilities(logits, tokens).tolist(), strict=True):
                child.logprobs.append(value)
        for child, token in zip(children, tokens.tolist(), strict=True):
            child.add(token, self._end_tokens)
            if child.finish is not None:
                child.asked.finish(child)

    def _leave(self, rows: Sequence[int]) -> None:
        """Free rows and close the gaps, from the last row on."""
        for row in reversed(rows):
            child = self.live[row]
            if child.finish in (Finish.DELIMITER, Finish.STOP, Finish.LENGTH):
                self._remember(row, child)
            last = self.live.pop()
            if last is not child:
                self.live[row] = last
                self._lanes.move(len(self.live), row, last.position)

    def _remember(self, row: int, child: Child) -> None:
        """Keep what a child computed after its prefix, because the next step continues it."""
        known = len(child.asked.prefix)
        states = self._lanes.save(row, known, child.position)
        self._cache.store([*child.asked.prefix, *child.tokens[:-1]], states)
