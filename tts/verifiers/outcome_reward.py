"""An outcome reward model: one value a path, read at its end, by a map to [0, 1] that is said out loud."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from tts.capabilities import VerifierCapabilities
from tts.errors import NeedsError, ParameterError, ScoreCountError, ScoreValueError, VerifierError
from tts.protocols import PathScore, connect
from tts.verifiers.asking import check_length, each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.protocols import Path, Scorer

Map = Literal["softmax", "sigmoid", "clip"] | tuple[float, float]


class OutcomeReward:
    """Scores a finished path by what a reward model says at its last token.

    Training Verifiers to Solve Math Word Problems (Cobbe et al. 2021, arXiv 2110.14168) judges whole solutions so; the
    models that are common now are sequence classifiers with a single output, trained on preferences by Bradley and
    Terry's model, whose reward is any real number.

    How that becomes a number in [0, 1] is a choice, which `map` makes, since the weights of a vote are never negative:

    - "softmax": the probability of class `good`, of a model with several classes; what it is where nothing is said.
    - "sigmoid": 1 / (1 + exp(-reward)). Keeps the order, but for rewards so great that they round to 1.
    - (low, high): (reward - low) / (high - low), cut off at 0 and 1. Keeps differences between the bounds; beyond them
      everything is alike.
    - "clip": (0.0, 1.0), for a model whose reward lies there anyway.

    Rewards of Bradley and Terry's model mean something as differences between answers to one question alone, so scores
    of different questions are not to be compared, nor read as the probability of being right.

    Bounds and "clip" need raw rewards, such as `TorchScorer(..., activation="none")` gives; "sigmoid" takes these, and
    the single probability of a scorer that has applied the sigmoid already (vLLM does, on `/classify`).

    What a path is charged (`PathScore.tokens`) is its length in tokens with the conversation and `ending`.
    """

    def __init__(
        self, scorer: Scorer, *, map: Map | None = None, good: int = 1, ending: str = "", partial: bool = False
    ) -> None:
        """Say how to read a model.

        Args:
            scorer: The model.
            map: How what it says becomes a score; None only for a model with several classes.
            good: The class that means a good answer, from 0, of a model with several.
            ending: What the model's conversations end with, read behind the path, such as "<|eot_id|>"; it is read
                behind unfinished paths too.
            partial: Unfinished paths may be scored. Outcome models are trained on finished ones.

        Raises:
            ParameterError: `map` is none, or its bounds are no two finite numbers in order.
        """
        self._scorer = scorer
        self._map = map
        self._bounds = _bounds(map)
        self._good = good
        self._ending = ending
        self._partial = partial

    async def connect(self) -> None:
        """Let the scorer find out what it can do.

        Raises:
            NeedsError: It gives no classes, or no raw rewards where the map needs them.
            ParameterError: The map is not one for its outputs, or there is no class `good`.
        """
        await connect(self._scorer)
        self._check()

    @cached_property
    def capabilities(self) -> VerifierCapabilities:
        """One score a path; finished ones, unless it was told otherwise."""
        able = self._scorer.capabilities
        chosen = self._map or "softmax"
        return VerifierCapabilities(
            name=f"outcome_reward({able.name})",
            steps=False,
            partial=self._partial,
            dollars_per_token=able.dollars_per_token,
            flops_per_token=able.flops_per_token,
            runtimes=able.runtimes,
            fingerprint={
                **able.fingerprint,
                "map": chosen if isinstance(chosen, str) else f"{chosen[0]} to {chosen[1]}",
                "good": self._good if able.classes > 1 else 0,
                "ending": self._ending,
            },
        )

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Score each path.

        Raises:
            VerifierError: A path is empty, or has not finished and `partial` is not set.
            ScoreCountError: The scorer did not return a row of its classes for each path.
            ScoreValueError: It returned something that is no finite number.
            NeedsError: As `connect`.
            ParameterError: As `connect`; or a path is longer than the scorer's context.
        """
        self._check()

        async def encode(place: int) -> list[int]:
            return await self._encode(f"{self.capabilities.name}: path {place} of {len(paths)}", paths[place])

        found = await each(encode, range(len(paths)), beside=not self._scorer.capabilities.local)
        sequences = [found[place] for place in range(len(paths))]
        rows = await self._scorer.probabilities(sequences, [[len(ids) - 1] for ids in sequences])
        if [len(several) for several in rows] != [1] * len(paths):
            raise ScoreCountError(f"{self.capabilities.name}: the scorer returned another number of rows than paths")
        return [PathScore([self._score(several[0])], len(ids)) for several, ids in zip(rows, sequences, strict=True)]

    async def aclose(self) -> None:
        """Release the scorer."""
        await self._scorer.aclose()

    def _check(self) -> None:
        able = self._scorer.capabilities
        if not able.classes:
            raise NeedsError(f"{able.name} is a language model, which gives no classes: name a reward model")
        if able.classes > 1:
            if self._map not in (None, "softmax"):
                raise ParameterError(f"map={self._map!r} is for a single output; {able.name} has {able.classes}")
            if not 0 <= self._good < able.classes:
                raise ParameterError(f"good={self._good}, but {able.name} tells {able.classes} classes apart, from 0")
        elif self._map in (None, "softmax"):
            raise ParameterError(
                f"map={self._map!r}, but {able.name} has a single output, a reward: say how it becomes a score, by "
                "'sigmoid', 'clip' or bounds (low, high)"
            )
        elif self._map != "sigmoid" and not self._raw:
            raise NeedsError(
                f"map={self._map!r} needs raw rewards; {able.name} gives them after its activation: take "
                "map='sigmoid', or a scorer with activation='none'"
            )

    @property
    def _raw(self) -> bool:
        return self._scorer.capabilities.fingerprint.get("activation") == "none"

    async def _encode(self, where: str, path: Path) -> list[int]:
        if not any(path.steps):
            raise VerifierError(f"{where} says nothing: there is nothing to judge")
        if not path.finished and not self._partial:
            raise VerifierError(f"{where} has not finished; partial=True has it scored all the same")
        ids = list(await self._scorer.encode(path.messages))
        ids += await self._scorer.tokenize("".join(path.steps))
        ids += await self._scorer.tokenize(self._ending) if self._ending else ()
        check_length(self._scorer.capabilities, where, len(ids))
        return ids

    def _score(self, row: Sequence[float]) -> float:
        classes = self._scorer.capabilities.classes
        if len(row) != classes:
            raise ScoreCountError(f"{self.capabilities.name}: {list(row)} is not one number for each of {classes}")
        value = float(row[self._good if classes > 1 else 0])
        if not math.isfinite(value):
            raise ScoreValueError(f"{self.capabilities.name}: the scorer said {value!r}, which is no finite number")
        if self._bounds is not None:
            low, high = self._bounds
            return min(1.0, max(0.0, (value - low) / (high - low)))
        return _sigmoid(value) if self._raw else value


def _bounds(map: Map | None) -> tuple[float, float] | None:
    if map is None or map in ("softmax", "sigmoid"):
        return None
    if map == "clip":
        return 0.0, 1.0
    pair = () if isinstance(map, str) else tuple(map)
    if len(pair) != 2 or not all(math.isfinite(bound) for bound in pair) or not pair[0] < pair[1]:
        raise ParameterError(f"map={map!r}: expected 'softmax', 'sigmoid', 'clip', or two bounds, the lower one first")
    return float(pair[0]), float(pair[1])


def _sigmoid(value: float) -> float:
    """Return 1 / (1 + exp(-value)), for values of any size."""
    small = math.exp(-abs(value))
    return 1 / (1 + small) if value >= 0 else small / (1 + small)
