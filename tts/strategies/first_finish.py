"""First Finish Search: start N answers, take the first k that finish, cancel the rest; and its last-finish twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tts.protocols import Strategy
from tts.selection import Answer, best
from tts.voting import vote

if TYPE_CHECKING:
    from tts.arrivals import Arrivals
    from tts.graph import Node
    from tts.search import Search


class FirstFinish(Strategy):
    """Vote among the first k of N traces to finish.

    First Finish Search (Agarwal et al. 2025, arXiv 2505.18149), as FFS-k@N and LFS-k@N of arXiv 2512.02008, algorithm
    1. `tie="arrival"` takes whichever requests return first (its asynchronous form): wall-clock decides, so the
    search is order-sensitive. `tie="tokens"` takes the shortest traces (its synchronous, lock-step form): once k have
    finished, it waits until every other trace is known to be longer, so that the answer hangs on the seed alone; a
    generator that reports no progress makes it wait for all. A trace that ran into a cap has not finished. Departure:
    a trace without a readable answer does not count (`readable`; the papers do not say). `which="last"` finishes all
    N and takes the longest k. Tokens of cancelled traces are counted, which the papers' totals cannot do.

    Needs nothing; a generator that cancels saves what it promises.
    """

    name: ClassVar[str] = "first_finish"

    n: int = Field(default=8, ge=1, le=65536, description="whole answers started")
    k: int = Field(default=1, ge=1, le=65536, description="finished ones that vote; at most n count")
    which: Literal["first", "last"] = Field(default="first", description="last: finish all, take the longest")
    tie: Literal["arrival", "tokens"] = Field(default="tokens", description="what first means: by clock, or by length")
    readable: bool = Field(default=True, description="count only traces with a readable answer")

    @property
    def order_sensitive(self) -> bool:
        """Where the clock decides."""
        return self.which == "first" and self.tie == "arrival"

    async def search(self, s: Search) -> Answer:
        """Start N, stop at k."""
        pool: list[Node] = []
        if self.which == "last":
            pool = await s.expand(s.root, self.n, whole=True)
            return self._answer(pool, sorted(self._finished(pool), key=lambda node: (-node.sampled, node.key)))
        async with s.arrivals(s.root, self.n, whole=True, order="arrival") as traces:
            async for trace in traces:
                pool.append(trace)
                if len(self._finished(pool)) >= self.k and await self._decided(traces, pool):
                    break
            if self.tie == "tokens":
                pool = self._without_longer(traces, pool)
        first = self._finished(pool)
        return self._answer(pool, first if self.tie == "arrival" else self._shortest(first))

    def _finished(self, pool: list[Node]) -> list[Node]:
        return [node for node in pool if node.finished and (not self.readable or node.answer_key is not None)]

    @staticmethod
    def _shortest(finished: list[Node]) -> list[Node]:
        return sorted(finished, key=lambda node: (node.sampled, node.key))

    async def _decided(self, traces: Arrivals, pool: list[Node]) -> bool:
        if self.tie == "arrival":
            return True
        if not traces.ready:
            await traces.reach(self._shortest(self._finished(pool))[self.k - 1].sampled)
        return not traces.ready

    def _without_longer(self, traces: Arrivals, pool: list[Node]) -> list[Node]:
        finished = self._shortest(self._finished(pool))
        if len(finished) < self.k:
            return pool
        last = finished[self.k - 1].sampled
        traces.discard(node for node in pool if node.sampled > last)
        return [node for node in pool if node.sampled <= last]

    def _answer(self, pool: list[Node], ordered: list[Node]) -> Answer:
        chosen = {node.key for node in ordered[: self.k]}
        if not chosen:
            return vote(pool)
        elected = vote(node for node in pool if node.key in chosen)
        rest = best(node for node in pool if node.key not in chosen).ranking
        return Answer(elected.chosen, (*elected.ranking, *rest), elected.decided)
