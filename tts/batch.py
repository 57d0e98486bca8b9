"""One request's worth of children, and the sink into which a generator delivers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts.errors import BackendError
from tts.graph import Node, Origin, Status, format_key
from tts.steps import is_empty_step, split_steps
from tts.types import Completion, Finish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tts.budget import Amounts, Ledger
    from tts.graph import Key
    from tts.run import Run
    from tts.types import Sampling


class Group:
    """Children of one parent, drawn in one request (and, after a fault, in requests for those still missing).

    `observed` counts the tokens seen of each child in flight or here; None where it has not been asked for. `empty`
    holds, for each child that said nothing at first, its second seed and what the first attempt took. `allowed` is the
    cap of the request under way, less than `cap` where thinking ends earlier. `origin` is the node whose children were
    asked for, the parent unless the group goes on after thinking.
    """

    __slots__ = (
        "allowed", "cap", "children", "cost", "count", "dropped", "empty", "first",
        "observed", "origin", "parent", "sampling", "score_cost", "seed", "stands_for", "start", "unscored", "whole",
    )  # fmt: skip

    def __init__(
        self,
        parent: Node,
        first: int,
        count: int,
        *,
        seed: int,
        cap: int,
        cost: Amounts,
        score_cost: Amounts | None,
        sampling: Sampling,
        whole: bool,
        stands_for: Key | None = None,
    ) -> None:
        self.parent = parent
        self.first = first
        self.count = count
        self.seed = seed
        self.cap = cap
        self.cost = cost
        self.score_cost = score_cost
        self.unscored = count if score_cost is not None else 0
        self.sampling = sampling
        self.whole = whole
        self.stands_for = stands_for
        self.start = 0
        self.allowed = cap
        self.origin = parent
        self.dropped = False
        self.observed: list[int | None] = [None] * count
        self.children: list[Node | None] = [None] * count
        self.empty: dict[int, tuple[int, int]] = {}

    def key(self, place: int) -> Key:
        """Return the key of the child at a place; of the child that it stands for, where it goes on after thinking."""
        return self.stands_for or (*self.parent.key, self.first + place)

    def thinks(self, tokens: int) -> bool:
        """Whether so many tokens, cut off, are the end of thinking rather than of the path."""
        return tokens == self.allowed < self.cap - max((spent for _, spent in self.empty.values()), default=0)

    def thought(self) -> int:
        """Return the tokens sampled before this group, where it goes on after thinking."""
        return sum(node.tokens for node in self.thinking())

    def thinking(self) -> list[Node]:
        """Return the nodes between origin and parent."""
        nodes: list[Node] = []
        node: Node | None = self.parent
        while node is not None and node is not self.origin:
            nodes.append(node)
            node = node.parent
        return nodes

    def seed_of(self, place: int) -> int:
        """Return the seed with which the child at a place is drawn."""
        return self.empty[place][0] if place in self.empty else self.seed + place

    def missing_runs(self) -> Iterator[tuple[int, int]]:
        """Yield (first place, count) of each unbroken run of children still to come."""
        start: int | None = None
        for place in range(self.count + 1):
            wanted = place < self.count and self.children[place] is None and place not in self.empty
            if wanted and start is None:
                start = place
            elif not wanted and start is not None:
                yield start, place - start
                start = None


def make_node(run: Run, group: Group, place: int, completion: Completion) -> Node:
    """Build the child, with the status that its finish reason and the path's caps give it."""
    node = Node(run.graph, group.parent, group.first + place, completion.text, Origin.SAMPLED)
    node.seed = group.seed_of(place)
    node.drawn_from = group.origin
    node.finish = completion.finish
    node.tokens = completion.tokens
    node.path_tokens += completion.tokens
    node.token_ids = completion.token_ids
    node.logprobs = completion.logprobs
    node.top_logprobs = completion.top_logprobs
    node.steps = len(split_steps(completion.text, run.sampling.delimiters))
    node.path_steps += node.steps
    node.status = _status(run, node, completion.finish)
    return node


def _status(run: Run, node: Node, finish: Finish) -> Status:
    if finish in (Finish.EOS, Finish.STOP):
        return Status.FINISHED
    if finish is Finish.LENGTH or node.path_tokens >= run.caps.path or node.path_steps >= run.sampling.max_steps:
        return Status.TRUNCATED
    return Status.OPEN


class GroupSink:
    """Receives the children of a group from place `offset` on."""

    __slots__ = ("_deliver", "_group", "_ledger", "_offset", "_progressed", "_run")

    def __init__(
        self,
        run: Run,
        ledger: Ledger,
        group: Group,
        offset: int,
        deliver: Callable[[Group, int, Completion], None],
        progressed: Callable[[], None],
    ) -> None:
        self._run = run
        self._ledger = ledger
        self._group = group
        self._offset = offset
        self._deliver = deliver
        self._progressed = progressed

    def prompt(self, *, cached: int, computed: int) -> None:
        """Count prompt tokens."""
        self._run.counts.prompt_cached += cached
        self._run.counts.prompt_computed += computed
        self._ledger.spend(self._run.sampling_cost(0, cached=cached, computed=computed))
        if self._run.observers:
            first = (*self._group.parent.key, self._group.first + self._offset)
            self._run.emit("prompt", key=format_key(first), cached=cached, computed=computed)

    def progress(self, index: int, tokens: int) -> None:
        """Note how far a child has come."""
        self._group.observed[self._offset + index] = tokens
        self._progressed()

    def finish(self, index: int, completion: Completion) -> None:
        """Take a child in."""
        place = self._offset + index
        if not 0 <= place < self._group.count or self._group.children[place] is not None:
            name = self._run.generator.capabilities.name
            raise BackendError(f"generator {name} delivered child {index}, which was not awaited")
        self._group.observed[place] = completion.tokens
        self._ledger.unobserved += completion.unobserved
        if completion.tokens > self._group.cap:
            name, cap = self._run.generator.capabilities.name, self._group.cap
            raise BackendError(f"generator {name} sampled {completion.tokens} tokens where {cap} were allowed")
        self._deliver(self._group, place, completion)


def is_empty(completion: Completion, sampling: Sampling) -> bool:
    """Whether a step says nothing although the model did not end the path."""
    return completion.finish is not Finish.EOS and is_empty_step(completion.text, sampling.delimiters)
