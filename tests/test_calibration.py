"""Maps from scores to shares of good labels: monotone, probabilities, right on what is known, and kept in files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from tts.calibration import (
    Calibration,
    FittedOn,
    Isotonic,
    Platt,
    fit,
    fit_isotonic,
    fit_platt,
    log_odds,
    read_calibration,
)
from tts.errors import FileFormatError, NeedsError, ParameterError, ScoreValueError, UnknownNameError

if TYPE_CHECKING:
    from pathlib import Path

LABELS = st.lists(
    st.tuples(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0])), st.booleans()),
    min_size=10,
    max_size=24,
)
GRID = np.linspace(0, 1, 101)


def calibration(of: Platt | Isotonic | None = None, **about: Any) -> Calibration:
    fitted: dict[str, Any] = {
        "verifier": "judge", "fingerprint": {"weights": "abc"}, "steps": True, "task": "toy", "generator": "writer",
        "problems": 3, "good": 5, "bad": 6,
    }  # fmt: skip
    return Calibration(map=of or Platt(slope=2, intercept=-1), fitted_on=FittedOn(**{**fitted, **about}))


@settings(max_examples=40)
@given(LABELS, st.sampled_from(["platt", "isotonic"]))
def test_a_fitted_map_is_monotone_and_gives_probabilities(labels: list[tuple[float, bool]], kind: Any) -> None:
    scores, good = zip(*labels, strict=True)
    try:
        mapped = fit(kind, scores, good)(GRID)
    except ParameterError:
        return
    assert ((mapped >= 0) & (mapped <= 1)).all()
    assert (np.diff(mapped) >= 0).all()


@settings(max_examples=20)
@given(LABELS)
def test_isotonic_is_the_monotone_map_of_least_squares(labels: list[tuple[float, bool]]) -> None:
    scores, good = map(np.asarray, zip(*labels, strict=True))
    try:
        fitted = fit_isotonic(scores, good)
    except ParameterError:
        return
    # Of non-decreasing least squares: the greatest over beginnings of the least over ends of the mean between.
    mapped = fitted(scores)
    distinct = np.unique(scores)
    mean = {
        (low, high): good[(scores >= low) & (scores <= high)].mean()
        for low in distinct
        for high in distinct[distinct >= low]
    }
    for score, value in zip(scores, mapped, strict=True):
        means = [min(mean[low, high] for high in distinct[distinct >= score]) for low in distinct[distinct <= score]]
        assert value == pytest.approx(max(means))


def test_isotonic_pools_what_is_out_of_order_by_hand() -> None:
    scores = [0.1, 0.1, 0.2, 0.3, 0.4, 0.4, 0.5, 0.5, 0.9, 0.9]
    good = [False, False, True, False, False, False, True, True, True, True]
    fitted = fit_isotonic(scores, good)
    assert fitted.scores == (0.1, 0.2, 0.4, 0.5, 0.9)
    assert fitted.values == pytest.approx((0, 0.25, 0.25, 1, 1))
    assert fitted([0.0, 0.15, 0.45, 1.0]).tolist() == pytest.approx([0, 0.125, 0.625, 1])


def test_platt_is_the_maximum_of_the_smoothed_likelihood() -> None:
    random = np.random.default_rng(1)
    scores = random.random(200)
    good = random.random(200) < scores**2
    goods = int(good.sum())
    targets = np.where(good, (goods + 1) / (goods + 2), 1 / (200 - goods + 2))

    def loss(weights: np.ndarray[Any, Any]) -> float:
        logits = weights[0] * log_odds(scores) + weights[1]
        return float(np.sum(np.logaddexp(0, logits) - targets * logits))

    best = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
    fitted = fit_platt(scores, good)
    assert (fitted.slope, fitted.intercept) == pytest.approx(tuple(best.x), abs=1e-4)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibrated_scores_stay_nearly_as_they_are(kind: Any) -> None:
    random = np.random.default_rng(0)
    scores = random.random(20_000)
    fitted = fit(kind, scores, random.random(20_000) < scores)
    assert np.abs(fitted(GRID) - GRID).max() < 0.05


def test_a_line_in_log_odds_is_found_again() -> None:
    random = np.random.default_rng(0)
    scores = random.random(50_000)
    fitted = fit_platt(scores, random.random(50_000) < Platt(slope=0.5, intercept=1)(scores))
    assert (fitted.slope, fitted.intercept) == pytest.approx((0.5, 1), abs=0.05)


def test_separable_labels_and_exact_certainty_have_a_finite_map() -> None:
    fitted = fit_platt([0.0] * 5 + [1.0] * 5, [False] * 5 + [True] * 5)
    assert fitted([0.0, 1.0]).tolist() == pytest.approx([1 / 7, 6 / 7])


FEW = {
    "one kind": ([0.1, 0.9] * 10, [True] * 20, "20 good and 0 bad"),
    "few of one": ([0.1, 0.9] * 10, [True] * 16 + [False] * 4, "16 good and 4 bad"),
    "one score": ([0.5] * 20, [True, False] * 10, "all 20 scores are 0.5"),
    "another number": ([0.5] * 3, [True] * 4, "3 scores and 4 labels"),
    "nothing": ([], [], "0 good and 0 bad"),
}


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
@pytest.mark.parametrize("scores, good, needle", FEW.values(), ids=FEW.keys())
def test_what_cannot_be_fitted_is_refused(kind: Any, scores: list[float], good: list[bool], needle: str) -> None:
    with pytest.raises(ParameterError, match=needle):
        fit(kind, scores, good)


def test_scores_that_are_one_to_the_map_are_refused() -> None:
    with pytest.raises(ParameterError, match="all 20 scores are within 1e-06 of 1"):
        fit_platt([1 - 1e-7] * 10 + [1.0] * 10, [False] * 10 + [True] * 10)


def test_an_unknown_kind_of_map_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean isotonic"):
        fit("isotone", [0.1, 0.9] * 10, [True, False] * 10)  # type: ignore[arg-type]


def test_scores_that_fall_with_goodness_are_refused() -> None:
    with pytest.raises(ParameterError, match="slope over 10 good and 10 bad labels is -"):
        fit_platt([0.1] * 10 + [0.8] * 10, [True] * 10 + [False] * 10)


@pytest.mark.parametrize("wrong", [float("nan"), -0.1, 1.1, float("inf")])
def test_a_score_that_is_no_probability_is_refused(wrong: float) -> None:
    for made in (Platt(slope=1, intercept=0), Isotonic(scores=(0.5,), values=(0.5,))):
        with pytest.raises(ScoreValueError, match="expected a probability"):
            made([0.5, wrong])
    with pytest.raises(ScoreValueError):
        fit_platt([0.5, wrong], [True, False])


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    maps: list[Platt | Isotonic] = [
        Platt(slope=1 / 3, intercept=-0.1), Isotonic(scores=(0.1, 1 / 3), values=(0, 1)),
    ]  # fmt: skip
    for number, made in enumerate(maps):
        saved, path = calibration(made), tmp_path / f"{number}.json"
        saved.save(path)
        assert read_calibration(path) == saved
        assert read_calibration(path).digest == saved.digest
    assert calibration().digest != calibration(Platt(slope=2, intercept=-1.1)).digest


BROKEN = {
    "nothing": "",
    "another kind": calibration().model_dump_json().replace("platt", "beta"),
    "another version": calibration().model_dump_json().replace('"format":1', '"format":2'),
    "falling": calibration(Isotonic(scores=(0.1, 0.2), values=(0.3, 0.4))).model_dump_json().replace("0.4", "0.2"),
    "falling line": calibration().model_dump_json().replace('"slope":2.0', '"slope":-2.0'),
    "infinite": calibration().model_dump_json().replace('"slope":2.0', '"slope":1e999'),
    "more values": calibration(Isotonic(scores=(0.1,), values=(0.3,))).model_dump_json().replace("[0.3]", "[0.3,0.4]"),
    "another field": calibration().model_dump_json().replace('"task"', '"date":1,"task"'),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_is_no_calibration_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=r"broken\.json: no calibration"):
        read_calibration(path)


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="none: cannot be read"):
        read_calibration(tmp_path / "none")
    with pytest.raises(FileFormatError, match="cannot be written"):
        calibration().save(tmp_path / "no" / "folder")


def test_another_verifier_is_refused_with_what_differs() -> None:
    calibration().check("judge", {"weights": "abc"}, steps=True)
    with pytest.raises(NeedsError, match="weights 'abc' there, 'xyz' here"):
        calibration().check("judge", {"weights": "xyz"}, steps=True)
    with pytest.raises(NeedsError, match="steps True there, False here"):
        calibration().check("judge", {"weights": "abc"}, steps=False)
    with pytest.raises(NeedsError, match="mark None there, '#' here"):
        calibration().check("judge", {"weights": "abc", "mark": "#"}, steps=True)
