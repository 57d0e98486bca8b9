"""For research: a verifier of yes and no that errs at given rates, made of one that is taken to be right."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from tts.errors import ParameterError, ScoreCountError, ScoreValueError
from tts.protocols import connect
from tts.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.capabilities import VerifierCapabilities
    from tts.protocols import Path, PathScore, Verifier


class NoisyOracle:
    """Accepts what another verifier finds right with one probability, and rejects what it finds wrong with another.

    Around an exact verifier (`tts.verifiers.exact`) this is the imperfect verifier of Stroebl et al. 2024 (arXiv
    2411.17501): drawing until one is accepted is right in at most c r / (c r + (1 - r)(1 - s)) of what it accepts, for
    a policy that is right at rate r, and rates c and s here. It reads and costs what the other one does.

    Its errors are derived from the seed, the conversation and the text up to the judged place. So a text's verdict
    is the same whenever it is asked for and whatever stands beside it, and the labels of steps err independently.
    Formulas of independent verdicts hold for texts that differ: a policy that writes the same wrong text again has it
    accepted again, as it would by a model. Real verifiers err more on some problems than on others; this one does not.
    """

    def __init__(self, verifier: Verifier, *, accept_right: float, reject_wrong: float, seed: int = 0) -> None:
        """Say whose verdicts, and how often to say otherwise.

        Args:
            verifier: Says 1 or 0 of each path, or of each of its steps; connected and closed with this one.
            accept_right: Probability of 1 for what is right (c, the true positive rate), in [0, 1].
            reject_wrong: Probability of 0 for what is wrong (s, the true negative rate), in [0, 1].
            seed: Another one errs on other texts.

        Raises:
            ParameterError: A rate is out of range.
        """
        for name, rate in (("accept_right", accept_right), ("reject_wrong", reject_wrong)):
            if not 0 <= rate <= 1:
                raise ParameterError(f"{name}={rate}; expected a probability in [0, 1]")
        self._verifier = verifier
        self._accept_right = accept_right
        self._reject_wrong = reject_wrong
        self._seed = seed

    async def connect(self) -> None:
        """Let the verifier find out what it can do."""
        await connect(self._verifier)

    @property
    def capabilities(self) -> VerifierCapabilities:
        """The verifier's own, under another name, with the rates and the seed in the fingerprint beside its facts."""
        able = self._verifier.capabilities
        rates = {"accept_right": self._accept_right, "reject_wrong": self._reject_wrong, "seed": self._seed}
        facts = {f"of.{name}": value for name, value in able.fingerprint.items()}
        return replace(able, name=f"noisy({able.name})", fingerprint={**facts, **rates})

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Ask the verifier, and turn over as many of its verdicts as the rates say.

        Raises:
            ScoreCountError: The verifier did not give one score a path, or not as many values as there are verdicts.
            ScoreValueError: A value of the verifier is neither 0 nor 1.
        """
        name = self.capabilities.name
        replies = await self._verifier.score(paths)
        if len(replies) != len(paths):
            raise ScoreCountError(f"{name}: {len(paths)} paths, but {len(replies)} scores")
        asked = enumerate(zip(paths, replies, strict=True))
        return [self._erring(f"{name}: path {place}", path, reply) for place, (path, reply) in asked]

    def _erring(self, where: str, path: Path, reply: PathScore) -> PathScore:
        judged = list(accumulate(path.steps)) if self._verifier.capabilities.steps else ["".join(path.steps)]
        if len(reply.values) != len(judged):
            raise ScoreCountError(f"{where}: {len(judged)} verdicts are due, but there are {len(reply.values)}")
        for place, value in enumerate(reply.values):
            if value not in (0, 1):
                raise ScoreValueError(
                    f"{where}: value {place} is {value!r}; only verdicts of 0 or 1 can be turned over: give a verifier "
                    "that says nothing else"
                )
        said = [(message.role, message.content) for message in path.messages]
        verdicts = zip(judged, reply.values, strict=True)
        return replace(reply, values=[float(self._verdict(said, text, value == 1)) for text, value in verdicts])

    def _verdict(self, said: Sequence[tuple[str, str]], text: str, right: bool) -> bool:
        # The 53 bits that a float holds, so that it stays below 1.
        chance = (derive("noisy oracle", self._seed, said, text) >> 9) / 2**53
        return chance < self._accept_right if right else chance >= self._reject_wrong

    async def aclose(self) -> None:
        """Release the verifier."""
        await self._verifier.aclose()
