"""How sure a model was of what it wrote, from the log-probabilities of its tokens; pure functions, natural logarithms.

What is called a confidence here is in nats, has no upper bound, and is higher where the model was surer. Numbers are
taken as the engine gives them. Engines differ on whether temperature and filters have been applied, so they compare
within one engine and one sampling only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tts.errors import ParameterError, VerifierError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ABOVE_ZERO = 1e-6
"""How far rounding may take a log-probability above zero."""


def mean_logprob(logprobs: Sequence[float]) -> float:
    """Return the mean log-probability of sampled tokens, at most 0.

    Perplexity is exp(-mean): it orders paths the other way round and says the same.

    Raises:
        VerifierError: There are none, or one is no finite number below zero.
    """
    return min(0.0, float(_checked(logprobs).mean()))


def token_confidences(top_logprobs: Sequence[float], k: int) -> Floats:
    """Return each token's confidence: minus the mean log-probability of the k most likely tokens at its place.

    DeepConf (arXiv 2508.15260). It is least, ln k, where these k share all probability alike. A place where
    more than k tokens are alike looks surer than that, though the model was not.

    Args:
        top_logprobs: k a token, the greatest first, flat.
        k: How many a token, at least 2: of the first alone, minus the log-probability falls as the model is surer.

    Raises:
        ParameterError: k is below 2.
        VerifierError: There are none, they are not k a token, or one is no finite number below zero.
    """
    confidences: Floats = -_rows(top_logprobs, k).mean(axis=1)
    return confidences


def self_certainty(top_logprobs: Sequence[float], k: int) -> float:
    """Return the mean over tokens of the divergence from uniform, of what the k most likely tokens share among them.

    Self-certainty (Kang et al. 2025, arXiv 2502.18581) is -1/(n|V|) sum over n tokens and the vocabulary V of
    log(|V| p(j)): the Kullback-Leibler divergence KL(U || p) of the uniform distribution U from the model's. Engines
    give the top k only, so this departs from it: the k probabilities are scaled to sum to 1, and k stands for |V|. It
    is 0 where the k are alike, and is not comparable with figures over a whole vocabulary, nor between different k.
    Left unscaled it would be the mean of `token_confidences` less ln k, and so order paths as that does.

    Args:
        top_logprobs: k a token, the greatest first, flat.
        k: How many a token, at least 2.

    Raises:
        ParameterError: k is below 2.
        VerifierError: There are none, they are not k a token, or one is no finite number below zero.
    """
    rows = _rows(top_logprobs, k)
    shared = np.log(np.exp(rows).sum(axis=1))
    return max(0.0, float((shared - rows.mean(axis=1)).mean()) - math.log(k))


def group_confidences(confidences: Floats, window: int) -> Floats:
    """Return the mean of every `window` tokens in a row (stride 1); one plain mean where there are fewer.

    DeepConf's group confidence, as its released code has it for short traces; it rounds to three digits, this does not.

    Args:
        confidences: One a token.
        window: Tokens of a group; the paper's is 2048.

    Raises:
        ParameterError: The window is below 1.
        VerifierError: There are no confidences.
    """
    if window < 1:
        raise ParameterError(f"window={window}; a group has at least 1 token")
    if not len(confidences):
        raise VerifierError("there are no tokens to be confident of")
    if len(confidences) <= window:
        return np.array([confidences.mean()])
    sums = np.concatenate(([0.0], np.cumsum(confidences)))
    groups: Floats = (sums[window:] - sums[:-window]) / window
    return groups


def lowest_group(confidences: Floats, window: int) -> float:
    """Return the confidence of the least sure group; raises as `group_confidences` does."""
    return float(group_confidences(confidences, window).min())


def bottom_share(confidences: Floats, window: int, share: float = 0.1) -> float:
    """Return the mean of the least sure groups: of `share` of them, rounded down, but at least of one.

    DeepConf's bottom-10 % confidence, by default.

    Raises:
        ParameterError: The share is not in (0, 1], or the window is below 1.
        VerifierError: There are no confidences.
    """
    if not 0 < share <= 1:
        raise ParameterError(f"share={share}; expected a number above 0 and at most 1")
    groups = np.sort(group_confidences(confidences, window))
    # What a product of decimals loses to rounding must not cost a whole group: 0.29 * 100 is below 29.
    return float(groups[: max(1, math.floor(share * len(groups) + 1e-9))].mean())


def tail(confidences: Floats, window: int) -> float:
    """Return the mean of the last `window` tokens, or of all where there are fewer; raises as `group_confidences`."""
    return float(group_confidences(confidences[-max(window, 1) :], window)[-1])


def bounded(nats: float) -> float:
    """Return x / (1 + x), which takes confidences to [0, 1) and keeps their order.

    Not 1 - exp(-x), which in double precision is 1 from 37 nats on, where all order would be lost.
    """
    return nats / (1 + nats)


def leading(top_logprobs: Sequence[float], tokens: int, k: int) -> Sequence[float]:
    """Return the k greatest a token, where each of so many tokens may have more.

    Raises:
        VerifierError: Each token has not the same number, or has fewer.
    """
    each, over = divmod(len(top_logprobs), max(tokens, 1))
    if over or each < k:
        raise VerifierError(
            f"{len(top_logprobs)} top log-probabilities for {tokens} tokens, where {k} a token are needed"
        )
    if each == k:
        return top_logprobs
    return [value for start in range(0, len(top_logprobs), each) for value in top_logprobs[start : start + k]]


def _rows(top_logprobs: Sequence[float], k: int) -> Floats:
    if k < 2:
        raise ParameterError(f"k={k}; a confidence takes at least 2 of the most likely tokens")
    values = _checked(top_logprobs)
    if len(values) % k:
        raise VerifierError(f"{len(values)} top log-probabilities are not {k} a token")
    return values.reshape(-1, k)


def _checked(logprobs: Sequence[float]) -> Floats:
    values = np.asarray(logprobs, dtype=np.float64)
    if not values.size:
        raise VerifierError("there are no log-probabilities to judge by")
    wrong = np.flatnonzero(~(np.isfinite(values) & (values <= ABOVE_ZERO)))
    if wrong.size:
        raise VerifierError(
            f"log-probability {wrong[0]} of {values.size} is {values[wrong[0]]}; expected a finite number, at most 0: "
            "have the engine give them as they are before filters such as top-k"
        )
    return values
