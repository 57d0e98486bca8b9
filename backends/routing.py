"""Which of several engines a request goes to: where its problem's prefix is cached, and elsewhere when it must."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from tts.backends.replica import Replica
from tts.errors import BackendError, EngineDeadError, ParameterError, TransientError, TTSError
from tts.groups import Tasks
from tts.protocols import Generator, Scorer, connect
from tts.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

B = TypeVar("B", Generator, Scorer)
T = TypeVar("T")

LIMIT = 256
"""Sequences in flight on a replica: how many vLLM runs at a time unless told otherwise, on all but large accelerators.

What is sent beyond that waits inside the engine, where it no longer gives way to problems that began before it.
"""
SPILL = 1.5
"""A queue is deep when it holds half as much again as runs: waiting costs the time of a generation then, and another
replica computes the prefix anew in a small part of that."""
WATCH = 10.0
"""Seconds of silence after which a replica with requests in flight is asked whether it lives."""
GRACE = 0.5
"""Seconds by which a look at a replica may outlast the call beside which it is made.

Without any, one that is back would not be found beside calls that are shorter than the look."""


def rendezvous(key: str, names: Iterable[str]) -> list[str]:
    """Return names in the order in which a key prefers them.

    Whoever is added or removed, the others keep their order: a replica that goes takes only its own keys along.
    """
    return sorted(names, key=lambda name: derive(key, name), reverse=True)


class Pool(Generic[B]):
    """What pools of generators and of scorers have in common.

    A problem goes to the replica that stands first in its own order of them (rendezvous hashing), so that it finds its
    prefix cached there. It goes to the next that has room when the first one's queue is deep, and to the next at all
    when the first is down or busy. A replica is down when its engine is dead or it does not answer; requests in flight
    there are given up, which the runtime makes again on another. It is looked at again after 1, 2, 4 and up to 30
    seconds, beside the next request, and takes part again once it answers and still serves the same.
    """

    def __init__(
        self,
        replicas: Sequence[B] | Mapping[str, B],
        *,
        limit: int = LIMIT,
        spill: float = SPILL,
        watch: float = WATCH,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Join replicas.

        Args:
            replicas: Engines that serve the same, by name; without names, servers go by their URLs and others by their
                places. Which problems a replica gets hangs on its name.
            limit: Sequences in flight on a replica, in each event loop, at least 1; further ones wait in the order in
                which their problems began. More in one request than that go alone.
            spill: How many times the limit a replica's queue may hold, with what runs, while another has room; at
                least 1.
            watch: Seconds of silence after which a server with requests in flight is asked whether it lives; one that
                hangs is left after at most twice that and its connect timeout.
            now: Seconds of a clock that does not go back.

        Raises:
            ParameterError: There are none, two of one name, or a number is out of range.
        """
        named = _named(replicas)
        if limit < 1 or spill < 1 or watch <= 0:
            raise ParameterError(f"limit={limit}, spill={spill:g}, watch={watch:g}: at least 1, 1, and above 0")
        self._replicas: dict[str, Replica[B]] = {
            name: Replica(name, backend, limit=limit, watch=watch, now=now) for name, backend in named.items()
        }
        self._spill = spill
        self._now = now
        self._able: Any = None

    @property
    def down(self) -> dict[str, TTSError]:
        """The replicas that are down, by name, each with what was wrong with it last."""
        return {replica.name: replica.fault for replica in self._replicas.values() if replica.fault is not None}

    async def connect(self) -> None:
        """Find out what the replicas can do, which has to be the same; those that are down may come later.

        Raises:
            BackendError: One serves something else, or not what it is asked for.
            TransientError: None answers.
            EngineDeadError: All engines are dead.
        """
        if self._able is not None:
            return
        refused: dict[str, TTSError] = {}
        async with anyio.create_task_group() as tasks:
            for replica in self._replicas.values():
                tasks.start_soon(_meet, replica, refused)
        for error in refused.values():
            raise error
        there = [replica.backend for replica in self._replicas.values() if replica.up]
        if not there:
            raise self._all_down()
        for backend in there[1:]:
            _compare(there[0].capabilities, backend)
        self._able = there[0].capabilities

    def _joint(self) -> Any:
        if self._able is None:
            raise BackendError(f"the pool of {', '.join(self._replicas)} has not been asked: await connect() first")
        count = len(self._replicas)
        return replace(
            self._able,
            name=f"{self._able.name} x{count}",
            fingerprint={**self._able.fingerprint, "replicas": count},
        )

    async def aclose(self) -> None:
        """Close every replica, also when one of them fails to."""
        async with AsyncExitStack() as stack:
            for replica in self._replicas.values():
                stack.push_async_callback(replica.backend.aclose)

    async def _call(self, key: str, count: int, call: Callable[[B], Awaitable[T]]) -> T:
        """Make a call of so many sequences on the replica that is to have it, and look beside it who is back.

        Raises:
            TransientError: The fault may pass, or another replica is there, which then `at_once` says.
            BackendError: Anything else.
        """
        due = [replica for replica in self._replicas.values() if replica.is_due]
        if not due or not any(replica.up for replica in self._replicas.values()):
            return await self._make(key, count, call)
        looks = [anyio.CancelScope() for _ in due]
        async with Tasks() as tasks:
            for replica, look in zip(due, looks, strict=True):
                tasks.start_soon(replica.probe, self._agree, look)
            result = await self._make(key, count, call)
            for look in looks:
                look.deadline = min(look.deadline, anyio.current_time() + GRACE)
        return result

    async def _make(self, key: str, count: int, call: Callable[[B], Awaitable[T]]) -> T:
        while True:
            replica = await self._choose(key, count)
            async with replica.places(count):
                if self._is_avoided(replica):
                    continue  # it went down or turned others away while this waited, and has seen nothing of it
                faults = replica.faults
                try:
                    return await replica.ask(call, is_work=count > 0)
                except BackendError as error:
                    fault = error
                # Within its places, so that nobody is let in before it is known how things stand.
                await replica.examine(fault, self._agree, faults=faults)
                raise self._verdict(replica, fault)

    async def _choose(self, key: str, count: int) -> Replica[B]:
        if not any(replica.up for replica in self._replicas.values()):
            await self._probe_all()
        order: list[Replica[B]] = [self._replicas[name] for name in rendezvous(key, self._replicas)]
        there = [replica for replica in order if replica.ready] or [replica for replica in order if replica.up]
        if not there:
            raise self._all_down()
        if count and there[0].is_deep(count, self._spill):
            return next((replica for replica in there if replica.admission.has_room(count)), there[0])
        return there[0]

    def _is_avoided(self, replica: Replica[B]) -> bool:
        """Whether it is down, or rests while another need not."""
        return not (replica.up and (replica.ready or not any(other.ready for other in self._replicas.values())))

    async def _probe_all(self) -> None:
        async with anyio.create_task_group() as tasks:
            for replica in self._replicas.values():
                if replica.is_due:
                    tasks.start_soon(replica.probe, self._agree, anyio.CancelScope())

    def _verdict(self, replica: Replica[B], fault: BackendError) -> BackendError:
        """Return what the caller is told of a fault."""
        if not self._is_avoided(replica):
            return fault
        others = [other for other in self._replicas.values() if other is not replica and other.up]
        if not others:
            return self._all_down(fault)
        began = fault.began if isinstance(fault, TransientError) else True
        told = TransientError(
            f"{fault}; another replica goes on", at_once=any(other.ready for other in others), began=began
        )
        told.__cause__ = fault
        return told

    def _all_down(self, last: BackendError | None = None) -> BackendError:
        now = self._now()
        down = [replica for replica in self._replicas.values() if not replica.up]
        message = "no replica is up: " + "; ".join(
            f"{replica.name}, down for {now - replica.since:.0f} s: {replica.fault}" for replica in down
        )
        if all(isinstance(replica.fault, EngineDeadError) for replica in down):
            return EngineDeadError(message)
        if not any(isinstance(replica.fault, TransientError) for replica in down):
            return BackendError(message)
        began = False if last is None else not isinstance(last, TransientError) or last.began
        delay = max(0.0, min(replica.due for replica in down) - now)
        return TransientError(message, delay=delay, began=began)

    def _agree(self, backend: B) -> None:
        if self._able is not None:
            _compare(self._able, backend)


def _compare(able: Any, backend: Generator | Scorer) -> None:
    """Refuse a backend that can do something else."""
    other = backend.capabilities
    found = [
        f"{field.name} ({getattr(other, field.name)!r}, not {getattr(able, field.name)!r})"
        for field in fields(able)
        if field.name != "fingerprint" and getattr(able, field.name) != getattr(other, field.name)
    ]
    names = sorted({*able.fingerprint, *other.fingerprint})
    found += [
        f"{name} ({other.fingerprint.get(name)!r}, not {able.fingerprint.get(name)!r})"
        for name in names
        if able.fingerprint.get(name) != other.fingerprint.get(name)
    ]
    if found:
        raise BackendError(
            f"a replica differs from the others in {', '.join(found)}: answers would hang on where a problem goes"
        )


async def _meet(replica: Replica[Any], refused: dict[str, TTSError]) -> None:
    try:
        await connect(replica.backend)
        replica.fault = None
    except (TransientError, EngineDeadError) as fault:
        replica.leave(fault)
    except TTSError as error:
        refused[replica.name] = error


def _named(replicas: Sequence[B] | Mapping[str, B]) -> dict[str, B]:
    if isinstance(replicas, Mapping):
        named = dict(replicas)
    else:
        names = [
            str(getattr(getattr(backend, "endpoint", None), "url", f"replica {place}"))
            for place, backend in enumerate(replicas)
        ]
        named = dict(zip(names, replicas, strict=True))
        if len(named) < len(names):
            raise ParameterError(f"replicas of one URL need names, {{name: replica}}: {', '.join(sorted(names))}")
    if not named:
        raise ParameterError("a pool needs at least one replica")
    return named
