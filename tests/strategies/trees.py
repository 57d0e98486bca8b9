"""Small complete trees whose every path and score is known, so that a search can be checked by brute force."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import tts
from tts.protocols import SEED_BLOCK
from tts.seeds import derive
from tts.testing import ScriptedGenerator, ScriptedVerifier

if TYPE_CHECKING:
    from collections.abc import Callable

Moves = tuple[int, ...]
"""A path: which child was taken at each level."""


def moves_of(text: str) -> Moves:
    """Read a path's moves from its text."""
    steps = text.replace("\\boxed{", "").replace("}", "").split("\n\n")
    return tuple(int(step) for step in steps if step)


@dataclass(frozen=True)
class Tree:
    """`depth` steps deep; a request's j-th child takes move j (modulo `branching`); the last step is boxed."""

    depth: int
    branching: int
    values: Callable[[Moves], float]

    def script(self, path: str, seed: int) -> str:
        """Say the whole rest of the path: move j first, then always 0."""
        taken = len(moves_of(path))
        rest = [seed % SEED_BLOCK % self.branching, *[0] * (self.depth - taken - 1)]
        return "".join(f"{move}\n\n" for move in rest[:-1]) + f"\\boxed{{{rest[-1]}}}"

    def search(self, strategy: str, budget: tts.Budget | None = None, **parameters: Any) -> tts.Outcome:
        """Run a strategy on the tree."""
        return tts.solve_sync(
            "?",
            strategy=tts.strategy(strategy, **parameters),
            generator=ScriptedGenerator(self.script),
            verifier=ScriptedVerifier(value=lambda text: self.values(moves_of(text))),
            budget=budget or tts.Budget(),
        )

    def leaves(self) -> list[Moves]:
        """Every finished path."""
        return list(product(range(self.branching), repeat=self.depth))


def hashed(seed: int) -> Callable[[Moves], float]:
    """Return values in (0, 1) without ties, different for every seed."""
    return lambda moves: (1 + derive("value", seed, moves) % 99991) / 100000


def chosen(outcome: tts.Outcome) -> Moves:
    """The moves of the path that was chosen."""
    return moves_of(outcome.text)
