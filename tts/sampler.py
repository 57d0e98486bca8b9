"""Drawing the children of one request: faults and empty steps tried again, thinking ended at its cap, all charged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tts.affinity import caller
from tts.batch import Group, GroupSink, is_empty, make_node
from tts.boundary import typed_errors
from tts.errors import BackendError, TransientError, UsageError
from tts.graph import Key, Node, Origin, Status, format_key
from tts.protocols import SEED_BLOCK, GenerationRequest
from tts.retry import call_with_retry
from tts.seeds import derive, generator, request_seed
from tts.thinking import allowed_tokens, closing
from tts.types import Completion, Finish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tts.search import Search


class Sampler:
    """Runs requests for a block of arrivals.

    `hand_over` takes each child, `miss` the key of one that will not come, `wake` is told of progress, and `spawn` runs
    what must happen beside the request.
    """

    def __init__(
        self,
        search: Search,
        *,
        cancellable: bool,
        hand_over: Callable[[Group, Node], None],
        miss: Callable[[Key], None],
        wake: Callable[[], None],
        spawn: Callable[[Group | None, Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._search = search
        self._run = search.run
        self._ledger = search.ledger
        self._cancellable = cancellable
        self._hand_over = hand_over
        self._miss = miss
        self._wake = wake
        self._spawn = spawn

    async def sample(self, group: Group) -> None:
        """Draw a group's children.

        Raises:
            BackendError: The generator failed for good, or broke its promises.
        """
        run = self._run
        random = generator(run.seed, "retry", group.parent.key, group.first)
        try:
            await call_with_retry(
                lambda: self._attempt(group), run.retry, run.clock, random, lambda error: self._may_retry(group, error)
            )
        except (TransientError, UsageError) as error:
            _forget_unless_begun(group, error)
            if not group.dropped:
                raise

    async def _attempt(self, group: Group) -> None:
        async with self._run.limiter.places(order=caller().order):
            await self._ask_all(group)

    async def _ask_all(self, group: Group) -> None:
        for offset, count in list(group.missing_runs()):
            await self._ask(group, offset, count)
        if (missing := next(group.missing_runs(), None)) is not None:
            name = self._run.generator.capabilities.name
            raise BackendError(f"generator {name} returned without child {missing[0]} of {group.count}")
        for place, (_, spent) in list(group.empty.items()):
            if group.children[place] is None:
                await self._redraw(group, place, spent)

    async def _redraw(self, group: Group, place: int, spent: int) -> None:
        # Within the child's own hold of tokens, so that whether there is room does not hang on what else has come.
        if spent >= group.cap or self._ledger.overdrawn():
            self._take(group, place, Completion("", Finish.LENGTH, 0), Status.DEAD)
        else:
            await self._ask(group, place, 1, spent)

    async def _ask(self, group: Group, offset: int, count: int, spent: int = 0) -> None:
        run, seed = self._run, group.seed_of(offset)
        group.allowed = allowed_tokens(run, group.parent, group.cap - spent, whole=group.whole)
        group.observed[offset : offset + count] = [0] * count
        if run.observers:
            run.emit("request", parent=format_key(group.parent.key), first=group.first + offset, count=count, seed=seed)
        path = group.parent.path()
        known = run.generator.capabilities.token_ids and not any(node.text and node.token_ids is None for node in path)
        request = GenerationRequest(
            prompt=run.prompt,
            text="".join(node.text for node in path),
            token_ids=[token for node in path for token in _spoken(node)] if known else (),
            count=count,
            seed=seed,
            max_tokens=group.allowed,
            delimiters=() if group.whole else run.sampling.delimiters,
            sampling=group.sampling,
            logprobs=run.logprobs,
            top_logprobs=run.top_logprobs,
            cancellable=self._cancellable,
        )
        sink = GroupSink(run, self._ledger, group, offset, self._deliver, self._wake)
        with typed_errors(BackendError, f"generator {run.generator.capabilities.name}"):
            await run.generator.generate(request, sink)

    def _may_retry(self, group: Group, error: TransientError) -> bool:
        _forget_unless_begun(group, error)
        for place, tokens in enumerate(group.observed):
            if tokens is not None and group.children[place] is None:
                self._charge_failure(group, place, tokens, "fault")
        if self._ledger.overdrawn():
            group.dropped = True
            for place, child in enumerate(group.children):
                if child is None:
                    self._miss(group.key(place))
        return not group.dropped

    def _charge_failure(self, group: Group, place: int, tokens: int, reason: Literal["fault", "empty"]) -> None:
        group.observed[place] = None
        self._charge(tokens, group.cost.samples)
        if reason == "fault" and not self._run.generator.capabilities.exact_cancellation:
            self._ledger.unobserved += group.allowed - tokens
        self._run.counts.failed += tokens
        if self._run.observers:
            self._run.emit("failed", key=format_key(group.key(place)), tokens=tokens, reason=reason)

    def _charge(self, tokens: int, samples: int = 1) -> None:
        cost = self._run.sampling_cost(tokens)
        cost.samples = samples
        self._ledger.spend(cost)

    def _deliver(self, group: Group, place: int, completion: Completion) -> None:
        status = None
        if is_empty(completion, self._run.sampling):
            if place not in group.empty:
                seed = derive(group.seed, place, "again") // SEED_BLOCK * SEED_BLOCK
                group.empty[place] = (seed, completion.tokens)
                self._charge_failure(group, place, completion.tokens, "empty")
                return
            status = Status.DEAD
        self._take(group, place, completion, status)

    def _take(self, group: Group, place: int, completion: Completion, status: Status | None) -> None:
        run = self._run
        node = make_node(run, group, place, completion)
        thought_out = status is None and completion.finish is Finish.LENGTH and group.thinks(completion.tokens)
        node.status = Status.OPEN if thought_out else status or node.status
        group.children[place] = node
        self._ledger.release(group.cost)
        self._charge(completion.tokens, group.cost.samples if group.observed[place] is not None else 0)
        run.graph.append(node)
        run.emit_node(node)
        if thought_out:
            self._end_thinking(group, node)
        else:
            self._hand_over(group, node)

    def _end_thinking(self, group: Group, node: Node) -> None:
        left = group.cap - node.tokens if group.whole else 0
        cost = self._run.sampling_cost(left, computed=(self._run.prompt_length + node.path_tokens) if left else 0)
        self._ledger.hold(cost)
        after = Group(
            node, 0, 1, seed=0, cap=cost.tokens, cost=cost, score_cost=group.score_cost, sampling=group.sampling,
            whole=True, stands_for=group.key(0) if group.stands_for else node.key,
        )  # fmt: skip
        after.start = group.start + node.tokens
        after.origin = group.origin
        group.unscored -= after.unscored
        self._spawn(after, lambda: self._go_on(after, step=not group.whole))

    async def _go_on(self, after: Group, *, step: bool) -> None:
        text = closing(self._run, after.parent)
        if text:
            after.parent = await self._search.transform(after.parent, text)
            if after.parent.status is Status.CANCELLED:
                return
        elif not step:
            after.parent.path_steps -= 1  # the step goes on in the next node, which counts it
            after.parent.steps -= 1
        after.cap = min(after.cap, self._run.caps.path - after.parent.path_tokens)
        if step or after.cap <= 0:
            after.parent.drawn_from = after.origin
            after.parent.status = after.parent.status if step else Status.TRUNCATED
            after.children[0] = after.parent
            self._ledger.release(after.cost)
            self._hand_over(after, after.parent)
            return
        after.first = self._search.draws(after.parent, 1)
        after.seed = request_seed(self._run.seed, after.parent.key, after.first)
        await self.sample(after)

    def settle(self, group: Group, place: int) -> None:
        """Close the account of a child that never came: what was seen of it is charged, what was not is bounded."""
        run = self._run
        self._ledger.release(group.cost)
        seen = group.observed[place]
        if seen is None:
            return
        node = Node(run.graph, group.parent, group.first + place, "", Origin.SAMPLED)
        node.seed = group.seed_of(place)
        node.status = Status.CANCELLED
        node.tokens = seen
        node.drawn_from = group.origin
        self._charge(seen, group.cost.samples)
        if not run.generator.capabilities.exact_cancellation:
            self._ledger.unobserved += group.cap - seen
        run.counts.cancelled += seen
        run.graph.append(node)
        run.emit_node(node)


def _forget_unless_begun(group: Group, error: TransientError | UsageError) -> None:
    """Let children of which nothing was seen count as not asked for, where the engine never began them."""
    if isinstance(error, TransientError) and error.began:
        return
    for place, tokens in enumerate(group.observed):
        if tokens == 0 and group.children[place] is None:
            group.observed[place] = None


def _spoken(node: Node) -> Sequence[int]:
    """Return the tokens that a step's text consists of: a path that goes on has no end of sequence in it."""
    ids: Sequence[int] = node.token_ids or ()
    return ids[:-1] if node.finish is Finish.EOS else ids
