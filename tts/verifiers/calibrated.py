"""A calibrated verifier: another verifier's scores through a monotone map that was fitted on labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tts.errors import ScoreCountError, ScoreValueError
from tts.protocols import connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.calibration import Calibration
    from tts.capabilities import VerifierCapabilities
    from tts.protocols import Path, PathScore, Verifier


class Calibrated:
    """Scores as another verifier does, and maps each value (see `tts.calibration`).

    Probabilities are what products of steps (`Aggregation.PROD`), weighted votes and resampling take scores for; what
    ranks alone is hardly changed, since the map is monotone. It reads and costs what the other one does. It is known to
    fail where attempts differ from those it was fitted on: a map holds for a task and a generator, and says on which.
    """

    def __init__(self, verifier: Verifier, calibration: Calibration, *, any_verifier: bool = False) -> None:
        """Wrap a verifier.

        Args:
            verifier: Whose scores are mapped; closed with this one.
            calibration: The map, fitted on that verifier's scores.
            any_verifier: Take the map though it was fitted on another verifier.
        """
        self._verifier = verifier
        self._calibration = calibration
        self._any = any_verifier

    async def connect(self) -> None:
        """Let the verifier find out what it can do, and see that the map is its own.

        Raises:
            NeedsError: The map was fitted on another verifier.
        """
        await connect(self._verifier)
        self._check()

    def _check(self) -> None:
        if not self._any:
            able = self._verifier.capabilities
            self._calibration.check(able.name, able.fingerprint, steps=able.steps)

    @property
    def capabilities(self) -> VerifierCapabilities:
        """The verifier's own, under another name, with the map in the fingerprint."""
        able = self._verifier.capabilities
        return replace(
            able,
            name=f"calibrated({able.name})",
            fingerprint={**able.fingerprint, "calibration": self._calibration.digest},
        )

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Score paths, each value mapped; what was read and asked for is the verifier's own count.

        Raises:
            NeedsError: The map was fitted on another verifier.
            ScoreCountError: The verifier did not give one score a path.
            ScoreValueError: The verifier's score is no probability.
        """
        self._check()
        replies = await self._verifier.score(paths)
        if len(replies) != len(paths):
            raise ScoreCountError(f"{self.capabilities.name}: {len(paths)} paths, but {len(replies)} scores")
        return [self._mapped(place, reply) for place, reply in enumerate(replies)]

    def _mapped(self, place: int, reply: PathScore) -> PathScore:
        try:
            return replace(reply, values=self._calibration.map(reply.values).tolist())
        except ScoreValueError as error:
            raise ScoreValueError(f"{self.capabilities.name}: path {place}: {error}") from None

    async def aclose(self) -> None:
        """Release the verifier."""
        await self._verifier.aclose()
