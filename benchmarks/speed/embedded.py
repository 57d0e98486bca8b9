"""Reference figures of the embedded backend: `python -m tts.benchmarks.speed.embedded`.

Sampled tokens a second at several numbers of requests in flight, each request of one child and a prompt of its own; and
sequences a second of the scorer. The best of some repeats is given, because what else the machine does only adds time.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import anyio

from tts.backends.embedded import EmbeddedGenerator, EmbeddedScorer
from tts.protocols import GenerationRequest
from tts.types import Completion, Message, Prompt, Sampling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

REQUESTS = 256
IN_FLIGHT = (1, 8, 32, 64)


class Counter:
    """A sink that counts sampled tokens."""

    def __init__(self) -> None:
        self.tokens = 0

    def prompt(self, *, cached: int, computed: int) -> None:
        """Prompt tokens are not counted."""

    def progress(self, index: int, tokens: int) -> None:
        """Nothing is cancelled."""

    def finish(self, index: int, completion: Completion) -> None:
        """Count a child."""
        self.tokens += completion.tokens


def question(number: int) -> tuple[Message, ...]:
    """A Countdown question; no two of a run are the same."""
    return (Message(role="user", content=f"Use {number % 30 + 1}, 14, 25, {number // 30 + 1} to make 42."),)


async def in_flight(limit: int, requests: int, call: Callable[[int], Awaitable[None]]) -> float:
    """Make calls 0, 1, ... with so many at a time; returns seconds."""
    numbers = iter(range(requests))

    async def work() -> None:
        for number in numbers:
            await call(number)

    begin = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(limit):
            tasks.start_soon(work)
    return time.perf_counter() - begin


async def tokens_per_second(limit: int, threads: int) -> float:
    """Sampled tokens a second with `limit` requests in flight, and nothing known of their prompts before."""
    generator, counter = EmbeddedGenerator(threads=threads), Counter()
    prompts: list[Prompt] = [await generator.encode(question(number)) for number in range(REQUESTS)]

    async def call(number: int) -> None:
        request = GenerationRequest(
            prompt=prompts[number],
            text="",
            token_ids=(),
            count=1,
            seed=4096 * number,
            max_tokens=96,
            delimiters=(),
            sampling=Sampling(),
        )
        await generator.generate(request, counter)

    seconds = await in_flight(limit, REQUESTS if limit > 1 else REQUESTS // 8, call)
    await generator.aclose()
    return counter.tokens / seconds


async def sequences_per_second(limit: int, threads: int) -> float:
    """Scored sequences a second, of three steps each, with `limit` calls in flight."""
    scorer = EmbeddedScorer(threads=threads)
    steps = "25 + 14 = 39 (left: 39, 3)\n\n39 + 3 = 42 (left: 42)\n\n42 - 1 = 41 (left: 41)\n\n"
    path = list(await scorer.tokenize(steps))
    sequences = [[*await scorer.encode(question(number)), *path] for number in range(REQUESTS)]

    async def call(number: int) -> None:
        await scorer.probabilities([sequences[number]], [[len(sequences[number]) - 1]])

    seconds = await in_flight(limit, REQUESTS, call)
    await scorer.aclose()
    return REQUESTS / seconds


async def best(measure: Callable[[int, int], Awaitable[float]], limit: int, threads: int, repeats: int) -> float:
    """The best of some repeats."""
    return max([await measure(limit, threads) for _ in range(repeats)])


async def main(threads: int, repeats: int) -> None:
    """Print the table."""
    print(f"| in flight | sampled tokens/s | scored sequences/s |  {threads} thread(s), best of {repeats}")
    print("|---|---|---|")
    for limit in IN_FLIGHT:
        tokens = await best(tokens_per_second, limit, threads, repeats)
        sequences = await best(sequences_per_second, limit, threads, repeats)
        print(f"| {limit} | {tokens:,.0f} | {sequences:,.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    anyio.run(main, arguments.threads, arguments.repeats)
