"""Runtimes that break laws 1 to 3: budget, accounting, determinism."""

from __future__ import annotations

from collections import ChainMap
from typing import TYPE_CHECKING, Any

import anyio

from tests.laws.mutants import mutant
from tests.laws.subjects import EarlyStop, InOrder, SideBySide, small
from tts import arrivals, batch, sampler, scoring, search
from tts.budget import Amounts, Ledger
from tts.groups import Block
from tts.run import Run
from tts.sampler import Sampler
from tts.scoring import judge
from tts.search import Search

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest import MonkeyPatch as Patch

    from tts.batch import Group
    from tts.graph import Key, Node
    from tts.types import Completion


@mutant(1, small("beam"))
def releases_nothing(patch: Patch) -> None:
    patch.setattr(Ledger, "release", lambda self, amounts: None)


@mutant(1, small("beam"))
def admits_everything(patch: Patch) -> None:
    def all_of_them(self: Ledger, costs: Iterable[Amounts]) -> tuple[int, Amounts, None]:
        total = Amounts()
        listed = list(costs)
        for cost in listed:
            total.add(cost)
        return len(listed), total, None

    patch.setattr(Ledger, "longest_prefix", all_of_them)


@mutant(1, small("best_of_n"))
def holds_no_verifier_calls(patch: Patch) -> None:
    patch.setattr(Search, "_score_cost", lambda self, node, verifier, more: Amounts())


@mutant(1, small("beam"))
def ignores_the_deadline(patch: Patch) -> None:
    async def sleep_through(self: Block, deadline: float) -> None:
        return None

    patch.setattr(Block, "_close", sleep_through)


@mutant(1, small("beam", lookahead=2))
def scores_past_the_deadline(patch: Patch) -> None:
    real = judge

    async def shielded(*given: Any) -> None:
        with anyio.CancelScope(shield=True):
            await real(*given)

    patch.setattr(search, "judge", shielded)


# Law 2: accounting.


@mutant(2, EarlyStop())
def charges_nothing_for_cancelled(patch: Patch) -> None:
    patch.setattr(Sampler, "settle", lambda self, group, place: self._ledger.release(group.cost))


@mutant(2, small("best_of_n"))
def charges_twice(patch: Patch) -> None:
    real = Ledger.spend

    def spend(self: Ledger, amounts: Amounts) -> None:
        real(self, amounts)
        real(self, amounts)

    patch.setattr(Ledger, "spend", spend)


@mutant(2, small("self_consistency"))
def forgets_failed_attempts(patch: Patch) -> None:
    def forget(self: Sampler, group: Group, place: int, tokens: int, reason: str) -> None:
        group.observed[place] = None

    patch.setattr(Sampler, "_charge_failure", forget)


@mutant(2, small("self_consistency"))
def reads_prompts_for_nothing(patch: Patch) -> None:
    patch.setattr(batch.GroupSink, "prompt", lambda self, *, cached, computed: None)


@mutant(2, small("best_of_n"))
def scores_for_nothing(patch: Patch) -> None:
    patch.setattr(scoring, "_charge", lambda search, verifier, calls, tokens: None)


@mutant(2, EarlyStop(whole=True))
def bounds_nothing_unseen(patch: Patch) -> None:
    real = Sampler.settle

    def settle(self: Sampler, group: Group, place: int) -> None:
        before = self._ledger.unobserved
        real(self, group, place)
        self._ledger.unobserved = before

    patch.setattr(Sampler, "settle", settle)


@mutant(2, small("self_consistency"))
def bounds_nothing_of_failed_attempts(patch: Patch) -> None:
    real = Sampler._charge_failure

    def charge(self: Sampler, *given: Any) -> None:
        before = self._ledger.unobserved
        real(self, *given)
        self._ledger.unobserved = before

    patch.setattr(Sampler, "_charge_failure", charge)


@mutant(2, small("best_of_n"))
def tries_verifiers_again_for_nothing(patch: Patch) -> None:
    real = scoring._charge
    patch.setattr(scoring, "_charge", lambda *given: real(*given) if given[-1] else None)


@mutant(2, small("self_consistency"))
def traces_no_failures(patch: Patch) -> None:
    real = Run.emit
    patch.setattr(Run, "emit", lambda self, kind, **data: None if kind == "failed" else real(self, kind, **data))


# Law 3: determinism.


@mutant(3, InOrder())
def sorts_by_arrival(patch: Patch) -> None:
    async def expand(self: Search, *given: Any, **options: Any) -> list[Node]:
        children = []
        async with self.arrivals(*given, **options, order="arrival") as block:
            async for child in block:
                children.append(child)  # noqa: PERF401 (an asynchronous comprehension would hide the order)
        return children

    patch.setattr(Search, "expand", expand)


@mutant(3, small("best_of_n"))
def numbers_draws_by_completion(patch: Patch) -> None:
    real = batch.make_node
    seen: dict[Node, int] = {}

    def make_node(run: Run, group: Group, place: int, completion: Completion) -> Node:
        node = real(run, group, place, completion)
        seen[group.parent] = seen.get(group.parent, -1) + 1
        node.key = (*group.parent.key, seen[group.parent])
        return node

    patch.setattr(sampler, "make_node", make_node)
    # What is handed out must still be found, under its new number.
    patch.setattr(arrivals.Arrivals, "_next_ready", _any_ready)


@mutant(3, InOrder())
def seeds_by_counting_requests(patch: Patch) -> None:
    made: list[int] = []
    real = Sampler._ask

    async def ask(self: Sampler, group: Group, offset: int, count: int) -> None:
        made.append(count)
        group.seed = len(made) * 4096
        await real(self, group, offset, count)

    patch.setattr(Sampler, "_ask", ask)


@mutant(3, small("best_of_n"))
def holds_inside_tasks(patch: Patch) -> None:
    real = Sampler._attempt

    async def attempt(self: Sampler, group: Group) -> None:
        fits, held, _ = self._ledger.longest_prefix([group.cost])
        if fits:
            self._ledger.hold(held)
            await real(self, group)
        else:
            self._miss(group.key(0))
            del group.children[:], group.observed[:]
            group.count = 0

    def plan(self: Search, wanted: dict[Node, int], *how: Any) -> tuple[list[Group], dict[Node, int]]:
        groups = [
            one
            for parent, count in wanted.items()
            for _ in range(count)
            for one in self._groups(parent, 1, self._costs(parent, how[0], how[1]), how[0], how[2])
        ]
        for group in groups:
            self.ledger.hold(group.score_cost or Amounts())
        return groups, {}

    patch.setattr(Sampler, "_attempt", attempt)
    patch.setattr(Search, "_plan", plan)


@mutant(3, SideBySide())
def parts_share_their_scores(patch: Patch) -> None:
    patch.setattr(ChainMap, "new_child", lambda self: self)


@mutant(3, EarlyStop())
def stops_by_arrival(patch: Patch) -> None:
    real = Search.arrivals
    patch.setattr(Search, "arrivals", lambda self, *given, **how: real(self, *given, **{**how, "order": "arrival"}))


def _any_ready(self: arrivals.Arrivals) -> tuple[Group, Node] | None:
    if not self._by_key:
        return None
    key: Key = min(self._by_key)
    return self._by_key.pop(key)
