"""For research: a verifier that knows what is right, and one that errs at given rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from tts.capabilities import VerifierCapabilities
from tts.errors import ParameterError, VerifierError
from tts.protocols import PathScore
from tts.seeds import derive
from tts.types import Message
from tts.verifiers.exact import checked_labels

if TYPE_CHECKING:
    from tts.protocols import Path

Check = Callable[[Sequence[Message], str], bool]
"""(conversation, text of a finished path) -> whether it is right."""
LabelSteps = Callable[[Sequence[Message], Sequence[str]], Sequence[bool]]
"""(conversation, steps) -> of each step, whether it is right; a step's label does not hang on later ones."""


class Oracle:
    """Scores 1 what an exact check finds right, and 0 what it finds wrong.

    The best that any verifier can do, by which search and verification are told apart. It knows the answers, so no
    result that it had a part in says what a model can do alone. A look at a path counts as one call, so that limits in
    verifier calls mean what they mean with a model; it reads no tokens and costs nothing.

    The check runs on the event loop: it is quick, and answers the same when it is asked again. What it raises ends the
    search with a VerifierError.
    """

    def __init__(self, check: Check | None = None, *, label_steps: LabelSteps | None = None) -> None:
        """Say what is right: exactly one of the two.

        Args:
            check: Of a finished path; then there is one value a path.
            label_steps: Of each step; then there is one value a step, of unfinished paths too.

        Raises:
            ParameterError: Both are given, or none.
        """
        if (check is None) == (label_steps is None):
            raise ParameterError("an oracle takes check=... for whole paths or label_steps=... for steps, not both")
        self._check = check
        self._label_steps = label_steps

    @property
    def capabilities(self) -> VerifierCapabilities:
        """One score a step or a finished path, free of cost."""
        steps = self._label_steps is not None
        rule = self._label_steps or self._check
        return VerifierCapabilities(
            name="oracle",
            steps=steps,
            partial=steps,
            dollars_per_token=0.0,
            flops_per_token=0.0,
            fingerprint={"oracle": True, "rule": getattr(rule, "__qualname__", type(rule).__qualname__)},
        )

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Say of each path, or of each step, whether it is right.

        Raises:
            ScoreCountError: Not one label a step.
            ScoreValueError: The check says neither True nor False.
            VerifierError: A path has no steps, or has not finished where only finished ones can be checked.
        """
        return [PathScore(self._values(path)) for path in paths]

    async def aclose(self) -> None:
        """Nothing to release."""

    def _values(self, path: Path) -> list[float]:
        if not path.steps:
            raise VerifierError(f"{self.capabilities.name}: a path without steps says nothing that could be right")
        prefixes = list(accumulate(path.steps)) if self._label_steps else ["".join(path.steps)]
        labels = self._labels(path)
        return [float(self._verdict(path, text, right)) for text, right in zip(prefixes, labels, strict=True)]

    def _labels(self, path: Path) -> Sequence[bool]:
        name = self.capabilities.name
        if self._label_steps is not None:
            return checked_labels(name, self._label_steps(path.messages, path.steps), len(path.steps))
        if self._check is None or not path.finished:
            raise VerifierError(f"{name}: a path has not finished, so that its answer cannot be checked")
        return checked_labels(name, [self._check(path.messages, "".join(path.steps))], 1)

    def _verdict(self, path: Path, text: str, right: bool) -> bool:
        return right


class NoisyOracle(Oracle):
    """An oracle that accepts what is right with one probability, and rejects what is wrong with another.

    The imperfect verifier of Stroebl et al. 2024 (arXiv 2411.17501): drawing until one is accepted is right in at most
    c r / (c r + (1 - r)(1 - s)) of what it accepts, for a policy that is right at rate r, and rates c and s here.

    Its errors are derived from the seed, the conversation and the text up to the judged place. So a text's verdict
    is the same whenever it is asked for and whatever stands beside it, and the labels of steps err independently.
    Formulas of independent verdicts hold for texts that differ: a policy that writes the same wrong text again has it
    accepted again, as it would by a model. Real verifiers err more on some problems than on others; this one does not.
    """

    def __init__(
        self,
        check: Check | None = None,
        *,
        accept_right: float,
        reject_wrong: float,
        seed: int = 0,
        label_steps: LabelSteps | None = None,
    ) -> None:
        """Say what is right, and how often to say otherwise.

        Args:
            check: Of a finished path; then there is one value a path.
            accept_right: Probability of 1 for what is right (c, the true positive rate), in [0, 1].
            reject_wrong: Probability of 0 for what is wrong (s, the true negative rate), in [0, 1].
            seed: Another one errs on other texts.
            label_steps: Of each step, instead of `check`; then there is one value a step.

        Raises:
            ParameterError: Both of `check` and `label_steps` are given, or none, or a rate is out of range.
        """
        super().__init__(check, label_steps=label_steps)
        for name, rate in (("accept_right", accept_right), ("reject_wrong", reject_wrong)):
            if not 0 <= rate <= 1:
                raise ParameterError(f"{name}={rate}; expected a probability in [0, 1]")
        self._accept_right = accept_right
        self._reject_wrong = reject_wrong
        self._seed = seed

    @property
    def capabilities(self) -> VerifierCapabilities:
        """As of an oracle, with its rates in the fingerprint."""
        able = super().capabilities
        rates = {"accept_right": self._accept_right, "reject_wrong": self._reject_wrong, "seed": self._seed}
        return replace(able, name="noisy_oracle", fingerprint={**able.fingerprint, **rates})

    def _verdict(self, path: Path, text: str, right: bool) -> bool:
        said = [(message.role, message.content) for message in path.messages]
        # The 53 bits that a float holds, so that it stays below 1.
        chance = (derive("noisy oracle", self._seed, said, text) >> 9) / 2**53
        return chance < self._accept_right if right else chance >= self._reject_wrong
