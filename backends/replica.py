"""One of several engines that serve the same: whether it is up, what was wrong with it, what it has in flight."""

from __future__ import annotations

import itertools
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
from anyio.lowlevel import RunVar

from tts.admission import Admission
from tts.affinity import caller
from tts.errors import BackendError, EngineDeadError, TransientError, TTSError
from tts.groups import Tasks
from tts.protocols import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

B = TypeVar("B")
T = TypeVar("T")
E = TypeVar("E", bound=BackendError)

PROBE = 5.0
"""Seconds within which a replica that was left has to show that it is back."""
FIRST, LONGEST = 1.0, 30.0
"""Seconds until a replica that was left is looked at again; they double from the first to the longest."""
TOLERATED = 2
"""Faults in a row after which a replica that still says it lives is spared for a while."""

_replicas = itertools.count()


@dataclass(slots=True)
class _Local:
    """What belongs to one event loop: the places taken there, and the sign that requests in flight are to give up."""

    admission: Admission
    left: anyio.Event = field(default_factory=anyio.Event)


class Replica(Generic[B]):
    """An engine among others.

    One that has an `endpoint` can be asked whether it lives; if that has a `last_heard`, which changes with whatever
    comes from the server, one whose tokens flow is not given up. One that has a method `reconnect` is asked anew what
    it serves when it comes back. It is down when its engine is dead or it does not answer, and only then; what may be
    the request's fault or a busy hour makes it rest, which means that others are preferred.

    Attributes:
        name: What tells it from others in every run, such as its URL.
        backend: The generator or scorer.
        fault: Why it is down; None while it is up.
        since: When it went down, by `now`.
        due: When it is looked at again, by `now`.
        faults: How many faults were counted against it so far, those of one moment once.
    """

    def __init__(self, name: str, backend: B, *, limit: int, watch: float, now: Callable[[], float]) -> None:
        self.name = name
        self.backend = backend
        self.fault: TTSError | None = None
        self.since = self.due = 0.0
        self._limit = limit
        self._watch_every = watch
        self._now = now
        self._rests_until = self._asked = -math.inf
        self.faults = self._downs = self._in_a_row = 0
        self._endpoint: Any = getattr(backend, "endpoint", None)
        self._local: RunVar[_Local | None] = RunVar(f"tts.replica.{next(_replicas)}", None)

    @property
    def up(self) -> bool:
        """Whether requests may go to it."""
        return self.fault is None

    @property
    def ready(self) -> bool:
        """Whether it is up and need not be spared."""
        return self.up and self._now() >= self._rests_until

    @property
    def is_due(self) -> bool:
        """Whether it is down and may be back."""
        return not self.up and self._now() >= self.due

    @property
    def admission(self) -> Admission:
        """Its places, of this event loop."""
        return self._here().admission

    def is_deep(self, count: int, spill: float) -> bool:
        """Whether `count` more places make its queue deeper than `spill` times its limit."""
        line = self.admission
        return line.taken + line.waiting + count > spill * line.limit

    @asynccontextmanager
    async def places(self, count: int) -> AsyncIterator[None]:
        """Take places of it, in the turn of the problem that is being solved; none for what samples nothing."""
        if count == 0:
            yield
            return
        async with self.admission.places(count, order=caller().order):
            yield

    async def ask(self, call: Callable[[B], Awaitable[T]], *, is_work: bool = True) -> T:
        """Make a call, and give it up when the replica turns out to be down.

        Its success ends a row of faults if it `is_work`: a server whose engine fails may still tokenise. It ends a rest
        too if it began after the last fault: what ran before a server turned others away says nothing of that.

        Raises:
            TransientError: It was given up.
            Exception: Whatever the call raises.
        """
        results: list[T] = []
        faults = self.faults
        async with Tasks() as tasks:
            tasks.start_soon(self._watch, tasks.cancel, self._unset_sign())
            results.append(await call(self.backend))
            tasks.cancel()
        if not results:
            raise TransientError(f"{self.name} is down: {self.fault}")
        if is_work:
            self._succeed(faults)
        return results[0]

    async def examine(self, fault: BackendError, agree: Callable[[B], None], *, faults: int) -> None:
        """Find out what a fault says about the replica: that it is down, that it is busy, or nothing.

        Args:
            fault: What a call raised.
            agree: Raises BackendError if the backend does not serve what the others do.
            faults: How many were counted when the call began. What ends many calls at once counts as one fault.
        """
        if not self.up:
            return
        if isinstance(fault, EngineDeadError):
            self.leave(fault)
        elif not isinstance(fault, TransientError):
            wrong = None if self._endpoint is None else await self._what_is_wrong(agree)
            if wrong is not None:
                self.leave(fault if isinstance(wrong, TransientError) else wrong)
        elif (death := await self._death()) is not None:
            self.leave(death if isinstance(death, EngineDeadError) else fault)
        else:
            self._spare(fault, faults)

    async def probe(self, agree: Callable[[B], None], patience: anyio.CancelScope) -> None:
        """Look whether it is back; it has to serve what the others do, whatever it was.

        Whatever goes wrong is its fault; nothing is raised.

        Args:
            agree: Raises BackendError if the backend does not serve what the others do.
            patience: Its deadline ends the look, if that comes before `PROBE`, and counts as no answer.
        """
        self.due = self._now() + FIRST + PROBE  # nobody else looks meanwhile
        began = anyio.current_time()
        patience.deadline = min(patience.deadline, began + PROBE)
        wrong: TTSError | None = None
        try:
            with patience:
                wrong = await self._what_is_wrong(agree)
        except anyio.get_cancelled_exc_class():  # who looked left, which says nothing of the replica
            self.due = self._now() + FIRST
            raise
        if patience.cancelled_caught:
            wrong = TransientError(f"{self.name} does not answer within {anyio.current_time() - began:.2g} s")
        if wrong is None:
            self.fault = None
        else:
            self._go_down(wrong)

    def leave(self, fault: TTSError) -> None:
        """Send nothing more to it and give up what is in flight, until it comes back."""
        if self.up:
            self.since = self._now()
            self._go_down(fault)
            self._here().left.set()

    def _go_down(self, fault: TTSError) -> None:
        self.fault = fault
        self._downs += 1
        # An engine in this process that died does not come back; a server may be started again.
        final = self._endpoint is None and isinstance(fault, EngineDeadError)
        self.due = math.inf if final else self._now() + _backoff(self._downs)

    def _succeed(self, faults: int) -> None:
        self._downs = self._in_a_row = 0
        if faults == self.faults:
            self._rests_until = -math.inf

    def _spare(self, fault: TransientError, faults: int) -> None:
        is_new = faults == self.faults
        self.faults += is_new
        self._in_a_row += is_new
        busy = fault.delay is not None or not (fault.began or fault.at_once)
        if busy and self._endpoint is not None:
            seconds = fault.delay or FIRST
        elif self._endpoint is None or self._in_a_row > TOLERATED:
            seconds = max(fault.delay or 0.0, _backoff(self._in_a_row))
        else:
            return
        self._rests_until = max(self._rests_until, self._now() + seconds)

    async def _death(self) -> BackendError | None:
        """Return what it has died of; None if it lives or cannot be asked."""
        if self._endpoint is None:
            return None
        self._asked = self._now()
        heard = self._heard
        try:
            if await self._endpoint.alive() or self._heard != heard:
                return None
        except EngineDeadError as dead:
            return dead
        except Exception as error:  # whatever it is, the calls in flight are not to blame for it
            return _caused(error, TransientError(f"{self.name}, asked whether it lives, {_failed(error)}"))
        return TransientError(f"{self.name} does not answer")

    async def _what_is_wrong(self, agree: Callable[[B], None]) -> TTSError | None:
        death = await self._death()
        if death is not None:
            return death
        ask = getattr(self.backend, "reconnect", None)
        try:
            await (connect(self.backend) if ask is None else ask())
            agree(self.backend)
        except TTSError as wrong:
            return wrong
        except Exception as error:  # as in `_death`: whatever it is
            return _caused(error, BackendError(f"{self.name}, asked what it serves, {_failed(error)}"))
        return None

    async def _watch(self, give_up: Callable[[], None], left: anyio.Event) -> None:
        while self.up and not left.is_set():
            heard = self._heard
            with anyio.move_on_after(self._watch_every):
                await left.wait()
            # One of those that wait for the replica asks for all.
            if self.up and self._heard == heard and self._now() - self._asked > self._watch_every / 2:
                death = await self._death()
                if death is not None:
                    self.leave(death)
        give_up()

    @property
    def _heard(self) -> Any:
        """What changes when something comes from it, in this event loop; None if that cannot be known."""
        return getattr(self._endpoint, "last_heard", None)

    def _here(self) -> _Local:
        local = self._local.get()
        if local is None:
            local = _Local(Admission(self._limit))
            self._local.set(local)
        return local

    def _unset_sign(self) -> anyio.Event:
        local = self._here()
        if self.up and local.left.is_set():
            local.left = anyio.Event()
        return local.left


def _failed(error: Exception) -> str:
    return f"failed: {type(error).__name__}: {error}"


def _caused(error: Exception, wrong: E) -> E:
    wrong.__cause__ = error
    return wrong


def _backoff(failures: int) -> float:
    return min(LONGEST, FIRST * 2.0 ** min(failures - 1, 30))
