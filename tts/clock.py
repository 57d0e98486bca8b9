"""The clock that everything uses unless a test brings its own."""

from __future__ import annotations

import anyio


class SystemClock:
    """The event loop's own time."""

    def now(self) -> float:
        """Seconds, monotonic."""
        return anyio.current_time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)
