"""Real engines watched at work, so that what they did can be compared with what was charged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tts.laws import Conditions, Trial
from tts.types import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tts.protocols import GenerationRequest, Generator, Path, PathScore, Sink, Strategy, Verifier
    from tts.types import Completion, Message, Prompt

QUESTION = "Use 18, 11, 11, 30 to make 34."
STEPS = (
    "11 + 11 = 22 (left: 18, 30, 22)\n\n",
    "22 - 18 = 4 (left: 30, 4)\n\n",
    "30 + 4 = 34 (left: 34)\n\n",
    "The answer is \\boxed{30 + ((11 + 11) - 18)}",
)


class Watched:
    """A generator that counts what the one inside reports."""

    def __init__(self, inner: Generator) -> None:
        self.inner = inner
        self.capabilities = inner.capabilities
        self.calls: list[GenerationRequest] = []
        self.running = 0
        self.sampled = 0
        self.prompts = 0
        self.grown: Callable[[], None] = lambda: None

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        return await self.inner.encode(messages)

    async def tokenize(self, text: str) -> Sequence[int]:
        return await self.inner.tokenize(text)

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        self.calls.append(request)
        self.running += request.count
        try:
            await self.inner.generate(request, Counting(self, sink, request.count))
        finally:
            self.running -= request.count


class Counting:
    """A sink that counts on its way to another."""

    def __init__(self, watched: Watched, sink: Sink, count: int) -> None:
        self._watched = watched
        self._sink = sink
        self._seen = [0] * count

    def prompt(self, *, cached: int, computed: int) -> None:
        self._watched.prompts += cached + computed
        self._sink.prompt(cached=cached, computed=computed)

    def progress(self, index: int, tokens: int) -> None:
        self._count(index, tokens)
        self._sink.progress(index, tokens)

    def finish(self, index: int, completion: Completion) -> None:
        self._count(index, completion.tokens)
        self._sink.finish(index, completion)

    def _count(self, index: int, tokens: int) -> None:
        self._watched.sampled += tokens - self._seen[index]
        self._seen[index] = tokens
        self._watched.grown()


class Judge:
    """A verifier that keeps what the one inside was asked."""

    def __init__(self, inner: Verifier) -> None:
        self.inner = inner
        self.capabilities = inner.capabilities
        self.seen: list[Path] = []

    async def score(self, paths: Sequence[Path]) -> Sequence[PathScore]:
        self.seen += paths
        return await self.inner.score(paths)


def trial_of(inner: Generator, judge: Verifier, strategy: Strategy, **changes: Any) -> Trial:
    """Prepare a strategy to run on engines that have been connected."""
    generator, verifier = Watched(inner), Judge(judge)
    conditions = Conditions(
        question=QUESTION, sampling=Sampling(), able=generator.capabilities, judge=verifier.capabilities
    )
    trial = Trial(strategy, replace(conditions, **changes))
    given: Any = trial
    given.generator, given.verifier = generator, verifier
    return trial
