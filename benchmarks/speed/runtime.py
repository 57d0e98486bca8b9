"""What the runtime itself costs: node expansions a second on a generator that answers at once, and bytes a node."""

from __future__ import annotations

import gc
import time
import tracemalloc
from array import array
from typing import TYPE_CHECKING, ClassVar

import tts
from tts.capabilities import Capabilities
from tts.selection import Answer, best
from tts.types import Completion, Finish, Message, Prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.graph import Node
    from tts.protocols import GenerationRequest, Sink

STEP_TOKENS = 60
STEP_TEXT = "a step of some sixty tokens, each of them about four letters " * 4


class InstantGenerator:
    """Gives every child at once: one step of 60 tokens with log-probabilities, never the same text twice."""

    capabilities = Capabilities(name="instant")

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        """A prompt of two tokens."""
        return Prompt(tuple(messages), "", (1, 2))

    async def tokenize(self, text: str) -> Sequence[int]:
        """Nothing."""
        return ()

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        """Deliver."""
        for place in range(request.count):
            text = f"{STEP_TEXT}{request.seed + place}\n\n"
            ids, logprobs = array("i", [7]) * STEP_TOKENS, array("f", [-0.5]) * STEP_TOKENS
            sink.finish(place, Completion(text, Finish.DELIMITER, STEP_TOKENS, ids, logprobs))

    async def aclose(self) -> None:
        """Nothing to release."""


class Thicket(tts.Strategy):
    """Beams one after another in one graph: ten levels each, four children of the first 25 nodes of a level."""

    name: ClassVar[str] = "thicket"

    beams: int

    async def search(self, s: tts.Search) -> Answer:
        """Grow."""
        live: list[Node] = []
        for _ in range(self.beams):
            live = [s.root]
            for _ in range(10):
                live = (await s.expand(live, 4))[:25]
        return best(live)


def grow(beams: int) -> tts.Outcome:
    """Search a graph of about 800 nodes a beam."""
    sampling = tts.Sampling(max_tokens=10**9)
    return tts.solve_sync("?", strategy=Thicket(beams=beams), generator=InstantGenerator(), sampling=sampling)


def rate(beams: int, repeats: int = 3) -> tuple[int, float]:
    """Return how many nodes there are, and the best of some measurements of nodes a CPU second."""
    rates = []
    nodes = 0
    for _ in range(repeats):
        gc.collect()
        started = time.process_time()
        outcome = grow(beams)
        spent = time.process_time() - started
        nodes = len(outcome.graph or ())
        rates.append(nodes / spent)
    return nodes, max(rates)


def bytes_per_node(beams: int = 10) -> float:
    """Return traced memory that a finished graph keeps, over its nodes."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    outcome = grow(beams)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return kept / len(outcome.graph or ())


def main() -> None:
    """Print the figures."""
    grow(1)
    print("nodes      nodes a CPU second   relative cost of a node")
    first: float | None = None
    for beams in (1, 12, 125):
        nodes, speed = rate(beams)
        first = first or speed
        print(f"{nodes:<10} {speed:<20.0f} {first / speed:.2f}")
    print(f"bytes a node of {STEP_TOKENS} tokens with log-probabilities: {bytes_per_node():.0f}")


if __name__ == "__main__":
    main()
