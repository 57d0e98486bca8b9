"""Running, breaking off, taking up again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tts import registry
from tts.answers import ExactReader
from tts.benchmarks.results import Record, read_results
from tts.errors import (
    BackendError,
    BudgetError,
    EngineDeadError,
    FileFormatError,
    NeedsError,
    ParameterError,
    UnknownNameError,
)
from tts.outcome import Ended
from tts.testing import ScriptedGenerator, tree_script

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Bench


def figures(record: Record) -> dict[str, object]:
    """Return what of a record does not hang on the clock."""
    return record.model_dump(exclude={"at": True, "session": True, "usage": {"seconds", "verifier_seconds"}})


async def test_every_strategy_searches_every_problem_at_every_budget(bench: Bench) -> None:
    configuration = bench.configuration("best_of_n", "self_consistency", budgets=("10000tok", "20000tok"))
    results = await bench.run(configuration)
    keys = [record.key for record in results.records]
    assert len(keys) == len(set(keys)) == 2 * 2 * 6
    assert {key[:2] for key in keys} == {cell.key for cell in results.cells}
    assert {record.ended for record in results.records} == {Ended.DONE}
    assert read_results(bench.path) == results


async def test_answers_are_graded_by_the_task(bench: Bench) -> None:
    results = await bench.run(bench.configuration(problems=30))
    gold = {item.problem.id: item.gold for item in registry.task("toy").items()}
    for record in results.records:
        assert record.right == (record.answer == gold[record.problem])
        assert record.covered == (gold[record.problem] in {tried.answer for tried in record.tried})
        assert sum(tried.count for tried in record.tried) == 2
    assert 0 < sum(record.right for record in results.records) < sum(record.covered for record in results.records) < 30


async def test_a_finished_run_has_nothing_left_to_do(bench: Bench) -> None:
    first = await bench.run(bench.configuration())
    content = bench.path.read_bytes()
    generator = bench.generator()
    assert await bench.run(bench.configuration(), generator) == first
    assert not generator.calls
    assert bench.path.read_bytes() == content


async def test_a_run_that_was_broken_off_comes_to_the_same_figures(bench: Bench) -> None:
    configuration = bench.configuration("best_of_n", "self_consistency", problems=4)
    whole = await bench.run(configuration)
    content = bench.path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    begun = {size: content[:size].count(b'"kind":"record"') for size in ends}
    for size in [0, 3, ends[0] - 1, *ends, *(end - 7 for end in ends[1:])]:
        bench.path.write_bytes(content[:size])
        again = await bench.run(configuration)
        assert {key: figures(record) for key, record in again.latest().items()} == {
            key: figures(record) for key, record in whole.latest().items()
        }
        assert len(again.records) == len(whole.records)
        kept = max((begun[end] for end in ends if end <= size), default=0)
        assert {record.session for record in again.records[kept:]} <= {1 if kept else 0}


async def test_leaving_early_keeps_what_was_done(bench: Bench) -> None:
    class Stopped(BaseException):
        pass

    def stop(call: int) -> None:
        if call == 4:
            raise Stopped

    bench.more = stop
    with pytest.raises(Stopped):
        await bench.run(bench.configuration(in_flight=1))
    done = read_results(bench.path).records
    assert 3 <= len(done) <= 4
    bench.more = lambda _: None
    assert (await bench.run(bench.configuration(in_flight=1))).records[: len(done)] == done


async def test_another_configuration_is_refused_and_the_fields_are_named(bench: Bench) -> None:
    await bench.run(bench.configuration())
    content = bench.path.read_bytes()
    other = bench.configuration(seed=3, sampling={"temperature": 0.5})
    with pytest.raises(ParameterError, match="seed: 0 there, 3 here") as raised:
        await bench.run(other)
    assert "sampling.temperature: 0.8 there, 0.5 here" in str(raised.value)
    assert "problems" not in str(raised.value)
    assert bench.path.read_bytes() == content


async def test_another_engine_is_refused(bench: Bench) -> None:
    await bench.run(bench.configuration())
    generator = bench.generator()
    generator.able = replace(generator.able, fingerprint={"weights": "b"})
    with pytest.raises(ParameterError, match=r'generator.weights: null there, "b" here'):
        await bench.run(bench.configuration(), generator)


async def test_failed_searches_count_as_wrong_and_are_tried_again_when_asked(bench: Bench) -> None:
    results = await bench.run(bench.configuration(), bench.generator("Question 2", "Question 5"))
    failed = [record for record in results.records if record.ended is Ended.ERROR]
    assert {record.problem for record in failed} == {"toy-2", "toy-5"}
    assert len(results.records) == 6
    assert all(not record.right and not record.covered and record.error for record in failed)
    assert await bench.run(bench.configuration()) == results
    again = await bench.run(bench.configuration(), retry_errors=True)
    assert len(again.records) == 8
    assert all(record.error is None for record in again.latest().values())


async def test_a_search_that_failed_is_wrong_even_with_a_right_answer(bench: Bench) -> None:
    good = (await bench.run(bench.configuration(problems=20))).records
    right = [record.problem.replace("toy-", "Question ") for record in good if record.right]
    assert right
    bench.path.unlink()
    generator = bench.generator(*right)
    generator.late = True
    records = (await bench.run(bench.configuration(problems=20), generator)).records
    assert sum(record.ended is Ended.ERROR for record in records) == len(right)
    assert {record.answer for record in records if record.error} != {None}
    assert not any(record.right for record in records)
    assert not any(record.covered for record in records if record.error)


async def test_the_seed_and_the_task_decide(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    for seed in (0, 0, 1):
        bench.path.unlink(missing_ok=True)
        results = await bench.run(bench.configuration(problems=20, seed=seed))
        answers.append({record.problem: record.answer for record in results.records})
    assert answers[0] == answers[1] != answers[2]
    bench.path.unlink()
    monkeypatch.setitem(registry._added["task"], "toy", replace(registry.task("toy"), reader=ExactReader()))  # type: ignore[type-var]
    records = (await bench.run(bench.configuration())).records
    assert all(record.answer == record.text.strip() for record in records)


async def test_a_dead_engine_ends_the_run(bench: Bench) -> None:
    generator = bench.generator("Question 3", error=EngineDeadError)
    with pytest.raises(EngineDeadError, match="out of order"):
        await bench.run(bench.configuration(in_flight=1), generator)
    assert [record.problem for record in read_results(bench.path).records] == ["toy-1", "toy-2", "toy-3"]
    assert len((await bench.run(bench.configuration(in_flight=1))).latest()) == 6


async def test_progress_counts_up_to_the_end(bench: Bench) -> None:
    await bench.run(bench.configuration("best_of_n", "self_consistency"), bench.generator("Question 1"))
    for number, name in enumerate(("best_of_n", "self_consistency"), 1):
        told = [state for state in bench.progress if state.number == number]
        assert [state.done for state in told] == list(range(7))
        assert not any(state.sizing for state in told)
        assert told[-1].part == f"{name} unlimited"
        assert (told[-1].errors, told[-1].parts, told[-1].problems) == (1, 2, 6)
        assert told[-1].generated == sum(
            record.usage.generated for record in read_results(bench.path).records if record.label == name
        )


async def test_no_more_problems_are_searched_at_a_time_than_asked(bench: Bench) -> None:
    generator = bench.generator()
    most = 0

    def count(_: int) -> None:
        nonlocal most
        most = max(most, generator.running)

    bench.more = count
    await bench.run(bench.configuration(problems=20, in_flight=3), generator)
    assert most <= 3 * 2


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"task": "toyy"}, UnknownNameError, "did you mean toy"),
        ({"problems": 41}, ParameterError, "has 40 problems, not 41"),
        ({"contenders": [{"label": "a", "strategy": "beem"}]}, UnknownNameError, "did you mean beam"),
        ({"contenders": [{"label": "a", "strategy": "beam", "parameters": {"wide": 1}}]}, UnknownNameError, "width"),
        ({"contenders": [{"label": "a", "strategy": "beam", "parameters": {"width": 0}}]}, ParameterError, "width=0"),
        ({"contenders": [{"label": "a", "strategy": "beam", "size": "girth"}], "budgets": ["9tok"]},
         UnknownNameError, "girth"),
        ({"budgets": ["1usd"]}, BudgetError, "cannot be metered"),
    ],
)  # fmt: skip
async def test_what_cannot_be_measured_is_refused_before_anything_is_spent(
    bench: Bench, more: dict[str, Any], error: type[Exception], message: str
) -> None:
    generator = bench.generator()
    generator.able = replace(generator.able, dollars_per_token=None)
    with pytest.raises(error, match=message):
        await bench.run(bench.configuration(**more), generator)
    assert not generator.calls
    assert not bench.path.exists()


async def test_a_missing_verifier_is_refused_for_any_of_the_strategies(bench: Bench) -> None:
    from tts.benchmarks.runner import Backends, run_benchmark

    configuration = bench.configuration("self_consistency", "best_of_n", verifier=None)
    with pytest.raises(NeedsError, match="best_of_n needs a verifier"):
        await run_benchmark(configuration, Backends(bench.generator()), bench.path)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"problems": 0}, "problems=0"),
        ({"in_flight": -1}, "in_flight=-1"),
        ({"contenders": []}, "contenders"),
        ({"contenders": [{"label": "a.b", "strategy": "beam"}]}, "label 'a.b' of beam"),
        ({"contenders": [{"label": "a", "strategy": "beam"}] * 2}, "strategy a is given twice"),
        ({"budgets": ["9tok", "9tokens"]}, "budget 9tok is given twice"),
    ],
)
def test_configurations_out_of_range_are_refused(bench: Bench, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        bench.configuration(**more)


async def test_a_file_that_cannot_be_written_is_refused_before_strategies_are_sized(bench: Bench) -> None:
    bench.path.mkdir()
    generator = bench.generator()
    with pytest.raises(FileFormatError, match="cannot be written"):
        await bench.run(bench.configuration(contenders=[{"label": "a", "strategy": "best_of_n"}]), generator)
    assert not generator.calls


async def test_a_strategy_that_cannot_be_sized_says_why(bench: Bench) -> None:
    generator = ScriptedGenerator(tree_script(), faults=lambda _: BackendError("no memory"))
    sized = bench.configuration(contenders=[{"label": "a", "strategy": "best_of_n"}], budgets=["100tok"], pilot=2)
    with pytest.raises(BackendError, match=r"nothing can be sized: BackendError: no memory"):
        await bench.run(sized, generator)
