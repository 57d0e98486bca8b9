"""Two ways to run vLLM's engine from this process: stepped on a thread, and in processes of its own."""

from __future__ import annotations

import itertools
import os
import threading
from concurrent.futures import wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from anyio.from_thread import start_blocking_portal

from tts.backends.optional import need
from tts.backends.worker import Worker
from tts.errors import BackendError, EngineDeadError, ParameterError, TTSError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from tts.backends.vllm_asked import Asked

_stepping = threading.Lock()
"""Held by the engine that is stepped in this process: vLLM keeps state of it in globals."""
WHOLE = 2**31 - 1
"""Tokens between two reports where only the first token and the end are worth one."""


class Driver(Protocol):
    """An engine that runs.

    Attributes:
        config: vLLM's own, as it settled it.
        tokenizer: The model's, as transformers has it.
    """

    config: Any
    tokenizer: Any

    async def run(self, asked: Asked) -> None:
        """Have a request's children drawn; when this is cancelled, they are aborted before it returns."""

    def unfinished(self) -> int:
        """Return how many sequences vLLM has in hand."""

    async def aclose(self) -> None:
        """Fail what is running, and end the engine with all that belongs to it."""


class Stepped:
    """vLLM's engine in this process, stepped on a thread of its own while there is work.

    What an aborted request has sampled is known to the token, because nothing runs between two steps.
    """

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        """Start it, which blocks for seconds.

        Args:
            name: How errors call it.
            settings: Arguments of vLLM's EngineArgs.

        Raises:
            BackendError: Another one runs in this process.
        """
        if not _stepping.acquire(blocking=False):
            raise BackendError(
                f"{name}: an engine is stepped in this process already; close it, or leave single_process"
            )
        try:
            self._engine = _start_here({"distributed_executor_backend": "uni", "async_scheduling": False, **settings})
            self.tokenizer = self._engine.get_tokenizer()
        except BaseException:
            _stepping.release()
            raise
        self.config = self._engine.vllm_config
        self._params = need("vllm", "vllm").SamplingParams
        self._delta = need("vllm.sampling_params", "vllm").RequestOutputKind.DELTA
        self._refusals = _refusals()
        self._asked: dict[str, tuple[int, Asked]] = {}
        self._numbers = itertools.count()
        self._name = name
        self._worker: Worker[Asked] = Worker(name, self)

    async def run(self, asked: Asked) -> None:
        """Have a request's children drawn.

        Raises:
            ParameterError: vLLM refuses it.
            EngineDeadError: The engine failed, or was closed.
        """
        await self._worker.run(asked)

    def unfinished(self) -> int:
        """Return how many sequences vLLM has in hand."""
        return int(self._engine.get_num_unfinished_requests())

    async def aclose(self) -> None:
        """Fail what is running, end the thread, and let go of the model."""
        await self._worker.aclose()
        try:
            await anyio.to_thread.run_sync(self._engine.engine_core.shutdown)
        finally:
            _stepping.release()

    def add(self, asked: Asked) -> None:
        """Take up a request, on the engine's thread."""
        for first, settings in enumerate(asked.settings):
            name = f"tts-{next(self._numbers)}"
            params = self._params(output_kind=self._delta, **settings)
            try:
                self._engine.add_request(name, _tokens(asked), params, priority=asked.priority)
            except self._refusals as error:
                asked.fail(ParameterError(f"{self._name} refuses the request: {error}"))
                return
            self._asked[name] = (first, asked)

    def drop(self, asked: Asked) -> None:
        """Abort a request, on the engine's thread."""
        self._engine.abort_request(self._forget({asked}))

    def step(self) -> Iterable[Asked]:
        """Do one step, on the engine's thread; returns the requests that it finished."""
        touched: set[Asked] = set()
        for output in self._engine.step() if self._asked else ():  # what was refused is not there
            first, asked = self._asked[output.request_id]
            asked.take(first, output)
            touched.add(asked)
        finished = {asked for asked in touched if asked.finished}
        self._forget(finished)
        return finished

    def _forget(self, those: set[Asked]) -> list[str]:
        names = [name for name, (_, asked) in self._asked.items() if asked in those] if those else []
        for name in names:
            del self._asked[name]
        return names


class Spawned:
    """AsyncLLM in this process, with vLLM's engine and workers in processes of their own.

    It lives on an event loop of its own, on a thread of its own: AsyncLLM runs on one asyncio loop for good, and those
    who ask may be on others, or on trio.
    """

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        """Start it, which blocks for up to minutes.

        Args:
            name: How errors call it.
            settings: Arguments of vLLM's AsyncEngineArgs.
        """
        need("vllm", "vllm")
        arguments = need("vllm.engine.arg_utils", "vllm").AsyncEngineArgs
        kind = need("vllm.v1.engine.async_llm", "vllm").AsyncLLM
        self._dead: type[Exception] = need("vllm.v1.engine.exceptions", "vllm").EngineDeadError
        self._sampling: Any = need("vllm.sampling_params", "vllm")
        self._guard = start_blocking_portal("asyncio")
        self._portal = self._guard.__enter__()
        try:
            # A fork would copy the locks that this process's other threads hold just now.
            with _environment(VLLM_WORKER_MULTIPROC_METHOD=os.environ.get("VLLM_WORKER_MULTIPROC_METHOD", "spawn")):
                self._engine = self._portal.call(lambda: kind.from_engine_args(arguments(**settings)))
            self._portal.call(self._engine.get_supported_tasks)
        except BaseException:
            self._guard.__exit__(None, None, None)
            raise
        self.config = self._engine.vllm_config
        self.tokenizer = self._engine.get_tokenizer()
        self._numbers = itertools.count()
        self._name = name
        self._running: set[Future[None]] = set()
        self._closed = False

    async def run(self, asked: Asked) -> None:
        """Have a request's children drawn.

        Raises:
            ParameterError: vLLM refuses it.
            EngineDeadError: The engine failed, or was closed.
        """
        if self._closed:
            raise EngineDeadError(f"{self._name} was closed")
        future = self._portal.start_task_soon(self._draw, asked)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        try:
            await asked.mailbox.follow()
        except BaseException:
            future.cancel()
            with anyio.CancelScope(shield=True):
                await asked.mailbox.follow()
            raise
        if asked.mailbox.error is not None:
            raise asked.mailbox.error

    def unfinished(self) -> int:
        """Return how many sequences AsyncLLM has in hand."""
        return int(self._engine.get_num_unfinished_requests())

    async def aclose(self) -> None:
        """Fail what is running, and end vLLM's processes and the thread."""
        if not self._closed:
            self._closed = True
            await anyio.to_thread.run_sync(self._end)

    def _end(self) -> None:
        running = set(self._running)
        for future in running:
            future.cancel()
        wait(running)
        self._portal.call(self._engine.shutdown)
        del self._engine  # it says farewell when it is freed, which is too late at the interpreter's end
        self._guard.__exit__(None, None, None)

    async def _draw(self, asked: Asked) -> None:
        """Draw a request's children, on the engine's event loop."""
        try:
            async with anyio.create_task_group() as tasks:
                for first, settings in enumerate(asked.settings):
                    tasks.start_soon(self._follow, asked, first, settings)
        finally:
            asked.mailbox.close(EngineDeadError(f"{self._name} was closed") if self._closed else None)

    async def _follow(self, asked: Asked, first: int, settings: dict[str, Any]) -> None:
        queue: Any = None
        try:
            with anyio.CancelScope(shield=True):  # between the two ends of vLLM a request must not get lost
                queue = await self._engine.add_request(
                    f"tts-{next(self._numbers)}", _tokens(asked), self._params(asked, settings), priority=asked.priority
                )
            if await self._read(asked, first, queue):
                queue = None
        except Exception as error:  # whatever vLLM raises is told to whoever waits, as an error of ours
            asked.fail(self._typed(error))
        finally:
            if queue is not None:
                await self._leave(asked, first, queue)

    async def _read(self, asked: Asked, first: int, queue: Any) -> bool:
        """Take what comes until vLLM has finished, which is true then, or nobody can be told any more."""
        while not asked.mailbox.abandoned:
            output = queue.get_nowait() or await queue.get()
            asked.take(first, output)
            if output.finished:
                return True
        return False

    async def _leave(self, asked: Asked, first: int, queue: Any) -> None:
        """Abort what has not finished; vLLM tells once more what it had of it."""
        if self._engine.errored:
            return
        asked.given_up = True
        with anyio.CancelScope(shield=True):
            await self._engine.abort(queue.request_id, internal=True)
        last = queue.get_nowait()
        if last is not None:
            asked.take(first, last)

    def _params(self, asked: Asked, settings: dict[str, Any]) -> Any:
        params = self._sampling.SamplingParams(output_kind=self._sampling.RequestOutputKind.DELTA, **settings)
        if not asked.request.cancellable and hasattr(params, "stream_interval"):
            params.stream_interval = WHOLE
        return params

    def _typed(self, error: Exception) -> TTSError:
        if isinstance(error, self._dead) or self._engine.errored:
            return EngineDeadError(f"{self._name}: vLLM's engine died, and what it printed says why ({error})")
        if isinstance(error, _refusals()):
            return ParameterError(f"{self._name} refuses the request: {error}")
        return BackendError(f"{self._name}: {type(error).__name__}: {error}")


def _start_here(settings: dict[str, Any]) -> Any:
    with _environment(VLLM_ENABLE_V1_MULTIPROCESSING="0"):
        arguments = need("vllm.engine.arg_utils", "vllm").EngineArgs(**settings)
        return need("vllm.v1.engine.llm_engine", "vllm").LLMEngine.from_engine_args(arguments)


def _refusals() -> tuple[type[Exception], ...]:
    """Return what vLLM raises for a request that it will not take: the first in older versions, the second since."""
    return ValueError, getattr(need("vllm.exceptions", "vllm"), "VLLMClientError", ValueError)


def _tokens(asked: Asked) -> dict[str, Any]:
    return {"type": "token", "prompt_token_ids": asked.prompt}


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set variables that vLLM reads while it starts, and put back what was there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
