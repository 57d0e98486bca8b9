"""A run whose engine cannot be reached stops, says how to go on, and goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tts.benchmarks.failures import AT_FIRST, IN_A_ROW, Failures
from tts.benchmarks.results import Record, read_results
from tts.errors import BackendError, EngineDeadError
from tts.outcome import Ended
from tts.types import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.conftest import Bench


def record(error: str | None) -> Record:
    return Record(
        problem="toy-1", label="a", budget="unlimited", seed=0, answer=None, right=False, covered=False, error=error,
        ended=Ended.ERROR if error else Ended.DONE, usage=Usage(), session=0, at=0.0,
    )  # fmt: skip


def noted(*errors: str | None) -> int:
    """Return how many records are noted until the run stops, or all of them."""
    failures = Failures()
    for place, error in enumerate(errors):
        try:
            failures.note(record(error))
        except BackendError:
            return place + 1
    return len(errors)


GONE, BROKEN, BAD = "TransientError: no route", "BackendError: 500", "StrategyError: bad"


@pytest.mark.parametrize(
    ("errors", "stops"),
    [
        ([GONE] * 30, AT_FIRST),
        ([None, *[GONE] * 30], 1 + IN_A_ROW),
        ([*[GONE] * 9, None, *[GONE] * 19, None, *[GONE] * 19], 49),
        ([*[GONE] * 9, *[BROKEN] * 9], 18),
        ([*[GONE] * 5, *[BROKEN] * 30], 5 + AT_FIRST),
        ([BAD] * 50, 50),
        ([*[GONE] * 9, BAD, *[GONE] * 30], 10 + IN_A_ROW),
    ],
)
def test_only_failures_of_one_kind_in_a_row_stop_a_run(errors: Sequence[str | None], stops: int) -> None:
    assert noted(*errors) == stops


def test_one_dead_engine_is_enough() -> None:
    with pytest.raises(EngineDeadError, match="no core; once an engine is there again the same command goes on"):
        Failures().note(record("EngineDeadError: no core"))


async def test_a_server_that_cannot_be_reached_stops_the_run_and_errors_can_be_retried(bench: Bench) -> None:
    asked = bench.configuration(problems=30, in_flight=1)
    everything = [f"Question {number}" for number in range(1, 31)]
    with pytest.raises(BackendError, match=r"10 problems in a row failed.*out of order.*--retry-errors"):
        await bench.run(asked, bench.generator(*everything))
    kept = read_results(bench.path).records
    assert len(kept) == AT_FIRST
    again = await bench.run(asked, retry_errors=True)
    assert again.records[: len(kept)] == kept
    assert len(again.latest()) == 30 and not any(one.error for one in again.latest().values())


async def test_the_row_goes_on_from_one_strategy_to_the_next(bench: Bench) -> None:
    questions = [f"Question {number}" for number in range(1, 7)]
    with pytest.raises(BackendError, match="10 problems in a row"):
        await bench.run(bench.configuration("best_of_n", "self_consistency"), bench.generator(*questions))
    assert len({one.label for one in read_results(bench.path).records}) == 2
