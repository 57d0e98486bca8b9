"""A strategy that does whatever its plan's number makes it do, to go where no sensible one does."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, ClassVar

from tts.aggregation import Aggregation
from tts.protocols import Needs, Strategy
from tts.voting import vote

if TYPE_CHECKING:
    from tts.graph import Node
    from tts.search import Search
    from tts.selection import Answer

SCORED: list[bool | Aggregation] = [False, True, Aggregation.WHOLE, Aggregation.MIN]


class Wanderer(Strategy):
    """Takes verbs, parents and numbers at random, the same ones for the same plan and the same children."""

    name: ClassVar[str] = "wanderer"

    plan: int
    moves: int = 5
    words: tuple[str, ...] = ("Wait.\n\n", "Or", "")

    @property
    def needs(self) -> Needs:
        """Scores, of steps."""
        return Needs(verifier=True, partial_scores=True, continuation=True)

    async def search(self, s: Search) -> Answer:
        """Wander, then vote."""
        return vote(await self._wander(s, Random(self.plan), self.moves))

    async def _wander(self, s: Search, random: Random, moves: int) -> list[Node]:
        pool = [s.root]
        for _ in range(moves):
            verb = random.choice([self._expand, self._expand, self._score, self._transform, self._leave, self._split])
            pool += await verb(s, pool, random)
        return pool[1:]

    def _some(self, pool: list[Node], random: Random) -> list[Node]:
        return random.choices(pool, k=random.randint(1, 4))

    async def _expand(self, s: Search, pool: list[Node], random: Random) -> list[Node]:
        scored = random.choice(SCORED)
        return await s.expand(
            self._some(pool, random), random.randint(1, 3), whole=random.random() < 0.3, scored=scored
        )

    async def _score(self, s: Search, pool: list[Node], random: Random) -> list[Node]:
        await s.score(self._some(pool, random), random.choice([Aggregation.LAST, Aggregation.WHOLE]))
        return []

    async def _transform(self, s: Search, pool: list[Node], random: Random) -> list[Node]:
        node = random.choice(pool)
        return [] if node.done and not node.finished else [await s.transform(node, random.choice(self.words))]

    async def _leave(self, s: Search, pool: list[Node], random: Random) -> list[Node]:
        take, whole = random.randint(0, 3), random.random() < 0.5
        parents = self._some(pool, random)
        read: list[Node] = []
        if s.ledger.limits:
            return read  # what an abort costs hangs on timing, and with it what a budget has left
        async with s.arrivals(parents, 2, whole=whole, scored=True) as children:
            async for child in children:
                if len(read) >= take:
                    break
                read.append(child)
        return read

    async def _split(self, s: Search, pool: list[Node], random: Random) -> list[Node]:
        seeds = [random.getrandbits(30) for _ in range(random.randint(1, 3))]

        async def part(inner: Search) -> list[Node]:
            return await self._wander(inner, Random(seeds[inner.root.key[-1] % len(seeds)]), 2)

        return [node for nodes in await s.split(len(seeds), part) for node in nodes]
