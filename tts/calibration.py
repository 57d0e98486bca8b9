"""Calibration: monotone maps from a verifier's scores to shares of good labels, fitted on labels and kept as files.

Platt's map is a line in log-odds, sigmoid(slope * logit(score) + intercept). The isotonic map is the non-decreasing one
of least squared error, by pool adjacent violators; between the scores at which it was fitted it is interpolated
linearly, and beyond them constant. Neither changes the order of two scores, except that the isotonic map makes some
equal, and that scores nearer to 0 or 1 than `EDGE` count as `EDGE` for Platt's.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field, ValidationError, model_validator

from tts.errors import FileFormatError, NeedsError, ParameterError, ScoreValueError, UnknownNameError
from tts.types import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

Fact = str | int | float | bool | None
Share = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

EDGE = 1e-6
"""Scores of models are rounded, so that an exact 0 or 1 is no infinite certainty."""
LEAST = 5
"""Labels of each kind without which nothing is fitted."""
ITERATIONS = 100
CONVERGED = 1e-10


class Platt(Frozen):
    """sigmoid(slope * logit(score) + intercept), with a slope above 0."""

    kind: Literal["platt"] = "platt"
    slope: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    intercept: Finite

    def __call__(self, scores: ArrayLike) -> Floats:
        """Return the calibrated scores."""
        return _sigmoid(self.slope * log_odds(checked(scores)) + self.intercept)


class Isotonic(Frozen):
    """A non-decreasing function through knots, linear between them and constant beyond the first and the last."""

    kind: Literal["isotonic"] = "isotonic"
    scores: tuple[Share, ...] = Field(min_length=1, description="of the knots, increasing")
    values: tuple[Share, ...] = Field(description="at the knots, not decreasing")

    @model_validator(mode="after")
    def _is_monotone(self) -> Isotonic:
        if len(self.scores) != len(self.values):
            raise ValueError(f"{len(self.scores)} scores and {len(self.values)} values: there is one value a score")
        if np.any(np.diff(self.scores) <= 0) or np.any(np.diff(self.values) < 0):
            raise ValueError("scores have to increase, and values must not decrease")
        return self

    def __call__(self, scores: ArrayLike) -> Floats:
        """Return the calibrated scores."""
        return np.interp(checked(scores), self.scores, self.values)


Map = Annotated[Platt | Isotonic, Field(discriminator="kind")]
Kind = Literal["platt", "isotonic"]


class FittedOn(Frozen):
    """Where the labels came from."""

    verifier: str = Field(description="the name that it gives itself")
    fingerprint: dict[str, Fact] = Field(description="its fingerprint")
    steps: bool = Field(description="whether its values are of steps; otherwise of whole paths")
    spec: str = Field(default="", description="what the command line made it from; empty where something else did")
    options: dict[str, Any] = Field(default_factory=dict, description="and with which options; headers are left out")
    task: str
    generator: str = Field(description="the name of the generator whose attempts were labelled")
    problems: int = Field(ge=0)
    good: int = Field(ge=0, description="labels that are good")
    bad: int = Field(ge=0, description="labels that are not")


class Calibration(Frozen):
    """A map with what it was fitted on, as it is in a file."""

    format: Literal[1] = 1
    map: Map
    fitted_on: FittedOn

    @property
    def digest(self) -> str:
        """What tells this map from others: its kind and a hash of its parameters."""
        parameters = json.dumps(self.map.model_dump(mode="json"), sort_keys=True)
        return f"{self.map.kind}:{blake2b(parameters.encode(), digest_size=6).hexdigest()}"

    def check(self, verifier: str, fingerprint: Mapping[str, Fact], *, steps: bool) -> None:
        """Refuse a verifier other than the one whose scores the map was fitted on.

        Raises:
            NeedsError: It is another; says in what it differs.
        """
        fitted = self.fitted_on
        there = {"name": fitted.verifier, "steps": fitted.steps, **fitted.fingerprint}
        here = {"name": verifier, "steps": steps, **fingerprint}
        differing = [name for name in {**there, **here} if there.get(name) != here.get(name)]
        if differing:
            said = "; ".join(f"{name} {there.get(name)!r} there, {here.get(name)!r} here" for name in differing)
            raise NeedsError(f"the calibration was fitted on the scores of another verifier ({said}): fit it anew")

    def save(self, path: str | Path) -> None:
        """Write the file, the same bytes for the same calibration.

        Raises:
            FileFormatError: It cannot be written.
        """
        try:
            Path(path).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise FileFormatError(f"{path}: cannot be written: {error.strerror}") from None


def read_calibration(path: str | Path) -> Calibration:
    """Read a file that `Calibration.save` wrote.

    Raises:
        FileFormatError: It cannot be read, or is no calibration.
    """
    try:
        return Calibration.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise FileFormatError(f"{path}: no calibration: {where}: {first['msg']}") from None


def fit(kind: Kind, scores: ArrayLike, good: Sequence[bool] | Flags) -> Platt | Isotonic:
    """Fit a map of a kind; see `fit_platt` and `fit_isotonic`.

    Raises:
        UnknownNameError: There is no such kind.
    """
    if kind not in get_args(Kind):
        raise UnknownNameError("map", kind, get_args(Kind))
    return fit_platt(scores, good) if kind == "platt" else fit_isotonic(scores, good)


def fit_platt(scores: ArrayLike, good: Sequence[bool] | Flags) -> Platt:
    """Fit Platt's map by maximum likelihood.

    Platt, Probabilistic outputs for support vector machines (1999): the targets are (goods + 1) / (goods + 2) and
    1 / (bads + 2) instead of 1 and 0, so that the optimum is finite where the classes are separable; found by Newton's
    method with backtracking, as in Lin, Lin and Weng, A note on Platt's probabilistic outputs (2007). We depart from
    Platt in that the line is in the log-odds of the score, since the score is a probability already: a calibrated one
    is left as it is (slope 1, intercept 0).

    Args:
        scores: In [0, 1].
        good: Whether the label of each is good.

    Raises:
        ParameterError: One kind of label alone, fewer than `LEAST` of one, one score alone, or the likeliest slope is
            not positive: the bad outscore the good, which no monotone map mends.
        ScoreValueError: A score is no probability.
    """
    values, labels = _checked_labels(scores, good)
    odds = log_odds(values)
    if odds.min() == odds.max():
        raise ParameterError(
            f"all {len(values)} scores are within {EDGE:g} of {round(values[0])}: there is one for Platt's map"
        )
    inputs = np.stack([odds, np.ones(len(values))], axis=1)
    goods, bads = int(labels.sum()), int((~labels).sum())
    targets = np.where(labels, (goods + 1) / (goods + 2), 1 / (bads + 2))
    slope, intercept = _maximum_likelihood(inputs, targets, np.array([0.0, np.log((goods + 1) / (bads + 1))]))
    if slope <= 0:
        raise ParameterError(
            f"the likeliest slope over {goods} good and {bads} bad labels is {slope:.3g}: scores do not rise with "
            "goodness, so no calibration helps"
        )
    return Platt(slope=float(slope), intercept=float(intercept))


def _maximum_likelihood(inputs: Floats, targets: Floats, start: Floats) -> Floats:
    """Return the weights of the logistic regression: a convex loss, with a least value as targets are within (0, 1)."""
    weights, loss = start, _loss(inputs, targets, start)
    for _ in range(ITERATIONS):
        chances = _sigmoid(inputs @ weights)
        gradient = inputs.T @ (chances - targets)
        if np.abs(gradient).max() <= CONVERGED * len(targets):
            break
        curvature = inputs.T @ (inputs * (chances * (1 - chances))[:, None]) + 1e-12 * np.eye(len(weights))
        step, share = np.linalg.solve(curvature, gradient), 1.0
        while share > CONVERGED and _loss(inputs, targets, weights - share * step) > loss:
            share /= 2
        weights = weights - share * step
        loss = _loss(inputs, targets, weights)
    return weights


def _loss(inputs: Floats, targets: Floats, weights: Floats) -> float:
    logits = inputs @ weights
    return float(np.sum(np.logaddexp(0, logits) - targets * logits))


def fit_isotonic(scores: ArrayLike, good: Sequence[bool] | Flags) -> Isotonic:
    """Fit the isotonic map: pool adjacent violators (Ayer et al. 1955), by scipy.

    Equal scores are pooled first. A block of one value keeps its two outer scores as knots. Unlike Platt's, the map has
    as many parameters as the labels ask for: with few labels it overfits, and it says exactly 0 or 1 at ends where all
    labels were alike.

    Raises:
        ParameterError: One kind of label alone, fewer than `LEAST` of one, or one score alone.
        ScoreValueError: A score is no probability.
    """
    from scipy.optimize import isotonic_regression

    values, labels = _checked_labels(scores, good)
    distinct, places = np.unique(values, return_inverse=True)
    weights = np.bincount(places).astype(float)
    shares = np.bincount(places, labels) / weights
    fitted = np.clip(isotonic_regression(shares, weights=weights).x, 0.0, 1.0)
    changes = np.diff(fitted) != 0
    outer = np.concatenate([[True], changes]) | np.concatenate([changes, [True]])
    return Isotonic(scores=tuple(distinct[outer].tolist()), values=tuple(fitted[outer].tolist()))


def checked(scores: ArrayLike) -> Floats:
    """Return scores as an array.

    Raises:
        ScoreValueError: One is not a finite number in [0, 1].
    """
    values = np.asarray(scores, dtype=float)
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        raise ScoreValueError(f"a score is {float(values[wrong][0])!r}; expected a probability in [0, 1]")
    return values


def log_odds(scores: Floats) -> Floats:
    """Return log(score / (1 - score)), scores kept `EDGE` away from 0 and 1."""
    inside = np.clip(scores, EDGE, 1 - EDGE)
    odds: Floats = np.log(inside) - np.log1p(-inside)
    return odds


def _sigmoid(logits: Floats) -> Floats:
    chances: Floats = np.exp(-np.logaddexp(0, -logits))
    return chances


def _checked_labels(scores: ArrayLike, good: Sequence[bool] | Flags) -> tuple[Floats, Flags]:
    values, labels = checked(scores), np.asarray(good, dtype=bool)
    if values.ndim != 1 or values.shape != labels.shape:
        raise ParameterError(f"{values.size} scores and {labels.size} labels: there is one label a score")
    goods, bads = int(labels.sum()), int((~labels).sum())
    if min(goods, bads) < LEAST:
        raise ParameterError(f"{goods} good and {bads} bad labels: a calibration needs at least {LEAST} of each")
    if values.min() == values.max():
        raise ParameterError(f"all {len(values)} scores are {values[0]:g}: there is nothing to calibrate")
    return values, labels
