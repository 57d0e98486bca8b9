"""A*-decoding: expand the open path whose cost so far plus expected cost to come is least."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from pydantic import Field

from tts.aggregation import Aggregation
from tts.protocols import Needs, Strategy
from tts.resampling import EPSILON
from tts.selection import Answer, Ranked, best, unique

if TYPE_CHECKING:
    from tts.arrivals import Arrivals
    from tts.graph import Key, Node
    from tts.search import Search

CostMode = Literal["consistent", "accumulated_drops", "greedy"]


class Cost(NamedTuple):
    """What a path has cost (`spent`), is expected to cost still (`ahead`), and their sum as the queue orders it."""

    total: float
    ahead: float
    spent: float


def root_cost(mode: CostMode, ahead: float) -> Cost:
    """Return the cost of the empty path, whose score is zero."""
    return Cost(ahead if mode != "accumulated_drops" else 0.0, ahead, 0.0)


def child_cost(mode: CostMode, parent: Cost, ahead: float, *, first: bool) -> Cost:
    """Return a child's cost from its parent's and from its own expected cost `ahead`, which falls as its score rises.

    consistent: a step costs how much the score rises, g + max(0, h - h'); with h' added that never falls along a path,
    which is what makes A* optimal. accumulated_drops: a step costs how much the score falls; the first step is free.
    greedy: steps are free, best-first search.
    """
    if mode == "greedy":
        return Cost(ahead, ahead, 0.0)
    if mode == "consistent":
        spent = parent.spent + max(0.0, parent.ahead - ahead)
    else:
        spent = 0.0 if first else parent.spent + max(0.0, ahead - parent.ahead)
    return Cost(spent + ahead, ahead, spent)


class AStar(Strategy):
    """Best-first search over steps with a process reward model as heuristic.

    A*-Decoding (Chatziveroglou 2025, arXiv 2505.13672). Its equations were not available to us: summaries say that h
    is the reward model's evaluation and that g "accumulates only increases in h, to preserve optimality". That reads
    as `consistent` if h is the score (the only reading for which the claim of optimality holds), and as
    `accumulated_drops` if h is a cost; `greedy` is best-first search on the score alone. Default `greedy`: measured
    best of the three on the bundled model (docs/results.md). Expansion, caps and tie order are ours: cost, then h,
    then deeper, then smaller key.

    With `parallel` > 1 and `as_completed` the next path is expanded as soon as any expansion has come in, without a
    barrier; what is popped then hangs on timing, so such a search is order-sensitive.

    Needs a verifier that scores unfinished paths, and a generator that continues them.
    """

    name: ClassVar[str] = "a_star"
    scales_with: ClassVar[str] = "expansion"

    expansion: int = Field(default=4, ge=1, le=4096, description="next steps drawn of the path that is popped (k)")
    parallel: int = Field(default=1, ge=1, le=4096, description="paths expanded at a time; 1 is the published search")
    as_completed: bool = Field(default=False, description="with parallel > 1: no barrier between expansions")
    cost: CostMode = Field(default="greedy", description="what a step costs; see the class")
    transform: Literal["complement", "neg_log"] = Field(
        default="complement", description="expected cost of a score r: 1 - r, or -log r"
    )
    open_cap: int | None = Field(default=None, ge=1, description="open paths kept; the worst are dropped")
    goals: int = Field(default=1, ge=1, le=65536, description="finished paths wanted; the one of least cost is chosen")
    goal_test: Literal["pop", "push"] = Field(
        default="pop", description="pop: a finished path counts when it is the cheapest; push: as soon as it is drawn"
    )
    max_expansions: int = Field(default=64, ge=1, le=10**9, description="paths expanded at most")
    deduplicate: bool = Field(default=True, description="merge children of one path that say the same")
    complete: bool = Field(default=True, description="without a goal, finish the best open path greedily")
    aggregation: Aggregation = Field(default=Aggregation.LAST, description="how step scores become one")

    @property
    def needs(self) -> Needs:
        """A verifier of partial paths, and continuation."""
        return Needs(verifier=True, partial_scores=True, continuation=True)

    @property
    def order_sensitive(self) -> bool:
        """Where there is no barrier between several expansions."""
        return self.as_completed and self.parallel > 1

    async def search(self, s: Search) -> Answer:
        """Pop, expand, push, until there are goals enough."""
        frontier = Frontier(self, s.root)
        if self.order_sensitive:
            await self._without_barrier(s, frontier)
        else:
            while parents := frontier.pop(self.parallel):
                frontier.push(await s.expand(parents, self.expansion, scored=self.aggregation))
                if s.exhausted:
                    break
        if not frontier.goals and self.complete and (left := frontier.best_open()) is not None:
            greedy = s.sampling.model_copy(update={"temperature": 0.0})
            frontier.pool += await s.expand(left, whole=True, scored=self.aggregation, sampling=greedy)
        return frontier.answer()

    async def _without_barrier(self, s: Search, frontier: Frontier) -> None:
        waiting: dict[Key, int] = {}
        async with s.arrivals([], scored=self.aggregation, order="arrival") as block:
            self._refill(block, frontier, waiting)
            async for child in block:
                frontier.push([child])
                parent = child.drawn_from.key if child.drawn_from is not None else ()
                waiting[parent] -= 1
                if not waiting[parent]:
                    del waiting[parent]
                if len(frontier.goals) >= self.goals:
                    break
                self._refill(block, frontier, waiting)

    def _refill(self, block: Arrivals, frontier: Frontier, waiting: dict[Key, int]) -> None:
        while len(waiting) < self.parallel and not block.waiting_for_room and (popped := frontier.pop(1)):
            block.extend(popped, self.expansion)
            waiting[popped[0].key] = self.expansion


class Frontier:
    """The open paths in order of cost, the goals reached, and everything drawn."""

    def __init__(self, strategy: AStar, root: Node) -> None:
        self._strategy = strategy
        self._root = root
        self._costs: dict[Key, Cost] = {root.key: root_cost(strategy.cost, self._ahead(0.0))}
        self._seen: set[tuple[bytes, str]] = set()
        self._expanded = 0
        self._open: list[tuple[float, float, int, Key, Node]] = []
        self._add(root)
        self.goals: list[Node] = []
        self.pool: list[Node] = []

    def _ahead(self, score: float) -> float:
        return 1 - score if self._strategy.transform == "complement" else -math.log(max(score, EPSILON))

    def _add(self, node: Node) -> None:
        cost = self._costs[node.key]
        heapq.heappush(self._open, (cost.total, cost.ahead, -node.depth, node.key, node))

    def push(self, children: list[Node]) -> None:
        """Take children in: cost them, drop duplicates, keep the open list within its cap."""
        self.pool += children
        for child in unique(children) if self._strategy.deduplicate else children:
            if child.score is None or child.drawn_from is None or self._is_duplicate(child):
                continue
            parent = self._costs[child.drawn_from.key]
            first = child.drawn_from is self._root
            self._costs[child.key] = child_cost(self._strategy.cost, parent, self._ahead(child.score), first=first)
            if child.finished and self._strategy.goal_test == "push":
                self.goals.append(child)
            elif child.finished or not child.done:
                self._add(child)
        if self._strategy.open_cap is not None and len(self._open) > self._strategy.open_cap:
            self._open = heapq.nsmallest(self._strategy.open_cap, self._open)

    def _is_duplicate(self, child: Node) -> bool:
        said = (child.digest, child.status)
        known = self._strategy.deduplicate and said in self._seen
        self._seen.add(said)
        return known

    def pop(self, count: int) -> list[Node]:
        """Return up to `count` paths to expand, cheapest first; finished ones on the way become goals."""
        popped: list[Node] = []
        strategy = self._strategy
        while self._open and len(popped) < count and len(self.goals) < strategy.goals:
            if self._expanded >= strategy.max_expansions:
                break
            node = heapq.heappop(self._open)[-1]
            if node.finished:
                self.goals.append(node)
            else:
                self._expanded += 1
                popped.append(node)
        return popped if len(self.goals) < strategy.goals else []

    def best_open(self) -> Node | None:
        """Return the cheapest path that can still be continued."""
        return next((entry[-1] for entry in sorted(self._open, key=lambda e: e[:-1]) if not entry[-1].done), None)

    def answer(self) -> Answer:
        """Choose the goal of least cost; without one, the cheapest finished path, or the cheapest of all."""

        def value(node: Node) -> float:
            cost = self._costs.get(node.key)
            return -math.inf if cost is None else -cost.total

        ranking = best(self.pool, value).ranking
        goals = sorted(self.goals, key=lambda node: (self._costs[node.key][:2], node.key))
        rest = [entry for entry in ranking if entry.node not in goals]
        ordered = (*map(Ranked, goals), *rest)
        return Answer(ordered[0].node if ordered else None, ordered)
