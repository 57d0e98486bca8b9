"""What trying three forms of the runtime taught, a test each."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

import tts
from tests.freely import search_freely
from tests.laws.subjects import CASES, WILD, InOrder, SideBySide, label, small
from tests.sources import sources
from tts.budget import Budget
from tts.errors import BackendError, BudgetError
from tts.fakes import FakeClock, ScriptedGenerator, paced, shuffled, tree_script
from tts.graph import Status
from tts.laws import LAWS, Bench, Conditions, LawBroken, Trial
from tts.outcome import Ended
from tts.strategies import particle_filter
from tts.strategies.beam import Beam
from tts.strategies.particle_filter import ParticleFilter

if TYPE_CHECKING:
    from tts.graph import Node
    from tts.protocols import Strategy
    from tts.search import Search

HELD = {"create_task_group", "CancelScope", "move_on_after", "move_on_at", "fail_after", "fail_at", "Block"}


def test_no_asynchronous_generator_holds_a_group_or_a_deadline_across_a_yield() -> None:
    assert [source.module for source in sources() if any(map(holds_across_a_yield, asynchronous(source.tree)))] == []
    wrong = "async def f():\n  async with anyio.create_task_group() as tasks:\n    yield tasks"
    assert any(map(holds_across_a_yield, asynchronous(ast.parse(wrong))))


def asynchronous(tree: ast.Module) -> list[ast.AsyncFunctionDef]:
    return [part for part in ast.walk(tree) if isinstance(part, ast.AsyncFunctionDef)]


def holds_across_a_yield(function: ast.AsyncFunctionDef) -> bool:
    blocks = [part for part in ast.walk(function) if isinstance(part, (ast.With, ast.AsyncWith))]
    yielding = [block for block in blocks if any(isinstance(part, ast.Yield) for part in ast.walk(block))]
    parts = [part for block in yielding for item in block.items for part in ast.walk(item)]
    return any(getattr(part, "attr", getattr(part, "id", "")) in HELD for part in parts)


async def test_what_arrives_while_the_reader_leaves_is_paid_recorded_and_discarded() -> None:
    async def body(s: Search) -> list[Node]:
        async with s.arrivals(s.root, 3, whole=True) as children:
            async for child in children:
                while len(s.run.graph) < 4:
                    await anyio.lowlevel.checkpoint()
                return [child]
        return []

    trial = await search_freely(body, Conditions(schedule=shuffled(1)))
    outcome = trial.ended()
    assert outcome.graph is not None
    discarded = [node for node in outcome.graph if node.status is Status.DISCARDED]
    assert len(discarded) == 2
    assert outcome.usage.discarded == sum(node.tokens for node in discarded) > 0
    assert outcome.usage.generated == trial.generator.sampled
    assert outcome.usage.cancelled == 0


async def test_parts_on_one_budget_answer_alike_in_every_schedule() -> None:
    free = (await Trial(SideBySide(), Conditions()).run()).ended().usage
    budget = Budget(verifier_calls=free.verifier_calls // 2, tokens=free.generated // 2 + 120)
    seen = set()
    for seed in range(12):
        conditions = Conditions(budget=budget, schedule=shuffled(seed), judging=shuffled(seed, 30))
        seen.add((await Trial(SideBySide(), conditions).run()).verdict())
    assert len(seen) == 1


async def test_copies_draw_differently_because_draws_are_counted_per_parent() -> None:
    async def body(s: Search) -> list[Node]:
        twice = await s.expand([s.root, s.root])
        again = await s.expand(s.root)
        return twice + again

    trial = await search_freely(body)
    assert trial.ended().graph is not None
    nodes = [node for node in trial.ended().graph or () if node.parent is not None]
    assert [node.key for node in nodes] == [(0,), (1,), (2,)]
    assert len({node.seed for node in nodes}) == 3


async def test_selection_reads_the_graph_and_not_the_last_batch() -> None:
    def fading(path: str) -> float:
        return 0.94 if path.count("\n\n") == 1 and "answer" in path else 0.3

    beam = Beam(width=2, expansion=4, finished_slots="refill")
    free = (await Trial(beam, Conditions(value=fading)).run()).ended()
    cut = Budget(tokens=free.usage.generated // 2 + 60)
    outcome = (await Trial(beam, Conditions(value=fading, budget=cut)).run()).ended()
    assert outcome.ended is Ended.BUDGET
    assert outcome.candidates[0].score == 0.94
    assert outcome.graph is not None
    last = [node for node in outcome.graph if node.parent is not None][-4:]
    assert all(node.score != 0.94 for node in last), "the best came early"


async def test_a_loop_tests_for_its_end_before_it_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    resampled: list[bool] = []
    real = ParticleFilter._resampled

    def watched(self: ParticleFilter, s: Search, particles: list[Node], steps: int) -> list[Node]:
        resampled.append(all(particle.done for particle in particles))
        return real(self, s, particles, steps)

    monkeypatch.setattr(particle_filter.ParticleFilter, "_resampled", watched)
    await Trial(ParticleFilter(n=5), Conditions()).run()
    assert resampled
    assert not any(resampled)


@pytest.mark.parametrize(("strategy", "parameter"), [("particle_filter", "finished"), ("beam", "finished_slots")])
def test_whether_the_finished_stay_is_a_parameter(strategy: str, parameter: str) -> None:
    assert parameter in tts.registry.find("strategy", strategy).model_fields


@pytest.mark.parametrize(("loop", "strategy"), [case for case in CASES if case[1] not in WILD], ids=label)
def test_nothing_affordable_is_an_outcome_like_any_other(loop: str, strategy: Strategy) -> None:
    for budget in (Budget(tokens=1), Budget(flops=1), Budget(dollars=1e-6)):
        trial = anyio.run(Trial(strategy, Conditions(budget=budget)).run, backend=loop)
        outcome = trial.ended()
        assert outcome.ended is Ended.BUDGET
        assert outcome.limit is not None
        assert outcome.answer is None
        assert outcome.usage.generated == 0
        assert not trial.generator.calls


async def test_a_deadline_closes_the_block_and_keeps_what_had_come() -> None:
    async def body(s: Search) -> list[Node]:
        first = await s.expand(s.root, 2)
        return first + await s.expand([node for node in first if not node.done], 4, whole=True)

    clock = FakeClock()
    conditions = Conditions(budget=Budget(seconds=9), clock=clock, schedule=paced(clock))
    outcome = (await search_freely(body, conditions)).ended()
    assert (outcome.ended, outcome.limit) == (Ended.BUDGET, "seconds")
    assert [len(candidate.key.split(".")) for candidate in outcome.candidates] == [1, 1]
    assert outcome.usage.seconds == 9


@pytest.mark.parametrize("limit", ["dollars", "flops"])
async def test_only_what_cannot_be_metered_raises_and_before_the_start(limit: str) -> None:
    from dataclasses import replace

    generator = ScriptedGenerator(tree_script())
    generator.able = replace(generator.able, dollars_per_token=None, flops_per_token=None)
    with pytest.raises(BudgetError, match=f"{limit} cannot be metered: scripted"):
        await tts.solve("What?", generator=generator, budget=Budget(**{limit: 5}))
    assert not generator.calls


async def test_errors_leave_nested_groups_as_themselves_and_the_others_as_notes() -> None:
    cause = ValueError("the root of it")

    async def fail(s: Search) -> list[Node]:
        try:
            if s.root.key[-1] % 2:
                await anyio.sleep_forever()
        finally:
            raise BackendError(f"part {s.root.key} failed") from cause

    async def body(s: Search) -> list[Node]:
        async with s.arrivals(s.root, 2) as children:
            async for _ in children:
                await s.split(2, fail)
        return []

    trial = await search_freely(body)
    assert isinstance(trial.error, BackendError)
    assert trial.error.__cause__ is cause
    assert "failed" in str(trial.error)
    notes = getattr(trial.error, "__notes__", [])
    assert len(notes) == 1
    assert "at the same time: BackendError: part" in notes[0]


async def test_a_missing_sort_goes_unseen_by_total_orders_but_not_by_the_order_dependent_strategy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.laws.mutants_of_the_books import sorts_by_arrival

    sorts_by_arrival(monkeypatch)
    await LAWS[3](Bench(small("best_of_n")))
    with pytest.raises(LawBroken):
        await LAWS[3](Bench(InOrder()))


async def test_an_empty_graph_has_no_best() -> None:
    async def body(s: Search) -> list[Node]:
        return await s.expand([], 3)

    outcome = (await search_freely(body)).ended()
    assert outcome.candidates == ()
    assert outcome.ended is Ended.NO_ANSWER
