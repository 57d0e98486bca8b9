"""Whether two answers are equal, judged in processes of their own that can be killed, with limits on time and memory.

Solvers that compare mathematics may hang or grow without bound, and no thread can be stopped. So each question goes to
a worker process, which is killed when it takes too long or when nobody waits for it any more.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import anyio
from anyio import to_thread
from anyio.lowlevel import RunVar

from tts.answers import MathAnswerReader
from tts.errors import MissingExtraError, ParameterError, TTSError
from tts.grading_process import Ended, NotStarted, TimeUp, Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import TypeVar, TypeVarTuple

    from tts.protocols import AnswerReader

    Arguments = TypeVarTuple("Arguments")
    T = TypeVar("T")

_graders = itertools.count()
_PACKAGES = ("math-verify", "latex2sympy2_extended", "sympy")

Reason = Literal["time", "memory", "died", "error", "unreadable"]


class GradingError(TTSError):
    """Raised when grading cannot go on: a worker does not start, or the grader is closed."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """No verdict on one pair of answers; false in a condition, so that it is never taken for right.

    Who measures counts the answer as not right and reports how many were undecided; a verifier raises.

    Attributes:
        reason: "time" and "memory" are the limits; "died" is a worker that ended by itself, "error" rules that raised,
            "unreadable" a gold answer that the rules cannot read.
        detail: More of it, for people.
    """

    reason: Reason
    detail: str = ""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"undecided ({self.reason}): {self.detail}" if self.detail else f"undecided ({self.reason})"


Verdict = bool | Undecided


class Grader(Protocol):
    """Says whether an answer is equal to the gold one."""

    @property
    def fingerprint(self) -> dict[str, str | int | float | bool | None]:
        """Facts that identify its rules (JSON values)."""

    async def equal(self, gold: str, answer: str) -> Verdict:
        """Judge one answer; the gold one goes first, since rules need not be symmetric."""

    async def aclose(self) -> None:
        """Release what it holds."""


@dataclass(frozen=True, slots=True)
class KeyGrader:
    """Equal answers share a reader's key. No worker is needed: the built-in readers' work is bounded by construction.

    Attributes:
        reader: Whose keys. An answer without one is not right; a gold answer without one leaves it undecided.
    """

    reader: AnswerReader = field(default_factory=MathAnswerReader)

    @property
    def fingerprint(self) -> dict[str, str | int | float | bool | None]:
        """The reader by name."""
        return {"rules": f"keys of {type(self.reader).__name__}"}

    async def equal(self, gold: str, answer: str) -> Verdict:
        """Compare keys."""
        key = self.reader.key(gold)
        return Undecided("unreadable") if key is None else key == self.reader.key(answer)

    async def aclose(self) -> None:
        """Hold nothing."""


class WorkerGrader:
    """Asks worker processes, each one question at a time.

    Workers are spawned when first needed and live for many questions. A verdict does not depend on what a worker did
    before: one that was used, and then runs out of memory or dies, is replaced, and the question asked once more. The
    seconds run from when a worker has begun on the question, not while it waits or a process starts. Cancelling
    `equal` kills the worker that was on it. Workers end with the process that started them, and with a worker, where
    there are process groups, what its rules have started. A grader may be used from any event loops, each with as many
    places as there are workers.

    The limit of memory is on the worker's whole address space (RLIMIT_AS), some 0.1 GB of which the interpreter takes
    and math-verify 0.1 more. macOS and Windows have none: there only the time ends what grows. A solver that catches
    its own MemoryError, as math-verify does in places, may say "different" at the limit, also where earlier questions
    have filled it.

    Workers get the module search path of this process and few of its environment variables: what a solver makes of a
    model's text cannot read keys from them.
    """

    def __init__(
        self, rules: str = "canonical", *, workers: int = 2, seconds: float = 5.0, memory_bytes: int = 1 << 30
    ) -> None:
        """Say by what rules, and within which limits.

        Args:
            rules: "canonical" (the built-in reader's keys), "math_verify" (see `tts.grading_worker.MathVerify`), or
                rules of your own as "module:function": a function of gold answer and answer that says whether they are
                equal, or None if the gold answer cannot be read. The workers import it.
            workers: How many questions are judged at a time.
            seconds: How long one may take.
            memory_bytes: The address space of a worker.

        Raises:
            ParameterError: There are no such rules, or a limit is not positive, not finite or not whole.
            MissingExtraError: math-verify is asked for and not installed.
        """
        if rules not in ("canonical", "math_verify") and not all(rules.partition(":")):
            raise ParameterError(f'rules={rules!r}; there are "canonical", "math_verify" and "module:function"')
        for name, value in (("workers", workers), ("seconds", seconds), ("memory_bytes", memory_bytes)):
            if not (math.isfinite(value) and value > 0):
                raise ParameterError(f"{name}={value}; give a finite number above zero")
            if name != "seconds" and not isinstance(value, int):
                raise ParameterError(f"{name}={value}; give a whole number")
        if rules == "math_verify" and importlib.util.find_spec("math_verify") is None:
            raise MissingExtraError("math_verify", "grading")
        self._rules, self._count, self._seconds, self._memory = rules, workers, seconds, memory_bytes
        self._alive: set[Worker] = set()
        self._idle: list[Worker] = []
        self._closed = False
        self._local: RunVar[_Places | None] = RunVar(f"tts.grading.{next(_graders)}", None)

    @property
    def fingerprint(self) -> dict[str, str | int | float | bool | None]:
        """Rules and limits; the versions of what math-verify is made of, where it judges."""
        packages = _PACKAGES if self._rules == "math_verify" else ()
        versions = {package: importlib.metadata.version(package) for package in packages}
        return {"rules": self._rules, "seconds": self._seconds, "memory_bytes": self._memory, **versions}

    async def equal(self, gold: str, answer: str) -> Verdict:
        """Judge one answer.

        Returns:
            Whether it is equal, or `Undecided`, which says why that is not known.

        Raises:
            GradingError: The grader is closed, or its workers do not start.
        """
        places = self._places()
        async with places.questions:
            worker = self._idle_one() or await self._start(places)
            used = worker.used
            verdict = await self._ask(places, worker, gold, answer)
            if used and isinstance(verdict, Undecided) and verdict.reason in ("memory", "died"):
                verdict = await self._ask(places, await self._start(places), gold, answer)
            return verdict

    async def _ask(self, places: _Places, worker: Worker, gold: str, answer: str) -> Verdict:
        sound = False
        try:
            verdict = await self._converse(places, worker, gold, answer)
            self._refuse_if_closed()
            sound = not isinstance(verdict, Undecided) or verdict.reason in ("error", "unreadable")
            return verdict
        finally:
            if sound:
                self._idle.append(worker)
            else:
                await self._dispose(worker)

    async def _converse(self, places: _Places, worker: Worker, gold: str, answer: str) -> Verdict:
        try:
            return _verdict(await places.run(worker.ask, gold, answer, self._seconds))
        except NotStarted as error:
            self._refuse_if_closed()
            raise GradingError(f"a worker with rules {self._rules!r} did not start: {error}") from error
        except TimeUp:
            return Undecided("time", f"no verdict within {self._seconds:g} s")
        except Ended as end:
            return Undecided("memory" if end.out_of_memory else "died", str(end))

    def _idle_one(self) -> Worker | None:
        try:
            return self._idle.pop()
        except IndexError:  # asked for, not looked at first: another thread's event loop may take the last one
            return None

    async def _start(self, places: _Places) -> Worker:
        return await to_thread.run_sync(self._spawn, limiter=places.threads)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise GradingError("the grader is closed; make another")

    def _spawn(self) -> Worker:
        self._refuse_if_closed()
        worker = Worker(self._rules, self._memory, self._seconds)
        self._alive.add(worker)
        if self._closed:  # meanwhile: whoever closes may have looked already
            worker.kill()
        return worker

    async def _dispose(self, worker: Worker) -> None:
        worker.kill()
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(worker.reap)
        self._alive.discard(worker)

    def _places(self) -> _Places:
        self._refuse_if_closed()
        places = self._local.get()
        if places is None:
            places = _Places(anyio.Semaphore(self._count), anyio.CapacityLimiter(2 * self._count))
            self._local.set(places)
        return places

    async def aclose(self) -> None:
        """End all workers; a question under way ends in a GradingError."""
        self._closed = True
        self._idle.clear()
        while self._alive:
            await self._dispose(next(iter(self._alive)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


@dataclass(frozen=True, slots=True)
class _Places:
    """Room of one event loop: for questions, and for the threads that wait on pipes (one may be on its way out)."""

    questions: anyio.Semaphore
    threads: anyio.CapacityLimiter

    async def run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Run what blocks in a thread, and leave it when cancelled; killing its worker ends it."""
        return await to_thread.run_sync(work, *arguments, abandon_on_cancel=True, limiter=self.threads)


def _verdict(reply: dict[str, Any]) -> Verdict:
    if "equal" in reply:
        return bool(reply["equal"])
    return Undecided(reply["undecided"], reply.get("detail", ""))
