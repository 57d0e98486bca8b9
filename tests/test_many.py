"""Many problems at once, and one problem as a stream of events."""

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import tts
from tts.errors import BackendError, NeedsError, ParameterError
from tts.fakes import ScriptedGenerator, at_once, shuffled, tree_script
from tts.outcome import Ended
from tts.types import Message, Problem, Sampling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tts.fakes import Schedule

SAMPLING = Sampling(max_tokens=120, step_tokens=60)


def problem(number: int) -> Problem:
    return Problem(messages=(Message(role="user", content=f"What is {number}?"),), id=f"p{number}")


def options(schedule: Schedule = at_once, n: int = 3) -> dict[str, Any]:
    return {
        "generator": ScriptedGenerator(tree_script(), schedule), "sampling": SAMPLING,
        "strategy": tts.strategy("self_consistency", n=n),
    }  # fmt: skip


async def test_outcomes_come_as_they_finish_one_a_problem() -> None:
    async with tts.solve_many(map(problem, range(9)), in_flight=4, **options(shuffled(1))) as outcomes:
        names = [outcome.problem async for outcome in outcomes]
    assert sorted(names) == [f"p{number}" for number in range(9)]


async def test_each_is_as_it_would_be_alone() -> None:
    async with tts.solve_many(map(problem, range(5)), **options(shuffled(2))) as outcomes:
        together = {outcome.problem: outcome async for outcome in outcomes}
    for number in range(5):
        alone = await tts.solve(problem(number), **options())
        assert (together[alone.problem].answer, together[alone.problem].candidates) == (alone.answer, alone.candidates)


async def test_problems_are_taken_no_faster_than_they_are_solved() -> None:
    taken: list[int] = []

    def endless() -> Iterator[Problem]:
        for number in count():
            taken.append(number)
            yield problem(number)

    async with tts.solve_many(endless(), in_flight=2, **options()) as outcomes:
        async for _ in outcomes:
            break
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
    # One was read; two wait in the buffer, and two more in the hands of their workers.
    assert len(taken) <= 1 + 2 + 2


async def test_problems_may_come_asynchronously() -> None:
    async def arriving() -> AsyncIterator[Problem]:
        for number in range(4):
            await anyio.lowlevel.checkpoint()
            yield problem(number)

    async with tts.solve_many(arriving(), in_flight=3, **options()) as outcomes:
        assert len([outcome async for outcome in outcomes]) == 4


async def test_what_one_does_wrong_is_its_own_outcome() -> None:
    given: list[Any] = [problem(1), "", problem(2), "x" * 5000]
    async with tts.solve_many(given, **options()) as outcomes:
        ended = {outcome.problem async for outcome in outcomes}
        assert ended == {"p1", "1", "p2", "3"}
    async with tts.solve_many(given, **options()) as outcomes:
        errors = sorted([outcome.error async for outcome in outcomes if outcome.error])
    assert [error.partition(":")[0] for error in errors] == ["ParameterError", "ProblemError"]


async def test_a_search_that_fails_leaves_the_others_alone() -> None:
    given = options()
    given["generator"] = ScriptedGenerator(tree_script(), faults=lambda call: BackendError("no") if call == 1 else None)
    async with tts.solve_many(map(problem, range(4)), in_flight=1, **given) as outcomes:
        ended = [outcome.ended async for outcome in outcomes]
    assert ended == [Ended.DONE, Ended.ERROR, Ended.DONE, Ended.DONE]


async def test_leaving_cancels_the_rest() -> None:
    given = options(shuffled(1), n=8)
    async with tts.solve_many(map(problem, range(50)), in_flight=5, **given) as outcomes:
        async for _ in outcomes:
            break
    assert given["generator"].running == 0


async def test_leaving_at_once_leaks_nothing() -> None:
    given = options(shuffled(1))
    async with tts.solve_many(map(problem, range(5)), **given):
        pass
    async with tts.stream(problem(1), **given):
        pass
    assert given["generator"].running == 0


async def test_no_problems_are_no_outcomes() -> None:
    async with tts.solve_many([], **options()) as outcomes:
        assert [outcome async for outcome in outcomes] == []


async def test_an_error_of_the_source_is_raised_as_itself() -> None:
    def broken() -> Iterator[Problem]:
        yield problem(1)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        async with tts.solve_many(broken(), in_flight=1, **options()) as outcomes:
            async for _ in outcomes:
                pass


async def test_an_error_of_the_reader_is_raised_as_itself() -> None:
    with pytest.raises(ZeroDivisionError):
        async with tts.solve_many(map(problem, range(5)), **options(shuffled(1))) as outcomes:
            async for _ in outcomes:
                raise ZeroDivisionError


async def test_it_must_be_entered_first() -> None:
    with pytest.raises(ParameterError, match=r"async with tts\.solve_many"):
        aiter(tts.solve_many([], **options()))
    with pytest.raises(ParameterError, match=r"async with tts\.stream"):
        aiter(tts.stream("What?", **options()))


async def test_what_cannot_work_is_refused_on_entering() -> None:
    with pytest.raises(NeedsError):
        async with tts.solve_many([problem(1)], strategy="beam", generator=ScriptedGenerator(tree_script())):
            pass
    with pytest.raises(ParameterError, match="in_flight is 0"):
        tts.solve_many([problem(1)], in_flight=0, **options())


async def test_a_stream_tells_what_happens_and_ends_with_the_outcome() -> None:
    async with tts.stream(problem(7), **options()) as events:
        kinds = [event.kind async for event in events]
        assert events.outcome is not None
        assert events.outcome.ended is Ended.DONE
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert kinds.count("node") == 3


async def test_a_stream_of_a_search_that_fails_raises_its_error_with_the_outcome() -> None:
    fault = BackendError("no more")
    given = options() | {"generator": ScriptedGenerator(tree_script(), faults=lambda call: fault)}
    kinds: list[str] = []
    with pytest.raises(BackendError) as raised:
        async with tts.stream(problem(7), **given) as events:
            async for event in events:
                kinds.append(event.kind)  # noqa: PERF401 (what came before the error is wanted)
    assert raised.value is fault
    assert fault.outcome is not None
    assert fault.outcome.ended is Ended.ERROR
    assert kinds[0] == "start"
    assert kinds[-1] == "end"


def test_synchronous_code_iterates_and_may_stop() -> None:
    outcomes = tts.solve_many_sync(map(problem, range(20)), in_flight=2, **options())
    assert len(list(islice(outcomes, 3))) == 3
    outcomes.close()  # type: ignore[attr-defined]
    events = list(tts.stream_sync(problem(3), **options()))
    assert events[-1].kind == "end"
    assert events[-1].data["outcome"]["ended"] == "done"
    assert list(tts.solve_many_sync([], **options())) == []
