"""The one place where a failed call is made again."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import Field

from tts.errors import TransientError
from tts.types import Frozen

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from tts.protocols import Clock

T = TypeVar("T")


class Retry(Frozen):
    """How often and how patiently a transient fault is tried again: exponential backoff with full jitter."""

    attempts: int = Field(default=6, gt=0, description="calls in all")
    first_delay: float = Field(default=0.5, ge=0, description="seconds, at most, before the second call")
    longest_delay: float = Field(default=20.0, ge=0, description="seconds")

    def delay(self, failures: int, error: TransientError, random: random.Random) -> float:
        """Seconds to wait after that many failures; what the backend asked for is kept to."""
        if error.at_once and failures == 1:
            return 0.0
        ceiling = min(self.longest_delay, self.first_delay * 2.0 ** min(failures - 1, 1000))
        return max(error.delay or 0.0, random.uniform(0, ceiling))


async def call_with_retry(
    call: Callable[[], Awaitable[T]],
    retry: Retry,
    clock: Clock,
    random: random.Random,
    again: Callable[[TransientError], bool] = lambda _: True,
    deadline: float | None = None,
) -> T:
    """Call until it succeeds, fails for good, or has failed `retry.attempts` times.

    `again` is told of each transient fault before a further attempt and may refuse it (the fault is then raised).
    A search's deadline cancels the waiting from outside; where nothing does, `deadline` is a moment of the clock beyond
    which no further attempt is waited for.
    """
    for failures in range(1, retry.attempts + 1):
        try:
            return await call()
        except TransientError as error:
            if failures == retry.attempts or not again(error):
                error.add_note(f"tried {failures} times")
                raise
            delay = retry.delay(failures, error, random)
            if deadline is not None and clock.now() + delay > deadline:
                error.add_note(f"tried {failures} times, and there is no time to wait {delay:.3g} s for another")
                raise
            await clock.sleep(delay)
    raise AssertionError("attempts is at least one")
