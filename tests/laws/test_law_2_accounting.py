"""Law 2. What was sampled, read and scored is charged once, and the events sum to the outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

import tts
from tests.freely import search_freely
from tests.laws.benches import bench
from tests.laws.subjects import CASES, MAIN, label
from tts.budget import Budget
from tts.errors import BackendError
from tts.fakes import GENERATES, ScriptedGenerator, ScriptedVerifier, shuffled, tree_script
from tts.laws import Conditions, accounting
from tts.trace import read_trace
from tts.types import Completion, Finish, Sampling

if TYPE_CHECKING:
    from pathlib import Path

    from tts.graph import Node
    from tts.protocols import GenerationRequest, Sink, Strategy
    from tts.search import Search


@pytest.mark.parametrize(("loop", "strategy"), CASES, ids=label)
def test_the_law(loop: str, strategy: Strategy) -> None:
    anyio.run(accounting.check, bench(strategy, loop), backend=loop)


@pytest.mark.parametrize("strategy", MAIN, ids=label)
async def test_the_trace_file_sums_to_the_outcome(strategy: Strategy, tmp_path: Path) -> None:
    path = tmp_path / "it.trace.jsonl"
    outcome = await tts.solve(
        "What is it?", strategy=strategy, generator=ScriptedGenerator(tree_script(), shuffled(1)), trace=path,
        verifier=ScriptedVerifier(), sampling=Sampling(max_tokens=120, step_tokens=60), budget=Budget(samples=9),
    )  # fmt: skip
    trace = read_trace(path)[0]
    assert trace.generated() == outcome.usage.generated > 0
    assert trace.outcome is not None
    assert trace.outcome["usage"] == outcome.usage.model_dump(mode="json")


async def leave_after_one(s: Search) -> list[Node]:
    async with s.arrivals(s.root, 4, whole=True) as children:
        async for child in children:
            return [child]
    return []


async def test_what_an_abort_leaves_unseen_is_bounded() -> None:
    able = replace(GENERATES, exact_cancellation=False)
    trial = await search_freely(leave_after_one, Conditions(able=able, report_every=10**6, schedule=shuffled(3)))
    usage = trial.ended().usage
    assert usage.cancelled == 0
    missing = trial.generator.sampled - usage.generated
    assert 0 < missing <= usage.unobserved <= 3 * 120


class Liar(ScriptedGenerator):
    """Samples more than it was allowed."""

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        sink.finish(0, Completion("much", Finish.LENGTH, request.max_tokens + 5))


async def test_tokens_beyond_the_cap_are_charged_although_refused() -> None:
    with pytest.raises(BackendError, match="sampled 125 tokens where 120 were allowed") as refused:
        await tts.solve("What is it?", generator=Liar(tree_script()), sampling=Sampling(max_tokens=120))
    assert refused.value.outcome is not None
    assert refused.value.outcome.usage.generated == 125


async def test_an_empty_step_that_is_not_drawn_again_is_no_second_sample() -> None:
    async def body(s: Search) -> list[Node]:
        return await s.expand(s.root, 4)

    trial = await search_freely(body, Conditions(script=lambda path, seed: "\n\n", budget=Budget(samples=4)))
    usage = trial.ended().usage
    assert usage.samples == 4 == sum(request.count for request in trial.generator.calls)
    assert usage.failed == usage.generated == 8
