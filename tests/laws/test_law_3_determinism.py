"""Law 3. What is consumed and answered hangs on the seed, not on timing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import tts
from tests.laws.benches import bench
from tests.laws.subjects import CASES, EVERY, MAIN, EarlyStop, label
from tts import registry
from tts.backends.replay import Replay
from tts.budget import Budget
from tts.fakes import ScriptedGenerator, ScriptedVerifier, shuffled, tree_script
from tts.laws import Conditions, Trial, determinism
from tts.trace import read_trace
from tts.types import Sampling

if TYPE_CHECKING:
    from pathlib import Path

    from tts.outcome import Outcome
    from tts.protocols import Strategy

SENSITIVE = [strategy for strategy in EVERY if strategy.order_sensitive]
SAMPLING = Sampling(max_tokens=120, step_tokens=60)


@pytest.mark.parametrize(("loop", "strategy"), CASES, ids=label)
def test_the_law(loop: str, strategy: Strategy) -> None:
    anyio.run(determinism.check, bench(strategy, loop), backend=loop)


@pytest.mark.parametrize("strategy", [one for one in MAIN if not one.order_sensitive], ids=label)
def test_both_event_loops_search_alike(strategy: Strategy) -> None:
    conditions = Conditions(schedule=shuffled(5), judging=shuffled(6), budget=Budget(tokens=400))
    first, other = (anyio.run(Trial(strategy, conditions).run, backend=loop) for loop in ("asyncio", "trio"))
    determinism.same_search(first, other)


def test_another_seed_searches_otherwise() -> None:
    first, other = (anyio.run(Trial(MAIN[0], Conditions(seed=seed)).run) for seed in (1, 2))
    assert first.consumed() != other.consumed()


def test_some_strategies_are_ruled_by_arrival() -> None:
    assert {"a_star", "first_finish"} <= {strategy.name for strategy in SENSITIVE}


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("strategy", [*SENSITIVE, EarlyStop(whole=True)], ids=label)
async def test_a_trace_reproduces_what_arrival_ruled(
    strategy: Strategy, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._added["strategy"], strategy.name, type(strategy))
    path = tmp_path / "it.trace.jsonl"
    outcome = await tts.solve(
        "What is it?", strategy=strategy, generator=ScriptedGenerator(tree_script(), shuffled(seed)),
        verifier=ScriptedVerifier(schedule=shuffled(seed + 1)), sampling=SAMPLING, trace=path,
    )  # fmt: skip
    trace = read_trace(path)[0]
    again = await tts.solve(trace.problem, **Replay(trace).options())
    assert consumed(again) == consumed(outcome)
    assert (again.answer, again.candidates) == (outcome.answer, outcome.candidates)
    assert again.usage.generated == outcome.usage.generated


def consumed(outcome: Outcome) -> list[tuple[object, ...]]:
    assert outcome.graph is not None
    return [(node.key, node.status, node.text, node.score, node.arrival) for node in outcome.graph.consumed()]
