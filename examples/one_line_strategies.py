"""Strategies on one line, and a verifier of one's own."""

from collections.abc import Sequence

import tts
from tts.capabilities import VerifierCapabilities
from tts.notation import best, expand, generate, keep, loop, score, subtrees, vote
from tts.protocols import Path, PathScore

PROBLEM = "Use 3, 5, 7, 2 to make 24."


class PrefersShortSteps:
    """A verifier need not be a model: one probability a step, here the higher the shorter the step."""

    capabilities = VerifierCapabilities(name="prefers_short_steps", steps=True)

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Score every step of every path."""
        return [PathScore([1 / (1 + len(step)) for step in path.steps]) for path in paths]

    async def aclose(self) -> None:
        """Nothing to release."""


def main() -> None:
    """Run three pipelines with either verifier."""
    pipelines = {
        "best of 16": generate(16) >> score() >> best(),
        "beam": loop(expand(4) >> score() >> keep(4)) >> best(),
        "diverse trees": subtrees(4, loop(expand(4) >> score() >> keep(1))) >> vote("score"),
    }
    for name, pipeline in pipelines.items():
        for verifier in ("embedded", PrefersShortSteps()):
            outcome = tts.solve_sync(PROBLEM, strategy=pipeline, generator="embedded", verifier=verifier)
            print(f"{name:14} {outcome.answer or 'no answer':24} {outcome.usage.generated} tokens")


if __name__ == "__main__":
    main()
