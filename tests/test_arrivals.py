"""Children as they come: in key order or as they arrive, left early, closed by a deadline, watched while they grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.freely import search_freely
from tts.budget import Amounts, Budget
from tts.errors import BackendError
from tts.fakes import FakeClock, ScriptedGenerator, paced, shuffled, tree_script
from tts.graph import Status
from tts.laws import Conditions
from tts.laws.accounting import fault_at
from tts.types import Completion, Finish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tts.graph import Node
    from tts.protocols import GenerationRequest, Sink
    from tts.search import Search


def reading(order: str, seen: list[Node], stop: int = 99) -> Callable[[Search], Awaitable[list[Node]]]:
    async def body(s: Search) -> list[Node]:
        async with s.arrivals(s.root, 6, whole=True, order=order) as children:  # type: ignore[arg-type]
            async for child in children:
                seen.append(child)
                if len(seen) == stop:
                    break
        return seen

    return body


async def test_key_order_waits_for_the_first_and_arrival_order_does_not() -> None:
    by_key: list[Node] = []
    by_arrival: list[Node] = []
    await search_freely(reading("key", by_key), Conditions(schedule=shuffled(1)))
    await search_freely(reading("arrival", by_arrival), Conditions(schedule=shuffled(1)))
    assert [node.key for node in by_key] == [(place,) for place in range(6)]
    assert [node.arrival for node in by_arrival] == sorted(node.arrival for node in by_arrival)
    assert [node.key for node in by_arrival] != [node.key for node in by_key]
    assert {node.text for node in by_arrival} == {node.text for node in by_key}


@pytest.mark.parametrize("order", ["key", "arrival"])
async def test_what_was_not_read_is_cancelled_or_discarded(order: str) -> None:
    seen: list[Node] = []
    trial = await search_freely(reading(order, seen, stop=2), Conditions(schedule=shuffled(2)))
    graph = trial.ended().graph
    assert graph is not None
    others = [node for node in graph if node.parent is not None and node not in seen]
    assert len(others) == 4
    assert all(node.status in (Status.CANCELLED, Status.DISCARDED) for node in others)
    assert [node for node in graph.consumed() if node.parent is not None] == sorted(seen, key=lambda node: node.key)


async def test_a_deadline_ends_the_reading_and_keeps_what_was_read() -> None:
    clock = FakeClock()
    seen: list[Node] = []
    conditions = Conditions(clock=clock, schedule=paced(clock), budget=Budget(seconds=30))
    trial = await search_freely(reading("arrival", seen), conditions)
    outcome = trial.ended()
    assert 0 < len(seen) < 6
    assert all(node.tokens <= 30 for node in seen)
    assert (outcome.limit, outcome.usage.seconds) == ("seconds", 30)
    assert len(outcome.candidates) == len(seen)


async def test_after_the_deadline_nothing_starts() -> None:
    clock = FakeClock()

    async def body(s: Search) -> list[Node]:
        await clock.sleep(5)
        return await s.expand(s.root, 3)

    trial = await search_freely(body, Conditions(clock=clock, budget=Budget(seconds=5)))
    assert trial.ended().limit == "seconds"
    assert not trial.generator.calls


async def test_reach_waits_until_the_others_are_known_to_be_longer() -> None:
    sampled: list[int] = []

    async def body(s: Search) -> list[Node]:
        async with s.arrivals(s.root, 5, whole=True, order="arrival") as children:
            first = await anext(children)
            await children.reach(first.tokens)
            sampled.extend(seen or 0 for group in children._groups for seen in group.observed)
        return [first]

    trial = await search_freely(body, Conditions(schedule=shuffled(3)))
    first = trial.ended().candidates[0]
    assert min(sampled) >= first.tokens


async def test_more_may_be_drawn_in_a_block_that_runs() -> None:
    async def body(s: Search) -> list[Node]:
        seen: list[Node] = []
        async with s.arrivals(s.root, 2, order="arrival", scored=True) as children:
            async for child in children:
                seen.append(child)
                if len(seen) < 6 and not child.done:
                    children.extend(child, 2)
        return seen

    trial = await search_freely(body, Conditions(schedule=shuffled(1)))
    assert len(trial.ended().candidates) >= 6
    assert all(candidate.score is not None for candidate in trial.ended().candidates)


async def test_what_has_no_room_waits_for_it() -> None:
    async def body(s: Search) -> list[Node]:
        seen: list[Node] = []
        async with s.arrivals(s.root, 1, whole=True, order="arrival") as children:
            children.extend(s.root, 2)
            assert children.waiting_for_room
            async for child in children:
                seen.append(child)  # noqa: PERF401 (the block is what is tested)
        return seen

    trial = await search_freely(body, Conditions(budget=Budget(tokens=200)))
    assert [candidate.key for candidate in trial.ended().candidates] != []
    assert trial.ended().usage.generated <= 200


async def test_a_child_that_failed_for_good_raises_and_keeps_the_rest() -> None:
    fault = BackendError("no more")
    seen: list[Node] = []
    trial = await search_freely(reading("key", seen), Conditions(faults=lambda call: fault, schedule=shuffled(1)))
    assert trial.error is fault
    assert trial.outcome is not None
    assert [candidate.finished for candidate in trial.outcome.candidates] == [True]
    assert trial.ledger.held == Amounts()


async def test_a_fault_that_the_budget_cannot_bear_leaves_gaps_and_no_error() -> None:
    conditions = Conditions(faults=fault_at(0), budget=Budget(samples=6), schedule=shuffled(1))
    seen: list[Node] = []
    trial = await search_freely(reading("key", seen), conditions)
    assert trial.ended().limit == "samples"
    assert len(seen) == 1
    assert trial.ended().usage.samples == 6


class Odd(ScriptedGenerator):
    """Breaks its promises in the way that a test names."""

    way: str = ""

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        said = Completion("it is 4", Finish.EOS, 8)
        for place in {"missing": range(1), "twice": [0, 0], "beyond": [request.count], "below": [-1]}[self.way]:
            sink.finish(place, said)


BROKEN = {
    "missing": "returned without child 1 of 6",
    "twice": "delivered child 0, which was not awaited",
    "beyond": "delivered child 6, which was not awaited",
    "below": "delivered child -1, which was not awaited",
}


@pytest.mark.parametrize("way", BROKEN)
async def test_a_generator_that_breaks_its_promises_is_named(way: str) -> None:
    import tts

    generator = Odd(tree_script())
    generator.way = way
    with pytest.raises(BackendError, match=f"scripted {BROKEN[way]}"):
        await tts.solve("What?", strategy=tts.strategy("self_consistency", n=6), generator=generator)


async def test_a_block_that_is_never_entered_holds_nothing() -> None:
    async def body(s: Search) -> list[Node]:
        s.arrivals(s.root, 6)
        return []

    trial = await search_freely(body)
    assert trial.ledger.held == Amounts()
    assert not trial.generator.calls
