"""A recorded search, performed again: generator, verifier and clock that answer from its trace, in the traced order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts.backends.playback import Playback
from tts.capabilities import Capabilities, VerifierCapabilities
from tts.errors import BackendError, NeedsError, ProblemError
from tts.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from tts.protocols import GenerationRequest, Path, PathScore, Sink
    from tts.setup import SolveOptions
    from tts.trace import SearchTrace
    from tts.types import Message, Prompt

RUNTIMES = ("asyncio", "trio")


class Replay:
    """Performs one search of a trace again, whatever its strategy made of the order in which things arrived.

    `await solve(trace.problem, **Replay(trace).options())` gives the same graph, answer and charges, without an engine.
    Completions, faults, verdicts and the deadline come in the traced order, under any event loop. The parts can be
    used apart: the generator alone, with another verifier, shows what that one would have chosen from the same samples.

    Attributes:
        generator: Says what was sampled.
        clock: Tells the recorded time.
    """

    def __init__(self, trace: SearchTrace, *, patience: float = 60.0) -> None:
        """Prepare a replay; it can be performed once.

        Args:
            trace: What to perform.
            patience: Seconds for which the search may ask for nothing that the trace holds before that is an error.
        """
        self._trace = trace
        self._playback = Playback(trace, patience)
        self.generator = ReplayGenerator(trace, self._playback)
        self.clock = ReplayClock(self._playback)

    def verifier(self) -> ReplayVerifier:
        """Return the verifier that gives the recorded verdicts.

        Raises:
            NeedsError: The recorded search had none.
        """
        if self._trace.start["verifier"] is None:
            raise NeedsError("the traced search had no verifier")
        return ReplayVerifier(self._trace, self._playback)

    def options(self, **changes: Unpack[SolveOptions]) -> SolveOptions:
        """Return all that `solve` takes beside the problem, with `changes`."""
        asked = self._trace.options()
        requests = sum(event["event"] == "request" for event in self._trace.events)
        options: SolveOptions = {
            "strategy": asked["strategy"],
            "sampling": asked["sampling"],
            "budget": asked["budget"],
            "seed": asked["seed"],
            "generator": self.generator,
            "clock": self.clock,
            "observers": (self._playback.observe,),
            # Recorded faults are raised again; none is to wait, and none to be one too many.
            "retry": Retry(attempts=2**31, first_delay=0.0),
            # A request held back here could be the one that has to come first.
            "concurrency": max(64, requests),
        }
        if "verifier" not in changes and self._trace.start["verifier"] is not None:
            options["verifier"] = self.verifier()
        options.update(changes)
        return options


class ReplayGenerator:
    """Says what was sampled; made by `Replay`."""

    def __init__(self, trace: SearchTrace, playback: Playback) -> None:
        self._trace = trace
        self._playback = playback
        fingerprint = {name: value for name, value in trace.start["fingerprint"]["generator"].items() if name != "name"}
        recorded = {**trace.start["generator"], "runtimes": RUNTIMES, "fingerprint": fingerprint}
        self._capabilities = Capabilities(**recorded)
        given = [event for event in trace.events if event["event"] == "node" and event["origin"] == "given"]
        self._given: dict[str, Sequence[int]] = {event["text"]: event.get("token_ids", ()) for event in given}

    @property
    def capabilities(self) -> Capabilities:
        """Those of the recorded generator, under any event loop."""
        return self._capabilities

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        """Return the recorded prompt.

        Raises:
            ProblemError: Another problem was recorded.
        """
        if messages[-1].content != self._trace.problem.question:
            raise ProblemError(f"the trace is of another problem: {self._trace.problem.question[:80]!r}")
        self._playback.begin()
        return self._trace.prompt

    async def tokenize(self, text: str) -> Sequence[int]:
        """Return the recorded token ids of a given text.

        Raises:
            BackendError: No such text was given.
        """
        if text not in self._given:
            raise BackendError(f"not in the trace: the given text {text[:80]!r}")
        return self._given[text]

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        """Deliver the recorded children, when their turn comes."""
        await self._playback.ask(request, sink)

    async def aclose(self) -> None:
        """Nothing to release."""


class ReplayVerifier:
    """Gives the recorded verdicts; made by `Replay.verifier`."""

    def __init__(self, trace: SearchTrace, playback: Playback) -> None:
        self._playback = playback
        playback.judged = True
        fingerprint = {name: value for name, value in trace.start["fingerprint"]["verifier"].items() if name != "name"}
        recorded = {**trace.start["verifier"], "runtimes": RUNTIMES, "fingerprint": fingerprint}
        self._capabilities = VerifierCapabilities(**recorded)

    @property
    def capabilities(self) -> VerifierCapabilities:
        """Those of the recorded verifier, under any event loop."""
        return self._capabilities

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Return the recorded verdicts, when their turn comes."""
        return await self._playback.judge(tuple("".join(path.steps) for path in paths))

    async def aclose(self) -> None:
        """Nothing to release."""


class ReplayClock:
    """The recorded time: it passes as the search is performed, and so reaches a deadline where the search did."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    def now(self) -> float:
        """Return the recorded time of what comes next."""
        return self._playback.now()

    async def sleep(self, seconds: float) -> None:
        """Wait for that much of the recorded time."""
        await self._playback.sleep(seconds)
