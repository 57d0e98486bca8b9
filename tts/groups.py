"""Task groups that a deadline closes, and whose errors leave them as themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType
    from typing import Any, TypeVarTuple

    from tts.budget import Ledger
    from tts.protocols import Clock
    from tts.run import Run

    Arguments = TypeVarTuple("Arguments")


class Tasks:
    """A task group whose errors leave it as themselves."""

    def __init__(self) -> None:
        self._group = anyio.create_task_group()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            return bool(await self._group.__aexit__(kind, error, trace))
        except BaseExceptionGroup as group:
            first = unwrap(group)
        raise first

    def start_soon(self, work: Callable[[*Arguments], Coroutine[Any, Any, None]], *arguments: *Arguments) -> None:
        """Run `work` beside the block."""
        self._group.start_soon(work, *arguments)

    def cancel(self) -> None:
        """Cancel what runs, the block included."""
        self._group.cancel_scope.cancel()


class Timed(Tasks):
    """Tasks that live as long as the block: leaving it cancels them, and so does a moment of the clock, quietly."""

    def __init__(self, clock: Clock, deadline: float | None) -> None:
        super().__init__()
        self._clock = clock
        self._deadline = deadline

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._deadline is not None:
            self.start_soon(self._close, self._deadline)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.cancel()
        return await super().__aexit__(kind, error, trace)

    async def _close(self, deadline: float) -> None:
        await self._clock.sleep(max(0.0, deadline - self._clock.now()))
        self.cancel()


class Block(Timed):
    """Tasks of a search, which its deadline closes; its ledger says so then."""

    def __init__(self, run: Run, ledger: Ledger) -> None:
        super().__init__(run.clock, run.deadline)
        self._ledger = ledger

    async def _close(self, deadline: float) -> None:
        await super()._close(deadline)
        self._ledger.exhausted = "seconds"


def unwrap(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error in a group as itself, the others as notes on it; interrupts go before errors."""
    leaves = list(_leaves(group))
    first = next((leaf for leaf in leaves if not isinstance(leaf, Exception)), leaves[0])
    for other in leaves:
        if other is not first:
            first.add_note(f"at the same time: {type(other).__name__}: {other}")
    return first


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
