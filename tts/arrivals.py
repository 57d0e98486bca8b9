"""Children as they come, sampled and scored by tasks of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

import anyio
import anyio.lowlevel

from tts.batch import Group
from tts.budget import Amounts
from tts.errors import TTSError
from tts.graph import Key, Node, Status, format_key
from tts.groups import Block
from tts.sampler import Sampler
from tts.scoring import judge, scorable

if TYPE_CHECKING:
    from types import TracebackType

    from tts.aggregation import Aggregation
    from tts.protocols import Verifier
    from tts.search import Search

Order = Literal["key", "arrival"]
Nodes = Node | Sequence[Node]
Wanted = dict[Node, int]
"""How many children each parent is to get, parents in key order."""
Plan = Callable[[Wanted], tuple[list[Group], Wanted]]
"""Holds what fits into the budget, divides it into requests, and returns them with what did not fit."""


def wanted_children(nodes: Nodes, n: int) -> Wanted:
    """Count the children of each open node: `n` for each time that it is listed."""
    counts: Wanted = {}
    for node in [nodes] if isinstance(nodes, Node) else nodes:
        if not node.done:
            counts[node] = counts.get(node, 0) + n
    return {node: counts[node] for node in sorted(counts, key=lambda node: node.key)}


class Arrivals:
    """An asynchronous context manager over the children of one batch; leaving it cancels those still in flight.

    Iterating yields children in key order, each as soon as it and all before it are there, or in the order of arrival,
    which makes a strategy order-sensitive. What has been paid for but not consumed when the block is left is recorded
    as discarded. A deadline closes the block: iteration simply ends with it.
    """

    def __init__(
        self, search: Search, plan: Plan, wanted: Wanted, how: Aggregation | None, order: Order, drain: bool
    ) -> None:
        self._search = search
        self._run = search.run
        self._ledger = search.ledger
        self._plan = plan
        self._groups: list[Group] = []
        self._rest = wanted
        self._how = how
        self._order = order
        self._drain = drain
        self._tasks = Block(search.run, search.ledger)
        self._changed = anyio.Event()
        self._waiting = False
        self._is_short = False
        self._failed = False
        self._requests = 0
        self._unscored: list[tuple[Group, Node]] = []
        self._scoring = False
        self._ready: deque[tuple[Group, Node]] = deque()
        self._by_key: dict[Key, tuple[Group, Node]] = {}
        self._keys: deque[Key] = deque()
        self._gaps: set[Key] = set()
        self._sampler = Sampler(
            search, cancellable=not drain, hand_over=self._take, miss=self._gaps.add, wake=self._wake, spawn=self._spawn
        )

    async def __aenter__(self) -> Self:
        # An empty batch lets the event loop run too, so that whatever loops over such can be cancelled.
        await anyio.lowlevel.checkpoint()
        await self._tasks.__aenter__()
        self._begin()
        return self

    def extend(self, nodes: Nodes, n: int = 1) -> None:
        """Draw `n` more children of each node in this block: at once, or when there is room in the budget again."""
        for node, count in wanted_children(nodes, n).items():
            self._rest[node] = self._rest.get(node, 0) + count
        # In key order, what has room must not hang on what happens to have come: the next wave is planned at its end.
        if not self.waiting_for_room and (self._order == "arrival" or not (self._requests or self._unscored)):
            self._begin()

    @property
    def waiting_for_room(self) -> bool:
        """Whether children wait for what is in flight to leave room in the budget."""
        return self._is_short

    def _begin(self) -> bool:
        groups, self._rest = self._plan(self._rest)
        self._is_short = bool(self._rest)
        for group in groups:
            group.start = self._search.critical_path
            self._keys.extend(group.key(place) for place in range(group.count))
            self._spawn(group, partial(self._sampler.sample, group))
        return bool(groups)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            return await self._tasks.__aexit__(kind, error, trace)
        except TTSError as fault:
            self._failed = fault is not error
            raise
        finally:
            self._settle()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Node:
        while True:
            arrived = self._next_ready()
            if arrived is not None:
                group, node = arrived
                self._search.critical_path = max(self._search.critical_path, group.start + node.tokens)
                return node
            if self._requests or self._unscored:
                await self._change()
            elif not self._rest or not self._begin():
                raise StopAsyncIteration

    async def reach(self, tokens: int) -> None:
        """Wait until every child in flight is known to have more than `tokens` tokens, or has come."""
        while any(
            child is None and group.thought() + (seen or 0) <= tokens
            for group in self._groups
            if not group.dropped
            for child, seen in zip(group.children, group.observed, strict=True)
        ):
            await self._change()

    def drained(self) -> list[Node]:
        """Return what was ready when the block was left, for a reader that wants all of it."""
        return [node for _, node in (*self._ready, *self._by_key.values())]

    @property
    def ready(self) -> int:
        """How many children have come and were not read yet."""
        return len(self._ready) + len(self._by_key)

    def discard(self, nodes: Iterable[Node]) -> None:
        """Mark children that were read as not consumed, where only timing decided that they were read."""
        for child in nodes:
            for node in child.segment():
                self._discard(node)

    def _next_ready(self) -> tuple[Group, Node] | None:
        if self._order == "arrival":
            return self._ready.popleft() if self._ready else None
        while self._keys and self._keys[0] in self._gaps:
            self._keys.popleft()
        arrived = self._by_key.pop(self._keys[0], None) if self._keys else None
        if arrived is not None:
            self._keys.popleft()
        return arrived

    async def _change(self) -> None:
        self._changed = anyio.Event()
        self._waiting = True
        await self._changed.wait()

    def _wake(self) -> None:
        if self._waiting:
            self._waiting = False
            self._changed.set()

    def _spawn(self, group: Group | None, work: Callable[[], Awaitable[None]]) -> None:
        if group is not None:
            self._groups.append(group)
        self._requests += 1
        self._tasks.start_soon(self._work, work)

    async def _work(self, work: Callable[[], Awaitable[None]]) -> None:
        await work()
        self._requests -= 1
        self._wake()

    def _take(self, group: Group, node: Node) -> None:
        verifier = self._run.verifier
        if self._how is not None and verifier is not None and scorable(node, verifier):
            self._unscored.append((group, node))
            if not self._scoring:
                self._scoring = True
                self._tasks.start_soon(self._score, verifier, self._how)
        else:
            self._arrive(group, node)

    async def _score(self, verifier: Verifier, how: Aggregation) -> None:
        while self._unscored:
            batch = list(self._unscored)
            try:
                await judge(self._search, verifier, [node for _, node in batch], how)
            except BaseException:
                # Aborted or failed, it is charged already; what was held for it must not count beside that.
                for group, _ in batch:
                    self._ledger.release(group.score_cost or Amounts())
                    group.unscored -= 1
                raise
            del self._unscored[: len(batch)]
            for group, node in batch:
                self._arrive(group, node)
        self._scoring = False

    def _arrive(self, group: Group, node: Node) -> None:
        if group.score_cost is not None:
            self._ledger.release(group.score_cost)
            group.unscored -= 1
        if self._order == "arrival":
            self._ready.append((group, node))
        else:
            self._by_key[group.stands_for or node.key] = (group, node)
        self._wake()

    def _settle(self) -> None:
        # What scoring holds goes first: the scoring that was aborted is charged already.
        for group in self._groups:
            for _ in range(group.unscored):
                self._ledger.release(group.score_cost or Amounts())
        for group in self._groups:
            for place, child in enumerate(group.children):
                if child is None:
                    self._sampler.settle(group, place)
        # After a child's failure there is no consumed graph to keep apart: whatever has come may be answered from.
        if not self._failed:
            left = [node for _, node in self._unscored]
            self.discard(left if self._drain else [*left, *self.drained()])
            for group in self._groups:
                if group.origin is not group.parent and group.children[0] is None:
                    for node in group.thinking():
                        self._discard(node)

    def _discard(self, node: Node) -> None:
        node.status = Status.DISCARDED
        self._run.counts.discarded += node.tokens
        if self._run.observers:
            self._run.emit("status", key=format_key(node.key), status=node.status.value)
