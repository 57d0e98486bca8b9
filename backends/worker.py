"""Runs an engine on a thread of its own, and carries its messages to the event loops of those who wait.

The engine steps on a dedicated thread, not on whichever request happens to wait: requests of several event loops share
one batch, and a request that leaves must not take the engine's driver with it. The thread lives only while there is
work, so an idle engine holds nothing, and nothing needs to be closed for a program to end.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import anyio
from anyio.lowlevel import current_token

from tts.errors import BackendError, EngineDeadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Mailbox:
    """Messages from the engine's thread, called one by one on the event loop where the mailbox was made.

    Attributes:
        error: What the engine failed with, once the mailbox is closed.
        abandoned: The event loop is gone, so that nobody can be told anything.
    """

    def __init__(self) -> None:
        loop: Any = current_token()
        loop = getattr(loop, "native_token", loop)
        self._post: Callable[..., object] = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        self._messages: deque[Callable[[], None]] = deque()
        self._news = anyio.Event()
        self._posted = False
        self._closed = False
        self.error: BackendError | None = None
        self.abandoned = False

    def put(self, message: Callable[[], None]) -> None:
        """Add a message, from the engine's thread."""
        self._messages.append(message)
        self._wake()

    def close(self, error: BackendError | None = None) -> None:
        """Say that there will be no more messages, from the engine's thread."""
        self.error = error
        self._closed = True
        self._wake()

    async def follow(self) -> None:
        """Call messages as they come, until the mailbox is closed."""
        while True:
            closed = self._closed  # looked up first: what was put before closing is there by now
            while self._messages:
                self._messages.popleft()()
            if closed:
                return
            await self._news.wait()
            self._news = anyio.Event()

    def _wake(self) -> None:
        if self._posted:
            return
        self._posted = True
        try:
            self._post(self._ring)
        except RuntimeError:  # both event loops raise it, or a kind of it, when they have ended
            self.abandoned = True

    def _ring(self) -> None:
        self._posted = False
        self._news.set()


class Job(Protocol):
    """What an engine works on."""

    mailbox: Mailbox


J = TypeVar("J", bound=Job)


class Engine(Protocol[J]):
    """Something that works in steps; all of it is called on the worker's thread."""

    def add(self, job: J) -> None:
        """Take up a job."""

    def drop(self, job: J) -> None:
        """Let go of a job."""

    def step(self) -> Iterable[J]:
        """Do one step; returns the jobs that it finished."""


class Worker(Generic[J]):
    """The thread of one engine."""

    def __init__(self, name: str, engine: Engine[J]) -> None:
        self._name = name
        self._engine = engine
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._running = False
        self._arriving: list[J] = []
        self._leaving: list[J] = []
        self._jobs: set[J] = set()
        self._dead = ""

    async def run(self, job: J) -> None:
        """Have a job done, with its messages called on this event loop.

        When this is cancelled, or a message raises, the job leaves the engine before its next step, and what the engine
        had done until then is still told before this returns.

        Raises:
            EngineDeadError: The engine failed, now or before, or was closed.
        """
        self._submit(job)
        try:
            await job.mailbox.follow()
        except BaseException:
            self._withdraw(job)
            with anyio.CancelScope(shield=True):
                await job.mailbox.follow()
            raise
        if job.mailbox.error is not None:
            raise job.mailbox.error

    async def aclose(self) -> None:
        """Fail what is running, refuse what comes, and wait for the thread to end."""
        with self._lock:
            self._dead = self._dead or f"{self._name} was closed"
            thread = self._thread
        if thread is not None:
            await anyio.to_thread.run_sync(thread.join)

    def _submit(self, job: J) -> None:
        with self._lock:
            if self._dead:
                raise EngineDeadError(self._dead)
            self._arriving.append(job)
            if not self._running:
                self._running = True
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()

    def _withdraw(self, job: J) -> None:
        with self._lock:
            if self._running:
                self._leaving.append(job)

    def _work(self) -> None:
        try:
            while self._admit():
                for job in self._engine.step() if self._jobs else ():
                    self._end(job)
        except BaseException as error:
            self._die(error)

    def _admit(self) -> bool:
        """Let jobs in and out, between steps; when none is left, the thread's work is over."""
        with self._lock:
            if self._dead:
                raise EngineDeadError(self._dead)
            arriving, self._arriving = self._arriving, []
            leaving, self._leaving = self._leaving, []
            if not (arriving or self._jobs):
                self._running = False  # from here on another thread may have the engine
                return False
        self._jobs.update(arriving)
        for job in arriving:
            self._engine.add(job)
        leaving += [job for job in self._jobs if job.mailbox.abandoned]
        for job in self._jobs.intersection(leaving):
            self._engine.drop(job)
            self._end(job)
        return True

    def _end(self, job: J) -> None:
        self._jobs.discard(job)
        job.mailbox.close()

    def _die(self, cause: BaseException) -> None:
        """Tell everyone who waits, and everyone who comes."""
        with self._lock:
            self._dead = self._dead or f"{self._name} failed: {type(cause).__name__}: {cause}"
            jobs = self._jobs.union(self._arriving)
            self._running = False
        for job in jobs:
            error = EngineDeadError(self._dead)
            error.__cause__ = cause
            job.mailbox.close(error)
