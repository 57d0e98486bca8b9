"""Law 6. A search that is left leaves nothing running, borrowed, held or uncharged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.freely import search_freely
from tests.laws.benches import bench
from tests.laws.subjects import CASES, label
from tts.budget import Amounts
from tts.fakes import shuffled
from tts.graph import Status
from tts.laws import Conditions, cancellation

if TYPE_CHECKING:
    from tts.graph import Node
    from tts.laws import Trial
    from tts.protocols import Strategy
    from tts.search import Search


@pytest.mark.parametrize(("loop", "strategy"), CASES, ids=label)
def test_the_law(loop: str, strategy: Strategy) -> None:
    anyio.run(cancellation.check, bench(strategy, loop), backend=loop)


async def leave_after_one(s: Search) -> list[Node]:
    async with s.arrivals(s.root, 6, whole=True, scored=True) as children:
        async for child in children:
            return [child]
    return []


async def leave_at_once(s: Search) -> list[Node]:
    async with s.arrivals(s.root, 6, whole=True, scored=True):
        pass
    return []


@pytest.mark.parametrize("concurrency", [64, 1])
@pytest.mark.parametrize("body", [leave_after_one, leave_at_once])
async def test_leaving_a_block_aborts_its_requests(body: object, concurrency: int) -> None:
    conditions = Conditions(schedule=shuffled(2), judging=shuffled(3, 60), concurrency=concurrency)
    trial: Trial = await search_freely(body, conditions)  # type: ignore[arg-type]
    usage = trial.ended().usage
    assert trial.generator.running == 0
    assert trial.limiter is not None
    assert trial.limiter.taken == 0
    assert trial.ledger.held == Amounts()
    assert usage.generated == trial.generator.sampled


async def test_what_an_abort_cost_is_charged_and_kept_as_cancelled() -> None:
    trial = await search_freely(leave_after_one, Conditions(schedule=shuffled(2)))
    usage = trial.ended().usage
    assert usage.cancelled > 0
    assert trial.of_status(Status.CANCELLED) == usage.cancelled
    whole = await search_freely(lambda s: s.expand(s.root, 6, whole=True), Conditions())
    assert usage.generated < whole.ended().usage.generated
