"""Equal budgets: strategies are sized so that they spend, on average, what they are given."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts import registry
from tts.benchmarks.configuration import Contender
from tts.benchmarks.pilot import FIRST, measure_spending
from tts.benchmarks.sizing import SPENT, known_spending, make_cell, next_size, resized, size_parameter
from tts.budget import Budget
from tts.errors import ParameterError
from tts.outcome import Ended
from tts.testing import ScriptedGenerator
from tts.types import Usage

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Bench
    from tts.benchmarks.results import Results
    from tts.setup import SolveOptions

NAMES = ("best_of_n", "self_consistency", "particle_filter", "first_finish", "beam", "a_star")


def sized(bench: Bench, *names: str, **more: Any) -> Any:
    contenders = [{"label": name, "strategy": name} for name in names]
    return bench.configuration(contenders=contenders, **{"problems": 20, "pilot": 20, **more})


def generated(results: Results, label: str) -> float:
    spent = [record.usage.generated for record in results.records if record.label == label]
    return sum(spent) / len(spent)


@pytest.mark.parametrize("name", NAMES)
async def test_strategies_spend_a_budget_in_tokens_on_average(bench: Bench, name: str) -> None:
    results = await bench.run(sized(bench, name, budgets=["1500tok"]))
    assert generated(results, name) == pytest.approx(1500, rel=0.25)
    assert {record.ended for record in results.records} == {Ended.DONE}
    cell = results.cells[0]
    assert cell.sized is not None and cell.sized.parameter == registry.find("strategy", name).scales_with
    assert cell.parameters[cell.sized.parameter] == cell.given[cell.sized.parameter] == cell.sized.value
    assert cell.limits == Budget()


async def test_under_a_hard_budget_no_problem_exceeds_it(bench: Bench) -> None:
    results = await bench.run(sized(bench, "best_of_n", budgets=["300tok"], hard=True, sampling={"max_tokens": 100}))
    assert results.cells[0].limits == Budget(tokens=300)
    assert max(record.usage.generated for record in results.records) <= 300
    assert {record.ended for record in results.records} == {Ended.BUDGET}


async def test_a_parameter_that_is_set_is_kept_and_the_budget_is_then_a_limit(bench: Bench) -> None:
    results = await bench.run(bench.configuration(budgets=["9999tok"]))
    cell = results.cells[0]
    assert (cell.sized, cell.limits, cell.given) == (None, Budget(tokens=9999), {"n": 2})


async def test_seconds_are_a_limit_of_each_problem(bench: Bench) -> None:
    results = await bench.run(sized(bench, "best_of_n", budgets=["64samples,60s"]))
    cell = results.cells[0]
    assert cell.limits == Budget(seconds=60)
    assert cell.given == {"n": 64}
    assert cell.budget == "64samples,60s"


async def test_without_a_limit_nothing_is_sized(bench: Bench) -> None:
    for budgets in ((), ("30s",)):
        bench.path.unlink(missing_ok=True)
        generator = bench.generator()
        results = await bench.run(sized(bench, "best_of_n", budgets=budgets, problems=2), generator)
        assert results.cells[0].given == {}
        assert len(generator.calls) == 2


async def test_the_tightest_of_several_limits_counts(bench: Bench) -> None:
    results = await bench.run(sized(bench, "best_of_n", budgets=["8samples,1Mtok", "800samples,300tok"]))
    few, short = results.cells
    assert few.given == {"n": 8}
    assert generated_at(results, short.budget) == pytest.approx(300, rel=0.25)


def generated_at(results: Results, budget: str) -> float:
    spent = [record.usage.generated for record in results.records if record.budget == budget]
    return sum(spent) / len(spent)


async def test_pilot_problems_are_those_that_follow_the_ones_measured(bench: Bench) -> None:
    generator = bench.generator()
    await bench.run(sized(bench, "best_of_n", budgets=["64samples"], problems=3, pilot=4), generator)
    asked = [call.prompt.text.strip() for call in generator.calls]
    assert set(asked[:-3]) == {f"Question {number}" for number in (4, 5, 6, 7)}
    assert set(asked[-3:]) == {f"Question {number}" for number in (1, 2, 3)}


async def test_where_no_problems_follow_the_first_ones_are_pilots(bench: Bench) -> None:
    generator = bench.generator()
    await bench.run(sized(bench, "best_of_n", budgets=["64samples"], problems=39, pilot=3), generator)
    asked = [call.prompt.text.strip() for call in generator.calls]
    assert set(asked[:-39]) == {"Question 40", "Question 1", "Question 2"}


@pytest.mark.parametrize(("wide", "problems"), [(False, FIRST), (True, 4 * FIRST)])
async def test_more_pilots_are_searched_where_spending_is_uneven(wide: bool, problems: int) -> None:
    lengths = iter([3, 60] * 50 if wide else [30] * 100)
    generator = ScriptedGenerator(lambda path, seed: "x" * next(lengths))
    options: SolveOptions = {"generator": generator, "strategy": registry.strategy("self_consistency", n=1)}
    told: list[tuple[int, int]] = []
    asked = [item.problem for item in registry.task("countdown").items(4 * FIRST)]
    spent = await measure_spending(asked, options, 1, lambda done, all: told.append((done, all)))
    assert told[-1] == (problems, problems)
    assert {of for _, of in told} == ({FIRST, 2 * FIRST, 4 * FIRST} if wide else {FIRST})
    assert spent["tokens"] == (32.5 if wide else 31)
    assert (spent["samples"], spent["verifier_calls"]) == (1, 0)


async def test_pilots_that_fail_are_left_out(bench: Bench) -> None:
    generator = bench.generator("Question 21", "Question 23")
    results = await bench.run(sized(bench, "best_of_n", budgets=["64samples"]), generator)
    assert results.cells[0].given == {"n": 64}


async def test_what_is_known_from_one_budget_helps_at_the_next(bench: Bench) -> None:
    first = await bench.run(sized(bench, "best_of_n", budgets=["8samples", "32samples", "128samples"]))
    assert [cell.given["n"] for cell in first.cells] == [8, 32, 128]
    # 32 is near what is known and taken untried; what it spent is known once it is measured; 128 is too far from it.
    assert [sorted(cell.sized.tried) for cell in first.cells if cell.sized] == [[8, 16], [8, 16], [8, 16, 32, 128]]


async def test_where_spending_grows_evenly_only_the_first_budget_takes_pilots(bench: Bench) -> None:
    generator = bench.generator()
    results = await bench.run(sized(bench, "best_of_n", budgets=[f"{8 * 2**k}samples" for k in range(5)]), generator)
    assert [cell.given["n"] for cell in results.cells] == [8, 16, 32, 64, 128]
    pilots = FIRST * (16 + 8)
    assert sum(call.count for call in generator.calls) == pilots + 20 * (8 + 16 + 32 + 64 + 128)


@pytest.mark.parametrize(
    ("spent", "untried"),
    [
        ({8: 80.0, 16: 160.0}, True),
        ({8: 80.0, 16: 190.0}, True),
        ({8: 80.0, 16: 300.0}, False),
        ({8: 80.0, 16: 81.0}, False),
        ({8: 80.0}, False),
        ({2: 20.0, 4: 40.0}, False),
    ],
)
async def test_a_size_is_taken_untried_only_near_where_spending_grew_evenly(
    spent: dict[int, float], untried: bool
) -> None:
    asked: list[int] = []

    async def measure(strategy: Any) -> dict[str, float]:
        asked.append(strategy.n)
        return {"tokens": 320.0}

    contender, known = (
        Contender(label="a", strategy="best_of_n"),
        {size: {"tokens": tokens} for size, tokens in spent.items()},
    )
    cell = await make_cell(contender, Budget(tokens=320), measure, known, hard=False)
    assert cell.sized is not None
    assert (asked == []) == untried
    assert (cell.sized.value not in cell.sized.tried) == untried


async def test_what_a_strategy_spent_within_a_limit_tells_nothing_of_its_size(bench: Bench) -> None:
    results = await bench.run(sized(bench, "best_of_n", budgets=["8samples", "8samples,60s"]))
    free, limited = results.cells
    usages = [Usage(samples=5), Usage(samples=6)]
    assert known_spending(free, usages)[8]["samples"] == 5.5
    assert known_spending(limited, usages)[8]["samples"] == 8
    assert known_spending(free, [])[8]["samples"] == 8


async def test_a_run_that_is_taken_up_again_is_not_sized_again(bench: Bench) -> None:
    configuration = sized(bench, "best_of_n", budgets=["500tok"], problems=4)
    first = await bench.run(configuration)
    bench.path.write_bytes(b"".join(bench.path.read_bytes().splitlines(keepends=True)[:2]))
    generator = bench.generator()
    again = await bench.run(configuration, generator)
    assert again.cells == first.cells
    assert len(generator.calls) == 4


def test_another_parameter_may_be_sized() -> None:
    contender = Contender(label="a", strategy="beam", parameters={"width": 2}, size="expansion")
    assert size_parameter(contender, Budget(tokens=9)) == "expansion"
    assert size_parameter(contender, Budget(seconds=9)) is None
    assert size_parameter(contender.model_copy(update={"size": None}), Budget(tokens=9)) is None


async def test_a_parameter_that_is_no_count_cannot_be_sized(bench: Bench) -> None:
    contenders = [{"label": "a", "strategy": "a_star", "size": "open_cap"}]
    with pytest.raises(ParameterError, match="open_cap is None by default"):
        await bench.run(bench.configuration(contenders=contenders, budgets=["9tok"]))


@given(st.integers(1, 1000), st.floats(0.001, 1000))
def test_the_second_size_is_the_nearest_where_spending_is_proportional(size: int, share: float) -> None:
    found = next_size({size: share})
    assert found == 1 or abs(found * share / size - 1) <= share / size * 0.5 * (1 + 1e-9)


@given(st.floats(0.5, 2), st.floats(1, 1e4), st.integers(1, 64))
def test_spending_that_is_a_power_of_size_is_fitted_in_two_steps(power: float, wanted: float, first: int) -> None:
    shares = {first: (first / wanted) ** power}
    second = next_size(shares)
    shares[second] = (second / wanted) ** power
    assert next_size(shares) in (max(1, math.floor(wanted)), max(1, math.ceil(wanted)))


def test_spending_that_does_not_grow_with_size_does_not_lead_away() -> None:
    assert next_size({4: 0.5, 8: 0.5}) == 8
    assert next_size({4: 0.5, 8: 0.4}) == 8
    assert next_size({5: 0.0}) == 5
    assert next_size({5: 0.0, 9: 2.0}) == 4


def test_sizes_stay_within_what_the_strategy_allows() -> None:
    contender = Contender(label="a", strategy="beam")
    assert resized(contender, "width", 10**9).model_dump()["width"] == 4096
    assert resized(contender, "width", 0).model_dump()["width"] == 1


def test_a_size_that_is_refused_gives_way_to_the_next_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    build = registry.strategy

    def only_multiples(given: Any, /, **parameters: Any) -> Any:
        if parameters["n"] % 4:
            raise ParameterError("n is no multiple of 4")
        return build(given, **parameters)

    monkeypatch.setattr(registry, "strategy", only_multiples)
    contender = Contender(label="a", strategy="best_of_n")
    assert resized(contender, "n", 11).model_dump()["n"] == 8
    with pytest.raises(ParameterError, match="multiple of 4"):
        resized(contender, "n", 3)


def test_every_limit_but_seconds_can_size_a_strategy() -> None:
    assert {*SPENT, "seconds"} == set(Budget.model_fields)
    assert set(SPENT.values()) <= set(Usage.model_fields)


def test_the_usual_sizes_are_parameters() -> None:
    for name in NAMES:
        kind = registry.find("strategy", name)
        assert kind.scales_with in kind.model_fields
