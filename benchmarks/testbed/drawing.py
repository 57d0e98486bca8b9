"""Asking the engines: completions of a path, scores of paths, and so many things at a time."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from tts.errors import BackendError, ScoreCountError, ScoreValueError, VerifierError
from tts.groups import Tasks
from tts.protocols import SEED_BLOCK, GenerationRequest
from tts.retry import call_with_retry
from tts.scoring import check_replies
from tts.seeds import derive, generator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from tts.protocols import Clock, Path, PathScore, Verifier
    from tts.setup import Setup
    from tts.types import Completion, Prompt, Sampling

Given = TypeVar("Given")
Found = TypeVar("Found")


class Collector:
    """A sink that keeps the children of one request, by place."""

    def __init__(self) -> None:
        self.completions: dict[int, Completion] = {}

    def prompt(self, *, cached: int, computed: int) -> None:
        """Prompt tokens are not counted."""

    def progress(self, index: int, tokens: int) -> None:
        """Nothing is cancelled."""

    def finish(self, index: int, completion: Completion) -> None:
        """Keep a child."""
        self.completions[index] = completion


@dataclass(slots=True)
class Spent:
    """What a verifier was asked, and what it took.

    Attributes:
        paths: How many it has judged.
        calls: How often it asked something about them.
        tokens: How many it read and wrote.
        seconds: For how long it had at least one path to judge; what is judged side by side counts once, what had to be
            asked again counts again, and the waiting in between does not.
    """

    paths: int = 0
    calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    _pending: int = field(default=0, init=False)
    _since: float = field(default=0.0, init=False)

    def add(self, replies: Sequence[PathScore]) -> None:
        """Count what was judged."""
        self.paths += len(replies)
        self.calls += sum(reply.calls for reply in replies)
        self.tokens += sum(reply.tokens for reply in replies)

    @contextmanager
    def timed(self, clock: Clock) -> Iterator[None]:
        """Count the time until it ends, once for all that run at the same time."""
        if not self._pending:
            self._since = clock.now()
        self._pending += 1
        try:
            yield
        finally:
            self._pending -= 1
            if not self._pending:
                self.seconds += clock.now() - self._since


def seed_of(*parts: object) -> int:
    """Return the base seed of a request, by what it is for; no two share a child's seed."""
    return derive(*parts) // SEED_BLOCK * SEED_BLOCK


async def draw(
    setup: Setup,
    prompt: Prompt,
    sampling: Sampling,
    *,
    count: int,
    seed: int,
    max_tokens: int,
    text: str = "",
    token_ids: Sequence[int] = (),
) -> list[Completion]:
    """Draw `count` children of a path, each to its end, as a search does for whole paths.

    They come with log-probabilities where the verifier judges by them.

    Raises:
        BackendError: The generator failed for good, or did not deliver every child.
    """
    able = setup.verifier.capabilities if setup.verifier else None
    request = GenerationRequest(
        prompt=prompt, text=text, token_ids=token_ids, count=count, seed=seed, max_tokens=max_tokens, delimiters=(),
        sampling=sampling, logprobs=able is not None and able.logprobs, top_logprobs=able.top_logprobs if able else 0,
    )  # fmt: skip
    sink = Collector()
    random = generator("retry", seed)
    await call_with_retry(lambda: setup.generator.generate(request, sink), setup.retry, setup.clock, random)
    if sorted(sink.completions) != list(range(count)):
        name = setup.generator.capabilities.name
        raise BackendError(f"generator {name} delivered children {sorted(sink.completions)} of {count}")
    return [sink.completions[place] for place in range(count)]


async def score(setup: Setup, paths: Sequence[Path], spent: Spent) -> list[tuple[float, ...]]:
    """Return the verifier's values of each path, in [0, 1]: one a step, or a single one where it judges whole paths.

    What it took is added to `spent`.

    Raises:
        VerifierError: There is none, it failed for good, or it gave another number of values, or no probability.
    """
    verifier = setup.verifier
    if verifier is None:
        raise VerifierError("nothing can be scored without a verifier")
    if not paths:
        return []
    random = generator("retry", paths[0].messages, paths[0].steps)

    async def ask() -> Sequence[PathScore]:
        with spent.timed(setup.clock):
            return await verifier.score(paths)

    replies = await call_with_retry(ask, setup.retry, setup.clock, random)
    replies = check_replies(verifier.capabilities.name, replies, len(paths))
    spent.add(replies)
    return [_checked(verifier, path, reply.values) for path, reply in zip(paths, replies, strict=True)]


def _checked(verifier: Verifier, path: Path, values: Sequence[float]) -> tuple[float, ...]:
    name, wanted = verifier.capabilities.name, len(path.steps) if verifier.capabilities.steps else 1
    if len(values) != wanted:
        raise ScoreCountError(f"verifier {name}: {len(path.steps)} steps, but {len(values)} scores")
    for value in values:
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise ScoreValueError(f"verifier {name}: a score is {value!r}; expected a probability in [0, 1]")
    return tuple(values)


async def each(things: Sequence[Given], work: Callable[[Given], Awaitable[Found]], in_flight: int) -> list[Found]:
    """Return what `work` makes of each thing, in order; at most `in_flight` are worked on at a time."""
    found: dict[int, Found] = {}
    places = iter(range(len(things)))

    async def take_turns() -> None:
        for place in places:
            found[place] = await work(things[place])

    async with Tasks() as tasks:
        for _ in range(min(in_flight, len(things))):
            tasks.start_soon(take_turns)
    return [found[place] for place in range(len(things))]
