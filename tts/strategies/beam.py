"""Beam search over steps, guided by a process reward model."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tts.aggregation import Aggregation
from tts.protocols import Needs, Strategy
from tts.selection import Answer, best, keep, score_of, unique
from tts.voting import vote

if TYPE_CHECKING:
    from tts.graph import Key, Node
    from tts.search import Search


class Beam(Strategy):
    """Keep the best `width` paths, draw `expansion` next steps of each, score, repeat.

    Snell et al. 2024 (arXiv 2408.03314, section 5.2): N beams of which N / M are kept and M children of each drawn;
    here width = N / M and expansion = M, so N = width * expansion steps are drawn at every level, the first included.
    search-and-learn (huggingface) names N `n` and M `beam_width`.

    What we read where text and code differ, and do otherwise:

    - Finished paths. search-and-learn takes them out and fills the width with live ones (`refill`, the default here
      too; the search then also ends when N have finished); its_hub lets them compete for the width and keep their
      place (`hold`).
    - Lookahead. A step's score is the verifier's at the end of a greedy rollout of `lookahead` steps (Snell); in
      search-and-learn the rollout is drawn but not scored. Rollouts are charged, and are no candidates.
    - Equal paths. Off by default in search-and-learn, and on in its recipes; on here.
    - Nothing is replicated to fill a result, and ties go to the smaller key.

    Needs a verifier that scores unfinished paths, and a generator that continues them.
    """

    name: ClassVar[str] = "beam"
    scales_with: ClassVar[str] = "width"

    width: int = Field(default=4, ge=1, le=4096, description="paths kept at each level (N / M)")
    expansion: int = Field(default=4, ge=1, le=4096, description="next steps drawn of each (M)")
    finished_slots: Literal["refill", "hold"] = Field(
        default="refill", description="refill: finished paths free their place; hold: they compete for it and keep it"
    )
    lookahead: int = Field(default=0, ge=0, le=64, description="greedy steps drawn before a step is scored")
    deduplicate: bool = Field(default=True, description="keep one of several paths that say the same")
    aggregation: Aggregation = Field(default=Aggregation.LAST, description="how step scores become one")
    selection: Literal["naive", "weighted"] = Field(
        default="naive", description="naive: the best scored; weighted: the answer with the greatest sum of scores"
    )

    @property
    def needs(self) -> Needs:
        """A verifier of partial paths, and continuation."""
        return Needs(verifier=True, partial_scores=True, continuation=True)

    async def search(self, s: Search) -> Answer:
        """Grow level by level until nothing is left to expand."""
        pool: list[Node] = []
        values: dict[Key, float] = {}
        live: list[Node] = [s.root]
        while live:
            children = await self._step(s, self._parents(live, s.root), values)
            pool += children
            live = self._survivors(pool, children, values)

        def value(node: Node) -> float:
            return values.get(node.key, -1.0)

        return best(pool, value) if self.selection == "naive" else vote(pool, lambda node: max(0.0, value(node)))

    def _parents(self, live: list[Node], root: Node) -> list[Node]:
        if self.finished_slots == "refill" or live[0] is root:
            return list(islice(cycle(live), self.width * self.expansion))
        return [node for node in live for _ in range(self.expansion)]

    async def _step(self, s: Search, parents: list[Node], values: dict[Key, float]) -> list[Node]:
        if not self.lookahead:
            children = await s.expand(parents, scored=self.aggregation)
            values.update((child.key, score_of(child)) for child in children)
            return children
        children = await s.expand(parents)
        ends = await self._look_ahead(s, children)
        await s.score(list(ends.values()), self.aggregation)
        values.update((child.key, score_of(ends[child])) for child in children)
        return children

    async def _look_ahead(self, s: Search, children: list[Node]) -> dict[Node, Node]:
        greedy = s.sampling.model_copy(update={"temperature": 0.0})
        ends = {child: child for child in children}
        for _ in range(self.lookahead):
            grown = {node.drawn_from: node for node in await s.expand(list(ends.values()), sampling=greedy)}
            ends = {child: grown.get(end, end) for child, end in ends.items()}
        return ends

    def _survivors(self, pool: list[Node], children: list[Node], values: dict[Key, float]) -> list[Node]:
        candidates = [node for node in children if not node.done]
        finished = [node for node in pool if node.finished]
        if self.finished_slots == "hold":
            candidates += finished
        elif len(finished) >= self.width * self.expansion:
            return []
        if self.deduplicate:
            candidates = unique(candidates)
        kept = keep(candidates, self.width, lambda node: values.get(node.key, -1.0))
        return [node for node in kept if not node.done]
