"""One run of a strategy on scripted backends, with all that happened kept for the laws to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import PrivateAttr, SerializeAsAny

from tts.budget import Budget
from tts.fakes import (
    GENERATES,
    JUDGES,
    Schedule,
    Script,
    ScriptedGenerator,
    ScriptedVerifier,
    at_once,
    tree_script,
)
from tts.graph import Key, Status
from tts.protocols import Needs, Strategy
from tts.retry import Retry
from tts.search import Search
from tts.setup import SolveOptions, prepare
from tts.solve import solve_prepared
from tts.types import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from tts.admission import Admission
    from tts.budget import Ledger
    from tts.capabilities import Capabilities, VerifierCapabilities
    from tts.errors import TTSError
    from tts.outcome import Outcome
    from tts.protocols import Clock, GenerationRequest, PathScore
    from tts.selection import Answer
    from tts.types import Completion, Event

WATCHED = ("tokens", "samples", "verifier_calls")
"""Meters whose spent and held together never pass the limit, at any moment."""
PATH_TOKENS = 120
"""Cap of a path, unless the conditions say otherwise."""

Consumed = tuple[tuple[Key, str, str, float | None, tuple[float, ...], int | None, int], ...]


class LawBroken(AssertionError):
    """Raised by the checks: which law or clause (1 to 8, "G1", "S1", "V1"), what broke it, and the values at fault."""

    def __init__(self, law: int | str, what: str, **values: object) -> None:
        shown = ", ".join(f"{name}={value!r}" for name, value in values.items())
        super().__init__(f"law {law}: {what} ({shown})")
        self.law = law
        self.what = what
        self.values = values


def require(law: int | str, holds: bool, what: str, **values: object) -> None:
    """Raise LawBroken unless it holds."""
    if not holds:
        raise LawBroken(law, what, **values)


def no_fault(call: int) -> Exception | None:
    """Let every call work."""
    return None


def honest(replies: list[PathScore]) -> list[PathScore]:
    """Change nothing."""
    return replies


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a strategy is run under; the fields of the scripted backends and of `solve`."""

    question: str = "What is it?"
    budget: Budget = field(default_factory=Budget)
    schedule: Schedule = at_once
    judging: Schedule = at_once
    concurrency: int = 64
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=PATH_TOKENS, step_tokens=60))
    script: Script = field(default_factory=tree_script)
    faults: Callable[[int], Exception | None] = no_fault
    spoil: Callable[[list[PathScore]], list[PathScore]] = honest
    value: Callable[[str], float] | None = None
    able: Capabilities = GENERATES
    judge: VerifierCapabilities | None = JUDGES
    report_every: int = 1
    retry: Retry = field(default_factory=lambda: Retry(first_delay=0.0))
    clock: Clock | None = None
    seed: int = 0


class Probe(Strategy):
    """Runs another strategy, and keeps the search that it was given."""

    name: ClassVar[str] = "probe"

    inner: SerializeAsAny[Strategy]
    _seen: list[Search] = PrivateAttr(default_factory=list)

    @property
    def needs(self) -> Needs:
        """Those of the other."""
        return self.inner.needs

    @property
    def order_sensitive(self) -> bool:
        """As the other is."""
        return self.inner.order_sensitive

    async def search(self, s: Search) -> Answer:
        """Keep the search, and let the other run it."""
        self._seen.append(s)
        return await self.inner.search(s)

    @property
    def ledger(self) -> Ledger | None:
        """The search's ledger, once it has begun."""
        return self._seen[0].ledger if self._seen else None


class Recording(ScriptedGenerator):
    """A scripted generator that remembers what it said, by path and seed."""

    def _completion(self, request: GenerationRequest, seed: int) -> Completion:
        said = super()._completion(request, seed)
        self.said[request.text, seed] = said
        return said

    def __post_init__(self) -> None:
        super().__post_init__()
        self.said: dict[tuple[str, int], Completion] = {}


class Trial:
    """A strategy under conditions.

    Attributes:
        generator: With every request and all that it said.
        verifier: With every path that it saw; None where the conditions have none.
        events: What the observers were told.
        peaks: Most that was spent and held together, by meter, whenever a batch began or a node came.
        outcome: What came out; None before the end, and where nobody let it end.
        error: What `solve` would have raised.
    """

    def __init__(self, strategy: Strategy, conditions: Conditions) -> None:
        c = conditions
        self.conditions = c
        self.generator = Recording(c.script, c.schedule, c.faults, c.able, c.report_every)
        self.verifier = None if c.judge is None else ScriptedVerifier(able=c.judge, schedule=c.judging, spoil=c.spoil)
        if self.verifier is not None and c.value is not None:
            self.verifier.value = c.value
        self.events: list[Event] = []
        self.peaks: dict[str, float] = dict.fromkeys(WATCHED, 0)
        self.outcome: Outcome | None = None
        self.error: TTSError | None = None
        self.limiter: Admission | None = None
        self._probe = Probe(inner=strategy)

    @property
    def ledger(self) -> Ledger:
        """Of the search; there is none before it has begun."""
        ledger = self._probe.ledger
        if ledger is None:
            raise LawBroken(7, "the search never began", error=self.error)
        return ledger

    async def run(self) -> Self:
        """Run it to its end."""
        c = self.conditions
        options = SolveOptions(
            strategy=self._probe, generator=self.generator, verifier=self.verifier, sampling=c.sampling,
            budget=c.budget, concurrency=c.concurrency, retry=c.retry, observers=(self._observe,), seed=c.seed,
        )  # fmt: skip
        if c.clock is not None:
            options["clock"] = c.clock
        setup = await prepare(options)
        self.limiter = setup.limiter
        try:
            self.outcome, self.error = await solve_prepared(setup, c.question)
        finally:
            await setup.aclose()
        return self

    def _observe(self, event: Event) -> None:
        self.events.append(event)
        ledger = self._probe.ledger if event.kind in ("batch", "node") else None
        if ledger is not None:
            for name in WATCHED:
                amount = getattr(ledger.spent, name) + getattr(ledger.held, name)
                self.peaks[name] = max(self.peaks[name], amount)

    def ended(self) -> Outcome:
        """Return the outcome of a search that was to end well."""
        if self.error is not None or self.outcome is None:
            raise LawBroken(7, "the search failed, and nothing was wrong", error=self.error)
        return self.outcome

    def total(self, kind: str, name: str) -> int:
        """Sum a number over the events of a kind."""
        return sum(event.data[name] for event in self.events if event.kind == kind)

    def of_status(self, *wanted: Status) -> int:
        """Sum the tokens of the nodes whose last status, by the events, is one of these."""
        tokens = {e.data["key"]: e.data["tokens"] for e in self.events if e.kind == "node"}
        status = {e.data["key"]: e.data["status"] for e in self.events if e.kind in ("node", "status")}
        return sum(count for key, count in tokens.items() if status[key] in wanted)

    def left_children(self) -> bool:
        """Whether a block was left before all its children had come or were read."""
        graph = self.ended().graph
        left = (Status.CANCELLED, Status.DISCARDED)
        return graph is not None and any(node.status in left for node in graph)

    def consumed(self) -> Consumed:
        """Return what the strategy saw, which must not hang on timing."""
        outcome = self.ended()
        assert outcome.graph is not None
        return tuple(
            (node.key, node.status.value, node.text, node.score, node.scores, node.seed, node.tokens)
            for node in outcome.graph.consumed()
        )

    def verdict(self) -> tuple[object, ...]:
        """Return what the strategy answered, which must not hang on timing."""
        outcome = self.ended()
        ranking = tuple((entry.key, entry.votes, entry.answer) for entry in outcome.candidates)
        return outcome.answer, outcome.text, outcome.support, outcome.ended, outcome.limit, ranking
