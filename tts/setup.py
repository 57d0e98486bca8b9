"""Options resolved, backends made, and everything refused that cannot work, before a token is paid for."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import TYPE_CHECKING, TypedDict, TypeVar

import anyio

from tts import registry
from tts.__about__ import __version__
from tts.admission import Admission
from tts.affinity import caller
from tts.answers import MathAnswerReader
from tts.boundary import typed_errors
from tts.budget import Budget
from tts.clock import SystemClock
from tts.errors import BackendError, BudgetError, NeedsError, ParameterError, ProblemError
from tts.needs import check_needs
from tts.protocols import Clock, Generator, Strategy, Verifier, connect
from tts.retry import Retry, call_with_retry
from tts.runtime import check_runtime
from tts.seeds import generator as random_of
from tts.trace import TraceWriter
from tts.types import Event, Message, Problem, Sampling

if TYPE_CHECKING:
    from tts.capabilities import Capabilities, VerifierCapabilities
    from tts.protocols import AnswerReader
    from tts.run import Run
    from tts.types import Prompt

T = TypeVar("T", Generator, Verifier)
ProblemLike = str | Sequence[Message] | Problem
Observer = Callable[[Event], None]


class SolveOptions(TypedDict, total=False):
    """What `solve`, `solve_many`, `stream` and their synchronous twins take beside the problem.

    Attributes:
        strategy: A registered name, or a strategy with its parameters; by default best_of_n with a verifier, else
            self_consistency.
        generator: Draws text. A registered name makes one that is closed at the end.
        verifier: Scores paths; a registered name or an object; None for none.
        sampling: Temperature, caps, delimiters.
        budget: Limits of each problem; a Budget, or text such as "4096tok,30s".
        seed: Of each problem, together with its text and id.
        system: System prompt; None takes the generator's suggestion, "" none.
        reader: Reads and compares answers; None takes the rules of the problem's task.
        concurrency: Requests in flight, over all problems.
        retry: How transient faults are tried again.
        trace: A file to which events are written, one JSON line each.
        observers: Called with each event, from the event loop.
        clock: Time, for tests.
    """

    strategy: str | Strategy
    generator: Generator | str
    verifier: Verifier | str | None
    sampling: Sampling
    budget: Budget | str
    seed: int
    system: str | None
    reader: AnswerReader | None
    concurrency: int
    retry: Retry
    trace: str | os.PathLike[str] | None
    observers: Sequence[Observer]
    clock: Clock


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Resolved options, with backends made and checked against what the strategy needs."""

    strategy: Strategy
    generator: Generator
    verifier: Verifier | None
    sampling: Sampling
    budget: Budget
    seed: int
    system: str | None
    reader: AnswerReader | None
    limiter: Admission
    retry: Retry
    trace: TraceWriter | None
    clock: Clock
    observers: tuple[Observer, ...] = ()
    owned: tuple[Generator | Verifier, ...] = field(default=())

    def observed_by(self, observer: Observer) -> Setup:
        """Return the same with one more observer."""
        return replace(self, observers=(*self.observers, observer))

    async def aclose(self) -> None:
        """Close the trace, and the backends that were made here."""
        if self.trace is not None:
            self.trace.close()
        await _close(self.owned)


def as_problem(problem: ProblemLike) -> Problem:
    """Make a Problem of a question or a conversation.

    Raises:
        ProblemError: It is empty.
    """
    if isinstance(problem, Problem):
        return problem
    if isinstance(problem, str):
        if not problem.strip():
            raise ProblemError("the problem is empty")
        return Problem(messages=(Message(role="user", content=problem),))
    messages: tuple[object, ...] = tuple(problem) if isinstance(problem, Sequence) else ()
    turns = tuple(message for message in messages if isinstance(message, Message))
    if not turns or len(turns) < len(messages):
        what = f"not {reprlib.repr(problem)}" if messages else "and this one is empty"
        raise ProblemError(f"a problem is a question, messages, or a Problem, {what}")
    return Problem(messages=turns)


async def prepare(options: SolveOptions) -> Setup:
    """Resolve options and refuse what cannot work, before a token is paid for; what was made for nothing is closed.

    Raises:
        UsageError: Names what is wrong and what would do.
    """
    made: list[Generator | Verifier] = []
    try:
        return await _resolve(options, made)
    except BaseException:
        await _close(made)
        raise


async def _close(backends: Iterable[Generator | Verifier]) -> None:
    with anyio.CancelScope(shield=True):
        for backend in backends:
            await backend.aclose()


async def _resolve(options: SolveOptions, made: list[Generator | Verifier]) -> Setup:
    registry.check_options(options, SolveOptions.__annotations__)
    if "generator" not in options:
        raise NeedsError('a generator is needed: generator="embedded", or an object with the Generator protocol')
    check_types(options)
    verifier = options.get("verifier")
    strategy = registry.strategy(options.get("strategy") or ("best_of_n" if verifier else "self_consistency"))
    sampling, given = options.get("sampling", Sampling()), options.get("budget", Budget())
    budget = Budget.parse(given) if isinstance(given, str) else given
    generator = _make(options["generator"], registry.generator, made)
    judge = None if verifier is None else _make(verifier, registry.verifier, made)
    retry, clock = options.get("retry", Retry()), options.get("clock") or SystemClock()
    for backend in (generator, judge):
        await _connect(backend, retry, clock)
    check_needs(strategy, generator, judge)
    check_meters(budget, generator, judge)
    for able in capabilities_of(generator, judge):
        check_runtime(able.name, able.runtimes)
    path = options.get("trace")
    return Setup(
        strategy=strategy, generator=generator, verifier=judge, sampling=sampling, budget=budget,
        seed=options.get("seed", 0), system=options.get("system"), reader=options.get("reader"),
        limiter=Admission(registry.positive("concurrency", options.get("concurrency", 64))),
        retry=retry, trace=None if path is None else TraceWriter(path), clock=clock,
        observers=tuple(options.get("observers", ())), owned=tuple(made),
    )  # fmt: skip


async def _connect(backend: Generator | Verifier | None, retry: Retry, clock: Clock) -> None:
    with typed_errors(BackendError, f"connecting {type(backend).__name__}"):
        await call_with_retry(lambda: connect(backend), retry, clock, random_of("connect"))


KINDS: dict[str, tuple[type, ...]] = {
    "sampling": (Sampling,),
    "budget": (Budget, str),
    "seed": (int,),
    "system": (str, NoneType),
    "concurrency": (int,),
    "retry": (Retry,),
    "trace": (str, os.PathLike, NoneType),
}
"""What each option may be."""


def check_types(options: SolveOptions) -> None:
    """Refuse an option that is no such thing.

    Raises:
        ParameterError: Names the option, what it is and what it may be.
    """
    for option, kinds in KINDS.items():
        value = options.get(option)
        if option in options and (not isinstance(value, kinds) or isinstance(value, bool)):
            names = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
            raise ParameterError(f"{option} is {reprlib.repr(value)}; it takes {names}")
    for option, verb in (("generator", "generate"), ("verifier", "score")):
        given = options.get(option, "")
        # By their verbs rather than by isinstance, which does not see what a wrapper passes on.
        if given is not None and not isinstance(given, str) and not (_has(given, verb) and _has(given, "capabilities")):
            raise ParameterError(
                f"{option} is {reprlib.repr(given)}; it takes a name, or what has the {option.title()} protocol"
            )


def _has(given: object, name: str) -> bool:
    try:
        return hasattr(given, name)
    except BackendError:  # what it can do is known once it is connected
        return True


def _make(given: T | str, make: Callable[[str], T], made: list[Generator | Verifier]) -> T:
    if not isinstance(given, str):
        return given
    backend = make(given)
    made.append(backend)
    return backend


def capabilities_of(generator: Generator, verifier: Verifier | None) -> list[Capabilities | VerifierCapabilities]:
    """Return the capabilities of what a search runs on."""
    return [generator.capabilities, *([verifier.capabilities] if verifier else [])]


def check_meters(budget: Budget, generator: Generator, verifier: Verifier | None) -> None:
    """Refuse a limit in dollars or operations that the backends give no rate for.

    Raises:
        BudgetError: The limit cannot be metered.
    """
    for limit, rate in (("dollars", "dollars_per_token"), ("flops", "flops_per_token")):
        for able in capabilities_of(generator, verifier):
            if getattr(budget, limit) is not None and getattr(able, rate) is None:
                raise BudgetError(f"a limit in {limit} cannot be metered: {able.name} does not say its {rate}")


async def render(setup: Setup, problem: Problem, deadline: float | None = None) -> Prompt:
    """Return the prompt that the generator will read, system prompt included.

    Raises:
        ProblemError: The generator cannot read it.
        BackendError: The generator failed for good, or had not answered when it was no more worth waiting for.
    """
    system = setup.generator.capabilities.system if setup.system is None else setup.system
    messages = problem.messages
    if system and messages[0].role != "system":
        messages = (Message(role="system", content=system), *messages)

    async def attempt() -> Prompt:
        async with setup.limiter.places(order=caller().order):
            return await setup.generator.encode(messages)

    with typed_errors(BackendError, f"generator {setup.generator.capabilities.name}"):
        return await call_with_retry(
            attempt, setup.retry, setup.clock, random_of("encode", setup.seed), deadline=deadline
        )


def reader_for(setup: Setup, problem: Problem) -> AnswerReader:
    """Return what reads the problem's answers: the given reader, else the rules of its task or of the generator's."""
    if setup.reader is not None:
        return setup.reader
    task = problem.task or setup.generator.capabilities.task
    return MathAnswerReader() if task is None else registry.task(task).reader


def fingerprint(setup: Setup, run: Run) -> dict[str, object]:
    """Return the facts that a result depends on beside parameters and seed."""
    judge = setup.verifier.capabilities if setup.verifier else None
    return {
        "tts": __version__,
        "generator": {"name": setup.generator.capabilities.name, **setup.generator.capabilities.fingerprint},
        "verifier": None if judge is None else {"name": judge.name, **judge.fingerprint},
        "sampling": run.sampling.model_dump(mode="json"),
        "caps": {"path": run.caps.path, "step": run.caps.step},
    }
