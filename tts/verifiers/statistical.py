"""Judging without another model: how sure the policy itself was, from log-probabilities that are already paid for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

import anyio.lowlevel

from tts.capabilities import VerifierCapabilities
from tts.errors import ParameterError, VerifierError
from tts.protocols import PathScore
from tts.verifiers.confidence import (
    bottom_share,
    bounded,
    leading,
    lowest_group,
    mean_logprob,
    self_certainty,
    tail,
    token_confidences,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.protocols import Path
    from tts.verifiers.confidence import Floats

Measure = Literal[
    "mean_logprob", "self_certainty", "mean_confidence", "tail_confidence", "lowest_confidence", "bottom_confidence"
]

TAKES: dict[str, tuple[str, ...]] = {
    "mean_logprob": (),
    "self_certainty": ("k",),
    "mean_confidence": ("k",),
    "tail_confidence": ("k", "window"),
    "lowest_confidence": ("k", "window"),
    "bottom_confidence": ("k", "window", "share"),
}
"""The parameters of each measure."""


class Statistical:
    """Scores a path by the log-probabilities of its tokens; reads nothing, asks nothing and costs nothing.

    - `mean_logprob`: exp of the mean log-probability, the geometric mean of the tokens' probabilities. It is 1 over the
      perplexity, which therefore has no name of its own here. It needs only the sampled tokens' log-probabilities.
    - `self_certainty` (Kang et al. 2025, arXiv 2502.18581), over the top k instead of the vocabulary, as
      `tts.verifiers.confidence.self_certainty` says.
    - `mean_confidence`, `tail_confidence`, `lowest_confidence`, `bottom_confidence`: DeepConf's (arXiv 2508.15260)
      mean over all tokens, over the last `window`, of the least sure group of `window` tokens in a row, and of the
      least sure tenth of the groups.

    All but the first are in nats without an upper bound, and x / (1 + x) takes them to [0, 1): a choice by them is the
    same, while a vote that adds them up weighs otherwise than the papers' raw confidences. `measure` gives those.

    Departures: exactly k a token count, where DeepConf's released code takes 21 if the sampled token is not among the
    top 20; nothing is rounded. Tokens of text that was given to a path have no log-probabilities and do not
    count. Within a search, paths that say the same are scored once, by the log-probabilities of the first.

    Fails where a model is sure of what is wrong. Short and repetitive texts look sure. Values compare within one
    engine, model and sampling only.
    """

    def __init__(
        self,
        measure: Measure = "mean_logprob",
        *,
        k: int | None = None,
        window: int | None = None,
        share: float | None = None,
    ) -> None:
        """Choose what to judge by; a parameter that the measure has no use for is refused.

        Args:
            measure: What is computed.
            k: How many of the most likely tokens at each place, at least 2; None is the papers' 20.
            window: Tokens of a group; None is DeepConf's 2048. Paths that are shorter get the plain mean.
            share: Of the groups, how many count as the bottom, above 0 and at most 1; None is a tenth.

        Raises:
            ParameterError: There is no such measure, or a parameter is out of range or not for it.
        """
        if measure not in TAKES:
            raise ParameterError(f"measure={measure!r}; there are {', '.join(get_args(Measure))}")
        given = {"k": k, "window": window, "share": share}
        for name, value in given.items():
            if value is not None and name not in TAKES[measure]:
                raise ParameterError(f"{name}={value} has no meaning for {measure}: leave it out")
            if name != "share" and value is not None and not isinstance(value, int):
                raise ParameterError(f"{name}={value}: give a whole number")
        self._measure = measure
        self._k = 20 if k is None else k
        self._window = 2048 if window is None else window
        self._share = 0.1 if share is None else share
        if self._k < 2 or self._window < 1 or not 0 < self._share <= 1:
            raise ParameterError(f"k={k}, window={window}, share={share}: expected k >= 2, window >= 1, 0 < share <= 1")

    @property
    def capabilities(self) -> VerifierCapabilities:
        """One score a path, unfinished ones too, at no cost."""
        settings = {"k": self._k, "window": self._window, "share": self._share}
        takes = TAKES[self._measure]
        return VerifierCapabilities(
            name=self._measure,
            steps=False,
            calls=0,
            logprobs=True,
            top_logprobs=self._k if "k" in takes else 0,
            dollars_per_token=0.0,
            flops_per_token=0.0,
            fingerprint={"measure": self._measure, **{name: settings[name] for name in takes}},
        )

    def measure(self, path: Path) -> float:
        """Return the measure as it is: the mean log-probability, at most 0, or a confidence in nats, at least 0.

        Raises:
            VerifierError: The path has no steps or no log-probabilities, not as many as are needed, or one is no finite
                number.
        """
        if not path.steps:
            raise VerifierError(f"{self._measure}: a path without steps says nothing that could be judged")
        if not path.logprobs:
            raise VerifierError(
                f"{self._measure}: a path has no log-probabilities: its text was given and not sampled, or the "
                f"generator was not asked for them; it begins {''.join(path.steps)[:40]!r}"
            )
        if self._measure == "mean_logprob":
            return mean_logprob(path.logprobs)
        top = leading(path.top_logprobs or (), len(path.logprobs), self._k)
        if self._measure == "self_certainty":
            return self_certainty(top, self._k)
        return max(0.0, self._reduced(token_confidences(top, self._k)))

    def _reduced(self, confidences: Floats) -> float:
        if self._measure == "tail_confidence":
            return tail(confidences, self._window)
        if self._measure == "lowest_confidence":
            return lowest_group(confidences, self._window)
        if self._measure == "bottom_confidence":
            return bottom_share(confidences, self._window, self._share)
        return float(confidences.mean())

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Judge each path by its own log-probabilities.

        Raises:
            VerifierError: A path has no steps or no log-probabilities, not as many as are needed, or one is no finite
                number.
        """
        scores = []
        for path in paths:
            measured = self.measure(path)
            value = math.exp(measured) if self._measure == "mean_logprob" else bounded(measured)
            scores.append(PathScore([value], calls=0))
            # A path can hold hundreds of thousands of numbers; what else runs need not wait for all of them.
            await anyio.lowlevel.checkpoint()
        return scores

    async def aclose(self) -> None:
        """Nothing to release."""
