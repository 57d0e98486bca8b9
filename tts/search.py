"""The verbs with which a strategy grows its search graph."""

from __future__ import annotations

from collections import ChainMap
from typing import TYPE_CHECKING, TypeVar

import anyio

from tts import seeds
from tts.affinity import caller
from tts.aggregation import Aggregation
from tts.arrivals import Arrivals, Nodes, Order, Wanted, wanted_children
from tts.batch import Group
from tts.boundary import typed_errors
from tts.budget import Amounts
from tts.errors import BackendError, NeedsError, ParameterError, StrategyError
from tts.graph import Node, Origin, Status
from tts.groups import Block, unwrap
from tts.protocols import SEED_BLOCK
from tts.retry import call_with_retry
from tts.scoring import Scores, judge, scorable
from tts.steps import split_steps

if TYPE_CHECKING:
    import random
    from array import array
    from collections.abc import Awaitable, Callable, Sequence

    from tts.budget import Ledger
    from tts.protocols import Verifier
    from tts.run import Run
    from tts.types import Problem, Sampling

T = TypeVar("T")
Scored = bool | Aggregation
EMPTY_BATCHES = 1000
"""More in a row than any search has a use for: its loop does not see that nothing more can be drawn."""


class Search:
    """One search, or a part of one with its own share of the budget.

    Attributes:
        root: The node from which it grows; its path is empty.
        run: What it shares with the other searches of the same problem.
        ledger: What it may spend, holds, and has spent.
        critical_path: Sampled tokens waited for one after another so far.
        scores: What the verifiers have said, so that each path is paid for once; a part does not see its siblings'.
    """

    def __init__(
        self, run: Run, root: Node, ledger: Ledger, critical_path: int = 0, scores: Scores | None = None
    ) -> None:
        self.run = run
        self.root = root
        self.ledger = ledger
        self.critical_path = critical_path
        self.scores: Scores = ChainMap() if scores is None else scores
        self._randoms = 0
        self._empty_batches = 0

    @property
    def problem(self) -> Problem:
        """What is asked."""
        return self.run.problem

    @property
    def sampling(self) -> Sampling:
        """How text is drawn."""
        return self.run.sampling

    @property
    def exhausted(self) -> str | None:
        """The limit that cut a batch short or closed a block; None while nothing was refused."""
        return self.ledger.exhausted

    def random(self) -> random.Random:
        """Return a fresh random generator; the n-th one of a search is the same in every run of one seed."""
        self._randoms += 1
        return seeds.generator(self.run.seed, "search", self.root.key, self._randoms)

    async def expand(
        self, nodes: Nodes, n: int = 1, *, whole: bool = False, scored: Scored = False, sampling: Sampling | None = None
    ) -> list[Node]:
        """Draw `n` children of each node, one step each or, with `whole`, to the end of the path.

        A node listed twice gets twice as many children; one that is done is passed over. Tokens, samples and verifier
        calls for the whole batch are held before anything starts. Where they do not suffice, the longest prefix in key
        order that fits is drawn; once all of it has come and what it did not use is free again, the next; so the result
        is short, or empty, only when the budget has no room for one more child, and does not hang on timing.

        Args:
            nodes: The parents.
            n: Children a parent; one sequence each.
            whole: Draw to the end of the path instead of one step.
            scored: Have the verifier score each child; an Aggregation says how step scores become `Node.score`
                (True: the last step's).
            sampling: Temperature and the like for this batch only; caps and delimiters remain the run's.

        Returns:
            The children, in key order.

        Raises:
            TTSError: A backend or the verifier failed for good; everything paid for is in the graph and the ledger.
        """
        block = self._block(nodes, n, whole, scored, sampling, "key", drain=True)
        children: list[Node] = []
        async with block:
            async for child in block:
                children.append(child)  # noqa: PERF401 (what had come is kept when a deadline closes the block)
        children += block.drained()
        self._empty_batches = 0 if children else self._empty_batches + 1
        if self._empty_batches > EMPTY_BATCHES:
            raise StrategyError(f"the search goes on after {EMPTY_BATCHES} empty batches: end it when a batch is empty")
        return sorted(children, key=lambda child: child.key)

    def arrivals(
        self,
        nodes: Nodes,
        n: int = 1,
        *,
        whole: bool = False,
        scored: Scored = False,
        sampling: Sampling | None = None,
        order: Order = "key",
    ) -> Arrivals:
        """Like `expand`, but as an asynchronous context manager that yields children as they come; see `Arrivals`."""
        return self._block(nodes, n, whole, scored, sampling, order, drain=False)

    async def score(
        self, nodes: Sequence[Node], how: Aggregation = Aggregation.LAST, *, by: Verifier | None = None
    ) -> list[Node]:
        """Score nodes again, or for the first time, by the run's verifier or by another.

        Returns:
            The nodes that were scored: those with something to judge, up to what the budget allows, in key order.
            None of them, where the deadline comes before the scores.
        """
        verifier = self._verifier(by)
        able = [] if self._too_late() else [node for node in nodes if scorable(node, verifier)]
        wanted = sorted(able, key=lambda node: node.key)
        fits, held, refused = self.ledger.longest_prefix(self._score_cost(node, verifier, 0) for node in wanted)
        self.ledger.exhausted = refused or self.ledger.exhausted
        self.ledger.hold(held)
        scored: list[Node] = []
        try:
            async with Block(self.run, self.ledger):
                await judge(self, verifier, wanted[:fits], how)
                scored = wanted[:fits]
        finally:
            self.ledger.release(held)
        return scored

    async def transform(self, node: Node, text: str) -> Node:
        """Return a child of `node` that says `text`: a hint, a revision, "Wait". Nothing is sampled.

        Where the deadline comes before the generator has read the text, the child is cancelled and says nothing.
        """
        place = self.draws(node, 1)
        ids = await self._tokenize(text)
        child = Node(self.run.graph, node, place, "" if ids is None else text, Origin.GIVEN)
        child.token_ids = _packed(ids) if ids else None
        child.path_tokens += len(ids or ())
        child.steps = len(split_steps(child.text, self.sampling.delimiters))
        child.path_steps += child.steps
        full = child.path_tokens >= self.run.caps.path
        child.status = Status.CANCELLED if ids is None else Status.TRUNCATED if full else Status.OPEN
        self.run.graph.append(child)
        self.run.emit_node(child)
        return child

    async def _tokenize(self, text: str) -> Sequence[int] | None:
        run, ids = self.run, None
        random = seeds.generator(run.seed, "tokenize", text)

        async def attempt() -> Sequence[int]:
            async with run.limiter.places(order=caller().order):
                return await run.generator.tokenize(text)

        with typed_errors(BackendError, f"generator {run.generator.capabilities.name}"):
            async with Block(run, self.ledger):
                ids = await call_with_retry(attempt, run.retry, run.clock, random, deadline=run.deadline)
        return ids

    async def split(self, n: int, body: Callable[[Search], Awaitable[T]]) -> list[T]:
        """Run `body` on `n` sub-searches side by side, each with an equal share of what the budget has left.

        Shares are fixed beforehand, so that what one finds does not depend on how fast another is; what is left of
        them comes back. Returns the results in order.
        """
        parts = [(self._branch(ledger), share) for ledger, share in self.ledger.shares(n)]
        for _, share in parts:
            self.ledger.hold(share)
        try:
            return await _side_by_side([part for part, _ in parts], body)
        finally:
            for part, share in parts:
                self._join(part, share)

    def _branch(self, ledger: Ledger) -> Search:
        node = Node(self.run.graph, self.root, self.draws(self.root, 1), "", Origin.BRANCH)
        self.run.graph.append(node)
        self.run.emit_node(node)
        return Search(self.run, node, ledger, self.critical_path, self.scores.new_child())

    def _join(self, part: Search, share: Amounts) -> None:
        self.ledger.release(share)
        self.ledger.spend(part.ledger.spent)
        self.ledger.unobserved += part.ledger.unobserved
        self.ledger.exhausted = self.ledger.exhausted or part.ledger.exhausted
        self.critical_path = max(self.critical_path, part.critical_path)
        self.scores.update(part.scores.maps[0])

    def _block(
        self, nodes: Nodes, n: int, whole: bool, scored: Scored, sampling: Sampling | None, order: Order, *, drain: bool
    ) -> Arrivals:
        if n < 1:
            raise ParameterError(f"expand: n is {n}; at least one child is drawn")
        how = None
        if scored:
            how = scored if isinstance(scored, Aggregation) else Aggregation.LAST
            self._verifier(None)

        def plan(wanted: Wanted) -> tuple[list[Group], Wanted]:
            return self._plan(wanted, whole, how, sampling or self.sampling)

        return Arrivals(self, plan, wanted_children(nodes, n), how, order, drain)

    def _plan(
        self, wanted: Wanted, whole: bool, how: Aggregation | None, sampling: Sampling
    ) -> tuple[list[Group], Wanted]:
        if not wanted:
            return [], wanted
        if self._too_late():
            self._emit_batch([], whole, how)
            return [], wanted
        costs = {parent: self._costs(parent, whole, how) for parent in wanted}
        each = {parent: _sum(*costs[parent]) for parent in wanted}
        fits, held, refused = self.ledger.longest_prefix(
            each[parent] for parent in wanted for _ in range(wanted[parent])
        )
        if not fits:
            self.ledger.exhausted = refused
            self._emit_batch([], whole, how)
            return [], wanted
        self.ledger.hold(held)
        groups: list[Group] = []
        rest: Wanted = {}
        for parent, count in wanted.items():
            now = min(count, fits)
            fits -= now
            groups += self._groups(parent, now, costs[parent], whole, sampling)
            if count > now:
                rest[parent] = count - now
        self._emit_batch(groups, whole, how)
        return groups, rest

    def _emit_batch(self, groups: list[Group], whole: bool, how: Aggregation | None) -> None:
        if self.run.observers:
            drawn = sum(group.count for group in groups)
            self.run.emit("batch", parents=len(groups), drawn=drawn, whole=whole, scored=how is not None)

    def _groups(
        self, parent: Node, count: int, costs: tuple[Amounts, Amounts | None], whole: bool, sampling: Sampling
    ) -> list[Group]:
        groups = []
        while count:
            part = min(count, SEED_BLOCK)
            first = self.draws(parent, part)
            seed = seeds.request_seed(self.run.seed, parent.key, first)
            groups.append(
                Group(
                    parent,
                    first,
                    part,
                    seed=seed,
                    cap=costs[0].tokens,
                    cost=costs[0],
                    score_cost=costs[1],
                    sampling=sampling,
                    whole=whole,
                )
            )
            count -= part
        return groups

    def _costs(self, parent: Node, whole: bool, how: Aggregation | None) -> tuple[Amounts, Amounts | None]:
        run = self.run
        left = run.caps.path - parent.path_tokens
        cap = left if whole else min(left, run.caps.step)
        computed = run.prompt_length + parent.path_tokens
        if whole and run.sampling.thinking_tokens is not None:
            computed += computed + cap  # a path whose thinking is ended is sent once more, with what it thought
        cost = run.sampling_cost(cap, computed=computed)
        cost.samples = 1
        return cost, None if how is None else self._score_cost(parent, self._verifier(None), cap)

    def _score_cost(self, node: Node, verifier: Verifier, more: int) -> Amounts:
        return self.run.scoring_hold(verifier, self.run.prompt_length + node.path_tokens + more)

    def _verifier(self, other: Verifier | None) -> Verifier:
        verifier = other or self.run.verifier
        if verifier is None:
            raise NeedsError("scores were asked for, but the search has no verifier")
        return verifier

    def _too_late(self) -> bool:
        late = self.run.deadline is not None and self.run.clock.now() >= self.run.deadline
        if late:
            self.ledger.exhausted = "seconds"
        return late

    @staticmethod
    def draws(parent: Node, count: int) -> int:
        """Number the next `count` children of a node; return the first number."""
        first = parent.draws
        parent.draws += count
        return first


async def _side_by_side(parts: Sequence[Search], body: Callable[[Search], Awaitable[T]]) -> list[T]:
    results: dict[int, T] = {}

    async def work(place: int) -> None:
        results[place] = await body(parts[place])

    try:
        async with anyio.create_task_group() as tasks:
            for place in range(len(parts)):
                tasks.start_soon(work, place)
    except BaseExceptionGroup as group:
        first = unwrap(group)
    else:
        return [results[place] for place in range(len(parts))]
    raise first


def _sum(first: Amounts, second: Amounts | None) -> Amounts:
    total = Amounts()
    total.add(first)
    if second is not None:
        total.add(second)
    return total


def _packed(ids: Sequence[int]) -> array[int]:
    from array import array

    return array("i", ids)
