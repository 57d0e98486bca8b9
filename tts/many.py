"""Many problems at once, and one problem as a stream of events: asynchronous context managers that own their tasks."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import anyio
from anyio.from_thread import start_blocking_portal

from tts.errors import ParameterError, TTSError, UsageError
from tts.groups import unwrap
from tts.outcome import Ended, Outcome
from tts.registry import positive
from tts.setup import ProblemLike, Setup, SolveOptions, as_problem, prepare
from tts.solve import solve_prepared
from tts.types import Event, Usage

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Unpack

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

T = TypeVar("T")


class _Stream(Generic[T]):
    """Items that tasks of this context manager send; leaving it cancels them."""

    def __init__(self, options: SolveOptions, buffer: float) -> None:
        self._options = options
        self._buffer = buffer
        self._setup: Setup | None = None
        self._receive: MemoryObjectReceiveStream[T] | None = None
        self._error: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._setup = await prepare(self._options)
        send, self._receive = anyio.create_memory_object_stream[T](self._buffer)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run, self._setup, send)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._receive is not None and self._setup is not None
        self._tasks.cancel_scope.cancel()
        try:
            closed = bool(await self._tasks.__aexit__(kind, error, trace))
        except BaseExceptionGroup as group:
            first = unwrap(group)
        else:
            if kind is None and self._error is not None:
                raise self._error
            return closed
        finally:
            self._receive.close()
            await self._setup.aclose()
        raise first

    def __aiter__(self) -> AsyncIterator[T]:
        if self._receive is None:
            name = "solve_many" if isinstance(self, SolveMany) else "stream"
            raise ParameterError(f"write `async with tts.{name}(...) as items: async for item in items`: it owns tasks")
        return self._receive

    async def _run(self, setup: Setup, send: MemoryObjectSendStream[T]) -> None:
        # An error ends the iteration and is raised on leaving, so that what came before it can be read.
        async with send:
            try:
                await self._work(setup, send)
            except ExceptionGroup as group:
                self._error = unwrap(group)
            except Exception as error:
                self._error = error

    async def _work(self, setup: Setup, send: MemoryObjectSendStream[T]) -> None:
        raise NotImplementedError


class SolveMany(_Stream[Outcome]):
    """Outcomes of many problems, as they finish."""

    def __init__(
        self, problems: Iterable[ProblemLike] | AsyncIterable[ProblemLike], in_flight: int, options: SolveOptions
    ) -> None:
        super().__init__(options, positive("in_flight", in_flight))
        self._problems = _Source(problems)
        self._in_flight = in_flight

    async def _work(self, setup: Setup, send: MemoryObjectSendStream[Outcome]) -> None:
        async with anyio.create_task_group() as workers:
            for _ in range(self._in_flight):
                if self._problems.ended:
                    break
                workers.start_soon(self._solve_in_turn, setup, send)
                await anyio.lowlevel.checkpoint()

    async def _solve_in_turn(self, setup: Setup, send: MemoryObjectSendStream[Outcome]) -> None:
        while True:
            try:
                place, problem = await self._problems.take()
            except StopAsyncIteration:
                return
            outcome = await solve_or_refuse(setup, problem)
            await send.send(outcome if outcome.problem else outcome.model_copy(update={"problem": str(place)}))


class _Source:
    """Problems taken one at a time by several workers, from any iterable."""

    def __init__(self, problems: Iterable[ProblemLike] | AsyncIterable[ProblemLike]) -> None:
        if isinstance(problems, str | bytes):
            raise ParameterError("solve_many takes several problems; for one question, use solve or a list of it")
        self._later = aiter(problems) if isinstance(problems, AsyncIterable) else None
        self._now = None if isinstance(problems, AsyncIterable) else iter(problems)
        self._lock = anyio.Lock()
        self._place = -1
        self.ended = False

    async def take(self) -> tuple[int, ProblemLike]:
        """Return the next problem and its place, from 0; raises StopAsyncIteration after the last."""
        async with self._lock:
            try:
                if self.ended:
                    raise StopAsyncIteration
                if self._later is not None:
                    problem = await anext(self._later)
                else:
                    assert self._now is not None
                    problem = next(self._now)
                self._place += 1
                return self._place, problem
            except (StopIteration, StopAsyncIteration):
                self.ended = True
                raise StopAsyncIteration from None


async def solve_or_refuse(setup: Setup, problem: ProblemLike) -> Outcome:
    """Solve one of many: what one problem does wrong is its own outcome, and the others go on."""
    try:
        return (await solve_prepared(setup, problem))[0]
    except TTSError as error:
        return refused(setup, problem, error)


def refused(setup: Setup, problem: ProblemLike, error: TTSError) -> Outcome:
    """Return the outcome of a problem that could not be asked."""
    try:
        name = as_problem(problem).id
    except UsageError:
        name = ""
    return Outcome(
        problem=name, strategy=setup.strategy.name, parameters=setup.strategy.model_dump(mode="json"), seed=setup.seed,
        answer=None, text="", usage=Usage(), ended=Ended.ERROR, error=f"{type(error).__name__}: {error}",
    )  # fmt: skip


def solve_many(
    problems: Iterable[ProblemLike] | AsyncIterable[ProblemLike],
    *,
    in_flight: int = 64,
    **options: Unpack[SolveOptions],
) -> SolveMany:
    """Solve problems side by side.

    `async with solve_many(problems, ...) as outcomes: async for outcome in outcomes: ...`

    Outcomes come as they finish; `Outcome.problem` is the problem's id, or its place in `problems`, from 0. At most
    `in_flight` problems are searched at a time, and no more are taken from `problems`. A problem that fails gives an
    outcome that ended in error; the others go on. Leaving the block cancels the rest.
    """
    return SolveMany(problems, in_flight, options)


class EventStream(_Stream[Event]):
    """Events of one search as they happen; `outcome` is there once they have ended."""

    def __init__(self, problem: ProblemLike, options: SolveOptions) -> None:
        super().__init__(options, float("inf"))
        self._problem = problem
        self.outcome: Outcome | None = None

    async def _work(self, setup: Setup, send: MemoryObjectSendStream[Event]) -> None:
        self.outcome, error = await solve_prepared(setup.observed_by(send.send_nowait), self._problem)
        if error is not None:
            error.outcome = self.outcome
            raise error


def stream(problem: ProblemLike, **options: Unpack[SolveOptions]) -> EventStream:
    """Watch one search.

    `async with stream(problem, ...) as events: async for event in events: ...`, and then `events.outcome`.
    Events are those of a trace: start, batch, prompt, node, score, verified, status, failed, end.
    """
    return EventStream(problem, options)


def _iterate(stream: _Stream[T]) -> Iterator[T]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(stream) as opened:
        items = aiter(opened)
        while True:
            try:
                item = portal.call(anext, items)
            except StopAsyncIteration:
                return
            yield item


def solve_many_sync(
    problems: Iterable[ProblemLike], *, in_flight: int = 64, **options: Unpack[SolveOptions]
) -> Iterator[Outcome]:
    """Iterate over the outcomes of `solve_many` from synchronous code, notebooks included."""
    return _iterate(solve_many(problems, in_flight=in_flight, **options))


def stream_sync(problem: ProblemLike, **options: Unpack[SolveOptions]) -> Iterator[Event]:
    """Iterate over the events of `stream` from synchronous code; the last one, "end", holds the outcome."""
    return _iterate(stream(problem, **options))
