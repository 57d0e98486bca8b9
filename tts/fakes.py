"""Scripted fakes, for tests of strategies and backends; no weights, no waiting."""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import anyio.lowlevel

from tts.capabilities import Capabilities, VerifierCapabilities
from tts.protocols import PathScore
from tts.seeds import derive
from tts.types import Completion, Finish, Prompt

if TYPE_CHECKING:
    from tts.protocols import Clock, GenerationRequest, Path, Sink
    from tts.types import Message

Script = Callable[[str, int], str]
"""(path so far, seed) -> all that the model would say from there, up to its end of sequence; greedy, the seed is 0."""
Schedule = Callable[[int, int], Awaitable[None]]
"""(seed, tokens so far) -> when the next token may come."""

GENERATES = Capabilities(
    name="scripted", exact_cancellation=True, context=4096, dollars_per_token=0.001, flops_per_token=2.0
)
JUDGES = VerifierCapabilities(name="scripted", steps=True, dollars_per_token=0.0001, flops_per_token=2.0)


async def at_once(seed: int, tokens: int) -> None:
    """Let every token come without waiting."""


def paced(clock: Clock, seconds: float = 1.0) -> Schedule:
    """Return a schedule under which every token takes that long by `clock`."""

    async def wait(child: int, tokens: int) -> None:
        await clock.sleep(seconds)

    return wait


def shuffled(seed: int, longest: int = 7) -> Schedule:
    """Return a schedule under which children are of unlike speed, so that they finish in an order that `seed` picks."""
    pauses: dict[int, int] = {}

    async def wait(child: int, tokens: int) -> None:
        if child not in pauses:
            pauses[child] = 1 + derive(seed, child) % longest
        for _ in range(pauses[child]):
            await anyio.lowlevel.checkpoint()

    return wait


def letters(text: str) -> array[int]:
    """Return token ids: one token a character, its code point."""
    return array("i", map(ord, text))


def tree_script(*, depth: int = 4, answers: int = 3) -> Script:
    """Return a script that reasons for up to `depth` steps and answers; what it says hangs on path and seed alone."""

    def say(path: str, seed: int) -> str:
        text = path
        while text.count("\n\n") < 1 + derive("length", text, seed) % depth:
            text += f"s{derive(text, seed) % 10}\n\n"
        return text[len(path) :] + f"The answer is \\boxed{{{derive('answer', text, seed) % answers}}}"

    return say


def _probability(path: str) -> float:
    return (derive("score", path) % 1000) / 1000


@dataclass
class ScriptedGenerator:
    """Says what a script says, a character a token, at the pace of a schedule.

    Attributes:
        script: What it says.
        schedule: When each token comes.
        faults: Errors to raise, by the number of the call to `generate`, once its first child has come.
        able: Capabilities, to be narrowed.
        report_every: Tokens between two reports of progress; more than one goes without `exact_cancellation`.
        calls: Every request so far.
        running: Children in flight at the moment.
        sampled: Tokens sampled so far, whoever has been told of them.
        prompts: Prompt tokens computed so far.
    """

    script: Script
    schedule: Schedule = at_once
    faults: Callable[[int], Exception | None] = lambda _: None
    able: Capabilities = GENERATES
    report_every: int = 1

    def __post_init__(self) -> None:
        self.calls: list[GenerationRequest] = []
        self.running = 0
        self.sampled = 0
        self.prompts = 0
        self.closed = False

    @property
    def capabilities(self) -> Capabilities:
        """As given."""
        return self.able

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        """Join the messages with newlines."""
        text = "".join(message.content + "\n" for message in messages)
        return Prompt(tuple(messages), text, tuple(letters(text)))

    async def tokenize(self, text: str) -> Sequence[int]:
        """One token a character."""
        return letters(text)

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        """Say it, child after child as the schedule has it."""
        self.calls.append(request)
        fault = self.faults(len(self.calls) - 1)
        computed = len(request.prompt.token_ids) + len(request.text)
        self.prompts += computed
        sink.prompt(cached=0, computed=computed)
        self.running += request.count
        try:
            if self.schedule is at_once and fault is None:
                for place in range(request.count):
                    completion = self._completion(request, request.seed + place)
                    self.sampled += completion.tokens
                    sink.finish(place, completion)
                return
            async with anyio.create_task_group() as tasks:
                scope = None if fault is None else tasks.cancel_scope
                for place in range(request.count):
                    tasks.start_soon(self._say, request, sink, place, scope)
            if fault is not None:
                raise fault
        finally:
            self.running -= request.count

    async def _say(self, request: GenerationRequest, sink: Sink, place: int, last: anyio.CancelScope | None) -> None:
        seed = request.seed + place
        completion = self._completion(request, seed)
        for tokens in range(1, completion.tokens + 1):
            await self.schedule(seed, tokens)
            self.sampled += 1
            if tokens % self.report_every == 0:
                sink.progress(place, tokens)
        sink.finish(place, completion)
        if last is not None:
            last.cancel()

    def _completion(self, request: GenerationRequest, seed: int) -> Completion:
        chance = seed if request.sampling.temperature else 0
        text, finish = cut(self.script(request.text, chance), request.delimiters, request.sampling.stops)
        if len(text) + (finish is Finish.EOS) > request.max_tokens:
            text, finish = text[: request.max_tokens], Finish.LENGTH
        ids = letters(text)
        if finish is Finish.EOS:
            ids.append(0)
        values = (-((31 * seed + 17 * place) % 101) / 50 for place in range(len(ids)))
        return Completion(text, finish, len(ids), ids, array("f", values) if request.logprobs else None)

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True


def cut(text: str, delimiters: Sequence[str], stops: Sequence[str]) -> tuple[str, Finish]:
    """Return `text` up to and including the first delimiter or stop, and why it ends there."""
    marks = [(text.find(mark), mark, Finish.DELIMITER) for mark in delimiters]
    marks += [(text.find(mark), mark, Finish.STOP) for mark in stops]
    found = [(place + len(mark), finish) for place, mark, finish in marks if place >= 0]
    if not found:
        return text, Finish.EOS
    end, finish = min(found)
    return text[:end], finish


@dataclass
class ScriptedVerifier:
    """Scores paths by a function of their text; a step's score is that of the path up to it.

    Attributes:
        value: Path text -> probability; by default a hash of it.
        able: Capabilities, to be narrowed.
        schedule: Awaited with (call number, 0) before each answer.
        spoil: Changes the replies, to test what a broken verifier does.
        seen: Every path asked about.
    """

    value: Callable[[str], float] = _probability
    able: VerifierCapabilities = JUDGES
    schedule: Schedule = at_once
    spoil: Callable[[list[PathScore]], list[PathScore]] = lambda replies: replies

    def __post_init__(self) -> None:
        self.seen: list[Path] = []
        self.calls = 0

    @property
    def capabilities(self) -> VerifierCapabilities:
        """As given."""
        return self.able

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Score each path."""
        self.calls += 1
        self.seen += paths
        await self.schedule(self.calls, 0)
        return self.spoil([self._judge(path) for path in paths])

    def _judge(self, path: Path) -> PathScore:
        prefixes = ["".join(path.steps[: place + 1]) for place in range(len(path.steps))]
        values = [self.value(prefix) for prefix in prefixes] if self.able.steps else [self.value("".join(path.steps))]
        return PathScore(values, len("".join(path.steps)))

    async def aclose(self) -> None:
        """Nothing to release."""


class FakeClock:
    """Time that moves only by sleeping, and only once all else has come to rest.

    The sleeper that is due next looks on, and time moves to it when nothing has gone to sleep or awoken for `patience`
    turns of the event loop. What runs between two sleeps must not take more turns than that.

    Attributes:
        sleeps: What was asked for, in order.
    """

    def __init__(self, patience: int = 30) -> None:
        self.sleeps: list[float] = []
        self._patience = patience
        self._time = 0.0
        self._stirred = 0
        self._numbers = count()
        self._sleepers: dict[tuple[float, int], anyio.Event] = {}

    def now(self) -> float:
        """Seconds since it was made."""
        return self._time

    async def sleep(self, seconds: float) -> None:
        """Wait until nobody is due before."""
        self.sleeps.append(seconds)
        due = (self._time + seconds, next(self._numbers))
        self._stir(due)
        try:
            await anyio.lowlevel.checkpoint()
            while self._time < due[0]:
                await (self._look_on(due) if due == min(self._sleepers) else self._sleepers[due].wait())
        finally:
            del self._sleepers[due]
            self._stir()

    async def _look_on(self, due: tuple[float, int]) -> None:
        quiet, stirred = 0, self._stirred
        while due == min(self._sleepers):
            if quiet == self._patience:
                self._time = due[0]
                return
            await anyio.lowlevel.checkpoint()
            quiet = quiet + 1 if stirred == self._stirred else 0
            stirred = self._stirred

    def _stir(self, *new: tuple[float, int]) -> None:
        self._stirred += 1
        for due in new:
            self._sleepers[due] = anyio.Event()
        if self._sleepers:
            first = min(self._sleepers)
            for due in [due for due in self._sleepers if due[0] <= self._time or due == first]:
                self._sleepers[due].set()
                self._sleepers[due] = anyio.Event()
