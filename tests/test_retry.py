"""The one place where a failed call is made again."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tts.errors import BackendError, TransientError
from tts.fakes import FakeClock
from tts.retry import Retry, call_with_retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def failing(*faults: Exception) -> tuple[Callable[[], Awaitable[str]], list[int]]:
    calls: list[int] = []

    async def call() -> str:
        calls.append(1)
        if len(calls) <= len(faults):
            raise faults[len(calls) - 1]
        return "done"

    return call, calls


async def test_it_is_made_again_until_it_works() -> None:
    call, calls = failing(TransientError("a"), TransientError("b"))
    clock = FakeClock()
    assert await call_with_retry(call, Retry(), clock, Random(1)) == "done"
    assert len(calls) == 3
    assert len(clock.sleeps) == 2
    assert 0 <= clock.sleeps[0] <= 0.5
    assert 0 <= clock.sleeps[1] <= 1.0


async def test_it_gives_up_and_says_how_often_it_tried() -> None:
    last = TransientError("c")
    call, calls = failing(TransientError("a"), TransientError("b"), last)
    with pytest.raises(TransientError, match="c") as raised:
        await call_with_retry(call, Retry(attempts=3, first_delay=0), FakeClock(), Random(1))
    assert raised.value is last
    assert last.__notes__ == ["tried 3 times"]
    assert len(calls) == 3


async def test_one_attempt_is_no_retry() -> None:
    call, calls = failing(TransientError("a"))
    with pytest.raises(TransientError):
        await call_with_retry(call, Retry(attempts=1), FakeClock(), Random(1))
    assert len(calls) == 1


@pytest.mark.parametrize("fault", [BackendError("for good"), ValueError("a bug")])
async def test_what_does_not_pass_is_not_tried_again(fault: Exception) -> None:
    call, calls = failing(fault)
    with pytest.raises(type(fault)) as raised:
        await call_with_retry(call, Retry(), FakeClock(), Random(1))
    assert raised.value is fault
    assert len(calls) == 1


async def test_the_caller_may_refuse_another_attempt() -> None:
    told: list[TransientError] = []

    def again(fault: TransientError) -> bool:
        told.append(fault)
        return len(told) < 2

    call, calls = failing(*[TransientError(str(place)) for place in range(9)])
    clock = FakeClock()
    with pytest.raises(TransientError, match="1"):
        await call_with_retry(call, Retry(attempts=9), clock, Random(1), again)
    assert len(calls) == 2
    assert len(clock.sleeps) == 1


async def test_what_the_backend_asks_for_is_kept_to() -> None:
    call, _ = failing(TransientError("busy", delay=90.0))
    clock = FakeClock()
    await call_with_retry(call, Retry(), clock, Random(1))
    assert clock.sleeps == [90.0]


async def test_what_needs_no_waiting_does_not_wait_the_first_time() -> None:
    call, _ = failing(*[TransientError("closed", at_once=True)] * 3)
    clock = FakeClock()
    await call_with_retry(call, Retry(), clock, Random(1))
    assert clock.sleeps[0] == 0
    assert all(clock.sleeps[1:])


async def test_no_attempt_is_waited_for_beyond_the_deadline() -> None:
    call, calls = failing(*[TransientError("busy", delay=9.0)] * 9)
    clock = FakeClock()
    with pytest.raises(TransientError, match="busy") as raised:
        await call_with_retry(call, Retry(), clock, Random(1), deadline=20.0)
    assert clock.sleeps == [9.0, 9.0]
    assert len(calls) == 3
    assert raised.value.__notes__ == ["tried 3 times, and there is no time to wait 9 s for another"]


@given(st.integers(1, 10**9), st.floats(0, 100), st.floats(0, 1000), st.integers(0, 2**32))
def test_delays_stay_within_their_ceiling_however_often_it_failed(
    failures: int, first: float, longest: float, seed: int
) -> None:
    delay = Retry(first_delay=first, longest_delay=longest).delay(failures, TransientError("x"), Random(seed))
    assert 0 <= delay <= min(longest, first * 2.0 ** min(failures - 1, 1000))


def test_delays_are_spread_out() -> None:
    retry = Retry(first_delay=1.0)
    delays = [retry.delay(3, TransientError("x"), Random(seed)) for seed in range(200)]
    assert min(delays) < 0.5
    assert max(delays) > 3.5


@pytest.mark.parametrize("given", [{"attempts": 0}, {"first_delay": -1}, {"longest_delay": float("nan")}, {"delay": 1}])
def test_what_is_no_patience_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Retry(**given)  # type: ignore[arg-type]
