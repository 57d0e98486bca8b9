"""What a search costs beside its engine: `python -m tts.benchmarks.speed.search`.

The engine alone draws the same samples of the same problems, as many problems side by side, and has them scored, with
nothing between it and the caller; then `tts` does. Both in one process, in turns, on fresh backends; the ratio is that
of their tokens a second, its median and its range over repeats.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import anyio

from tts import registry
from tts.backends.embedded import EmbeddedGenerator, EmbeddedScorer
from tts.benchmarks.speed.embedded import in_flight
from tts.many import solve_many
from tts.protocols import SEED_BLOCK, GenerationRequest
from tts.types import Completion, Problem, Sampling
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

PROBLEMS, SAMPLES, IN_FLIGHT = 64, 16, 16
STEP_END = "\n\n"


@dataclass(slots=True)
class Samples:
    """A sink that keeps what was sampled."""

    completions: list[Completion] = field(default_factory=list)

    def prompt(self, *, cached: int, computed: int) -> None:
        """Prompt tokens are not counted."""

    def progress(self, index: int, tokens: int) -> None:
        """Nothing is cancelled."""

    def finish(self, index: int, completion: Completion) -> None:
        """Keep a sample."""
        self.completions.append(completion)

    @property
    def tokens(self) -> int:
        """Tokens sampled."""
        return sum(completion.tokens for completion in self.completions)


async def engine_alone(problems: Sequence[Problem], *, scored: bool) -> float:
    """Return tokens a second of the engine, drawing whole samples and, if asked, scoring every step of each."""
    generator, scorer = EmbeddedGenerator(), EmbeddedScorer()
    end = (await scorer.tokenize(STEP_END))[0]
    drawn: list[int] = []

    async def call(number: int) -> None:
        prompt, sink = await generator.encode(problems[number].messages), Samples()
        await generator.generate(
            GenerationRequest(
                prompt=prompt,
                text="",
                token_ids=(),
                count=SAMPLES,
                seed=SEED_BLOCK * number,
                max_tokens=min(96, 128 - len(prompt.token_ids)),
                delimiters=(),
                sampling=Sampling(),
            ),
            sink,
        )
        drawn.append(sink.tokens)
        if scored:
            paths = {tuple(completion.token_ids or ()) for completion in sink.completions}
            sequences = [[*prompt.token_ids, *path] for path in sorted(paths)]
            ends = [[place for place, token in enumerate(row) if token == end] for row in sequences]
            await scorer.probabilities(sequences, ends)

    seconds = await in_flight(IN_FLIGHT, len(problems), call)
    await generator.aclose()
    await scorer.aclose()
    return sum(drawn) / seconds


async def search(strategy: str, problems: Sequence[Problem]) -> float:
    """Return tokens a second of a strategy through `tts`."""
    generator, scorer = EmbeddedGenerator(), EmbeddedScorer()
    options = {"n": SAMPLES}
    tokens, begin = 0, time.perf_counter()
    async with solve_many(
        problems,
        in_flight=IN_FLIGHT,
        strategy=registry.strategy(strategy, **options),
        generator=generator,
        verifier=ProcessReward(scorer),
    ) as outcomes:
        async for outcome in outcomes:
            tokens += outcome.usage.generated
    seconds = time.perf_counter() - begin
    await generator.aclose()
    await scorer.aclose()
    return tokens / seconds


async def main(repeats: int) -> None:
    """Print the table."""
    problems = [item.problem for item in registry.task("countdown").items(PROBLEMS)]
    rows: dict[str, tuple[Callable[[], Awaitable[float]], Callable[[], Awaitable[float]]]] = {
        "best_of_n": (lambda: engine_alone(problems, scored=True), lambda: search("best_of_n", problems)),
        "self_consistency": (
            lambda: engine_alone(problems, scored=False),
            lambda: search("self_consistency", problems),
        ),
    }
    print(f"| {PROBLEMS} problems x {SAMPLES} | engine alone, tokens/s | tts, tokens/s | ratio, median | range |")
    print("|---|---|---|---|---|")
    for name, (engine, ours) in rows.items():
        pairs = [(await engine(), await ours()) for _ in range(repeats)]
        ratios = sorted(mine / alone for alone, mine in pairs)
        speeds = [f"{median(column):,.0f}" for column in zip(*pairs, strict=True)]
        print(f"| {name} | {' | '.join(speeds)} | {median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    anyio.run(main, parser.parse_args().repeats)
