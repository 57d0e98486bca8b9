"""A process reward model: one probability a step, read from a token classifier at each step's last token."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from tts.errors import ScoreCountError
from tts.protocols import PathScore, VerifierCapabilities, connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.protocols import Path, Scorer


class ProcessReward:
    """Scores each step by the probability of the good class at the step's last token.

    Let's Verify Step by Step (Lightman et al. 2023, arXiv 2305.20050), in the token-classification form of
    Math-Shepherd (arXiv 2312.08935). `good` is the class that means a good step.
    """

    def __init__(self, scorer: Scorer, *, good: int = 1) -> None:
        self._scorer = scorer
        self._good = good

    async def connect(self) -> None:
        """Let the scorer find out what it can do."""
        await connect(self._scorer)

    @cached_property
    def capabilities(self) -> VerifierCapabilities:
        """One score a step; unfinished paths too."""
        able = self._scorer.capabilities
        return VerifierCapabilities(
            name=f"process_reward({able.name})",
            steps=True,
            dollars_per_token=able.dollars_per_token,
            flops_per_token=able.flops_per_token,
            runtimes=able.runtimes,
            fingerprint={**able.fingerprint, "good": self._good},
        )

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Score every step of every path.

        Raises:
            ScoreCountError: The scorer did not return a row for each step.
        """
        sequences, positions = [], []
        for path in paths:
            ids, places = await self._encode(path)
            sequences.append(ids)
            positions.append(places)
        rows = await self._scorer.probabilities(sequences, positions)
        if [len(row) for row in rows] != [len(places) for places in positions]:
            raise ScoreCountError(f"{self.capabilities.name}: the scorer returned another number of rows than steps")
        return [
            PathScore([float(row[self._good]) for row in path_rows], len(ids))
            for path_rows, ids in zip(rows, sequences, strict=True)
        ]

    async def _encode(self, path: Path) -> tuple[list[int], list[int]]:
        ids = list(await self._scorer.encode(path.messages))
        places: list[int] = []
        for step in path.steps:
            ids += await self._scorer.tokenize(step)
            places.append(len(ids) - 1)
        return ids, places

    async def aclose(self) -> None:
        """Release the scorer."""
        await self._scorer.aclose()
