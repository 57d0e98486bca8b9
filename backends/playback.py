"""How far the replay of a trace has come, and the requests and calls that wait for their cues."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from tts.backends.cues import (
    SETTLING,
    Cue,
    all_started,
    child_key,
    completion_of,
    end_of,
    even_parts,
    name_of,
    path_texts,
    split_verdict,
)
from tts.errors import BackendError, TransientError, VerifierError
from tts.protocols import GenerationRequest, PathScore
from tts.types import Completion, Finish

if TYPE_CHECKING:
    from collections.abc import Callable

    from tts.protocols import Sink
    from tts.trace import SearchTrace
    from tts.types import Event

_JUDGING = ("judging", "verified", "verdicts", "score")
"""What comes otherwise where another verifier judges."""


@dataclass(eq=False, slots=True)
class _Request:
    """A request in flight, or one that waits for its cue."""

    request: GenerationRequest
    sink: Sink
    missing: int
    over: anyio.Event = field(default_factory=anyio.Event)
    faulty: bool = False


@dataclass(eq=False, slots=True)
class _Call:
    """A call to the verifier."""

    replies: list[PathScore] | None = None
    over: anyio.Event = field(default_factory=anyio.Event)


class Playback:
    """The cues of a trace, and how far they have been performed.

    A cue that needs the search to do something (to draw a batch, to make a request, to ask the verifier) waits for it;
    what backends had reported by then is performed at once, for whichever request it concerns.
    """

    def __init__(self, trace: SearchTrace, patience: float) -> None:
        self._trace = trace
        self._cues = [event for event in trace.events if event["event"] != "end"]
        self._patience = patience
        self._next = 0
        self._begun = False
        self._observed = False
        self._advancing = False
        self._foretold = 0
        self.judged = False
        self._told: Counter[str] = Counter()
        self._texts = path_texts(trace)
        self._to_come = Counter(cue["seed"] for cue in self._cues if cue["event"] == "request")
        self._asked: defaultdict[int, deque[_Request]] = defaultdict(deque)
        self._open: dict[str, tuple[_Request, int]] = {}
        self._calls: defaultdict[tuple[str, ...], deque[_Call]] = defaultdict(deque)
        self._judging: dict[str, _Call] = {}
        self._end = end_of(self._cues)
        self._sleepers: list[tuple[float, anyio.Event]] = []
        self._all_started = all_started(self._cues)

    def begin(self) -> None:
        """Start the recorded clock."""
        self._begun = True

    def now(self) -> float:
        """Return the recorded time of what comes next."""
        if not self._begun:
            return 0.0
        seconds: float = (self._trace.events or [self._trace.start])[-1]["seconds"]
        return self._cues[self._next]["seconds"] if self._next < len(self._cues) else seconds

    def observe(self, event: Event) -> None:
        """Note what the search does of itself; an observer of it."""
        self._observed = True
        self._told[name_of(event.kind, event.data)] += 1
        self.advance()

    def advance(self) -> None:
        """Perform cues up to one that waits for the search."""
        if self._advancing:  # by what a delivery made the search tell
            return
        self._advancing = True
        try:
            while self._next < len(self._cues) and self._perform(self._cues[self._next]):
                self._next += 1
        finally:
            self._advancing = False
        if self._next >= self._end and self.failure is not None:
            self._fail()
        self._wake()

    def _wake(self) -> None:
        for moment, awake in self._sleepers:
            if self.now() >= moment:
                awake.set()

    @property
    def failure(self) -> str | None:
        """What the recorded search failed of; None if it came to its end."""
        outcome = self._trace.outcome
        if outcome is None:
            return "the trace ends here: its search was cut off"
        return f"as traced: {outcome['error']}" if outcome["error"] else None

    def _fail(self) -> None:
        """End what is in flight; where a backend failed, only what was asked of that one."""
        for cue in self._cues[self._next :]:
            if cue["event"] == "node" and cue["key"] in self._open:
                self._perform_node(cue)
        if not self._verifier_failed:
            for asked in (*itertools.chain(*self._asked.values()), *(request for request, _ in self._open.values())):
                asked.over.set()
        if self._verifier_failed or self._trace.outcome is None:
            for call in (*itertools.chain(*self._calls.values()), *self._judging.values()):
                call.over.set()

    @property
    def _verifier_failed(self) -> bool:
        error = (self._trace.outcome or {}).get("error") or ""
        return error.partition(":")[0] in ("VerifierError", "ScoreCountError", "ScoreValueError")

    async def sleep(self, seconds: float) -> None:
        """Wait for that much of the recorded time."""
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        # Recorded times are rounded to a millionth.
        sleeper = (self.now() + seconds - 2e-6, anyio.Event())
        self._sleepers.append(sleeper)
        self._wake()
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    async def ask(self, request: GenerationRequest, sink: Sink) -> None:
        """Make a request and wait until all that was recorded of it has been performed.

        Raises:
            BackendError: It is not in the trace, or failed in it.
        """
        asked = _Request(request, sink, request.count)
        if self._to_come[request.seed] == 0 and self._all_started and self.failure is None:
            raise BackendError(f"not in the trace: a request of seed {request.seed} for {request.count} children")
        self._to_come[request.seed] -= 1
        self._asked[request.seed].append(asked)
        try:
            self.advance()
            await self._wait(asked.over)
        finally:
            self._forget(asked)
        if asked.faulty:
            raise TransientError("as traced")
        if asked.missing:
            raise BackendError(self.failure or self._stuck())

    def _forget(self, asked: _Request) -> None:
        if asked in self._asked[asked.request.seed]:
            self._asked[asked.request.seed].remove(asked)
        for key in [key for key, (request, _) in self._open.items() if request is asked]:
            del self._open[key]

    async def judge(self, texts: tuple[str, ...]) -> list[PathScore]:
        """Ask about paths and wait for the recorded verdicts.

        Raises:
            VerifierError: They are not in the trace, or it failed in it.
        """
        call = _Call()
        self._calls[texts].append(call)
        try:
            self.advance()
            await self._wait(call.over)
        finally:
            if call in self._calls[texts]:
                self._calls[texts].remove(call)
        if call.replies is None:
            raise VerifierError(self.failure or self._stuck())
        return call.replies

    async def _wait(self, over: anyio.Event) -> None:
        while not over.is_set():
            before = self._next
            with anyio.move_on_after(self._patience):
                await over.wait()
            if self._next == before:
                return

    def _stuck(self) -> str:
        if self._next == len(self._cues):
            return "the trace ends here, but the search goes on: was it recorded with other parameters?"
        cue = self._cues[self._next]
        where = {name: cue[name] for name in ("key", "parent", "first", "seed", "keys") if name in cue}
        return f"the trace goes on with {cue['event']} {where}, not asked for by the search: has it other parameters?"

    def _perform(self, cue: Cue) -> bool:
        perform: Callable[[Playback, Cue], bool] = _PERFORM.get(cue["event"], Playback._await_search)
        return perform(self, cue)

    def _await_search(self, cue: Cue) -> bool:
        """Pass what the search does of itself, once it has done it."""
        name = name_of(cue["event"], cue)
        if cue["event"] in _JUDGING and not self.judged:
            return True
        if self._observed and not self._told[name]:
            self._foretell()
            return False
        self._told[name] -= 1
        return True

    def _foretell(self) -> None:
        """Tell how far those have come that are about to be cut: the search may cut them because it knows."""
        self._foretold = max(self._foretold, self._next + 1)
        while self._foretold < len(self._cues) and self._cues[self._foretold]["event"] in SETTLING:
            cue = self._cues[self._foretold]
            if cue["event"] == "node" and cue["key"] in self._open:
                asked, place = self._open[cue["key"]]
                asked.sink.progress(place, cue["tokens"])
            self._foretold += 1

    def _perform_request(self, cue: Cue) -> bool:
        waiting = self._asked[cue["seed"]]
        if not waiting:
            return False
        asked = waiting.popleft()
        parent, request = cue["parent"], asked.request
        if request.count != cue["count"] or request.text != self._texts[parent]:
            raise BackendError(f"not in the trace: seed {request.seed} continues another path than that of {parent!r}")
        for place in range(request.count):
            self._open[child_key(parent, cue["first"] + place)] = (asked, place)
        return True

    def _perform_prompt(self, cue: Cue) -> bool:
        if cue["key"] in self._open:
            self._open[cue["key"]][0].sink.prompt(cached=cue["cached"], computed=cue["computed"])
        return True

    def _perform_node(self, cue: Cue) -> bool:
        if cue["status"] == "cancelled":
            if cue["key"] in self._open:
                asked, place = self._open[cue["key"]]
                asked.sink.progress(place, cue["tokens"])
        elif cue["key"] in self._open:
            self._deliver(cue["key"], completion_of(cue))
        else:  # given text, a branch, or a step that the budget left empty
            return self._await_search(cue)
        return True

    def _perform_failed(self, cue: Cue) -> bool:
        if cue["key"] not in self._open:
            return True
        if cue["reason"] == "empty":
            self._deliver(cue["key"], Completion("", Finish.LENGTH, cue["tokens"]))
            return True
        asked, place = self._open.pop(cue["key"])
        asked.sink.progress(place, cue["tokens"])
        asked.faulty = True
        asked.over.set()
        return True

    def _deliver(self, key: str, completion: Completion) -> None:
        asked, place = self._open.pop(key)
        asked.missing -= 1
        if not asked.missing:
            asked.over.set()
        asked.sink.finish(place, completion)

    def _perform_judging(self, cue: Cue) -> bool:
        if not self.judged:
            return True
        texts = tuple(self._texts[key] for key in cue["keys"])
        waiting = self._calls[texts]
        if not waiting:
            begun = next((asked for asked in self._calls if self._calls[asked] and asked == texts[: len(asked)]), None)
            if begun is None or not split_verdict(self._cues, self._next, len(begun)):
                return False
            self._end = end_of(self._cues)
            return self._perform_judging(self._cues[self._next])
        self._judging[cue["keys"][0]] = waiting.popleft()
        return True

    def _perform_verified(self, cue: Cue) -> bool:
        call = self._judging.get(cue["keys"][0])
        verdicts = self._cues[self._next + 1] if self._next + 1 < len(self._cues) else {}
        if call is not None and verdicts.get("event") == "verdicts":
            # Only the sums of tokens and calls are charged, and only they are recorded.
            count = len(cue["keys"])
            tokens, calls = [cue["tokens"]] + [0] * (count - 1), even_parts(cue["calls"], count)
            call.replies = list(map(PathScore, verdicts["values"], tokens, calls))
            call.over.set()
        passed = self._await_search(cue)
        if passed:
            self._judging.pop(cue["keys"][0], None)
        return passed


_PERFORM = {
    "request": Playback._perform_request,
    "prompt": Playback._perform_prompt,
    "node": Playback._perform_node,
    "failed": Playback._perform_failed,
    "judging": Playback._perform_judging,
    "verified": Playback._perform_verified,
}
