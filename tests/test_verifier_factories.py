"""Verifiers by name: what each is made of, that a search runs with it, and how a wrong name is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import tts
from tts import registry
from tts.errors import FileFormatError, NeedsError, ParameterError, ProblemError, UnknownNameError
from tts.strategies.best_of_n import BestOfN
from tts.verifier_factories import calibrated, noisy_oracle, oracle
from tts.verifiers.calibrated import Calibrated

if TYPE_CHECKING:
    from pathlib import Path

PROBLEM = registry.task("countdown").items(1)[0].problem
COUNTS = {"task": "countdown", "generator": "embedded", "problems": 9, "good": 9, "bad": 9}
RUNNING = [
    "cascade:statistical:mean_logprob+noisy-oracle:countdown",
    "combined:statistical:mean_logprob+oracle:countdown",
    "embedded",
    "noisy-oracle:countdown",
    "oracle:countdown",
    "outcome:embedded",
    "statistical:mean_logprob",
    "statistical",
]


@pytest.mark.parametrize("spec", RUNNING)
async def test_a_search_runs_with_it(spec: str) -> None:
    outcome = await tts.solve(PROBLEM, strategy=BestOfN(n=4), generator="embedded", verifier=spec)
    assert outcome.error is None
    assert all(candidate.score is not None and 0 <= candidate.score <= 1 for candidate in outcome.candidates)


@pytest.mark.parametrize("make", [oracle, noisy_oracle])
async def test_an_oracle_that_labels_steps_guides_a_beam(make: object) -> None:
    assert callable(make)
    judge = make("countdown-hard", stepwise=True)
    problem = registry.task("countdown-hard").items(1)[0].problem
    outcome = await tts.solve(problem, strategy="beam", generator="embedded", verifier=judge, budget="400 tokens")
    assert outcome.error is None
    assert any(len(candidate.scores) > 1 for candidate in outcome.candidates)


async def test_what_judges_finished_paths_does_not_guide_a_beam() -> None:
    with pytest.raises(NeedsError, match="finished ones only"):
        await tts.solve(PROBLEM, strategy="beam", generator="embedded", verifier="oracle:countdown")


async def test_steps_and_whole_paths_do_not_mix_by_themselves() -> None:
    with pytest.raises(ParameterError, match="aggregation"):
        await tts.solve(PROBLEM, strategy="best_of_n", generator="embedded", verifier="combined:embedded+statistical")


async def test_confidences_need_what_the_embedded_model_does_not_give() -> None:
    with pytest.raises(NeedsError, match="20 greatest log-probabilities"):
        await tts.solve(PROBLEM, strategy="best_of_n", generator="embedded", verifier="statistical:self_certainty")


async def test_a_judge_of_words_that_the_model_does_not_know_is_refused_before_anything_is_drawn() -> None:
    with pytest.raises((ParameterError, ProblemError)):
        await tts.solve(PROBLEM, strategy="best_of_n", generator="embedded", verifier="generative:embedded")


async def test_a_map_names_its_verifier(tmp_path: Path) -> None:
    file = tmp_path / "map.json"
    file.write_text(
        json.dumps(
            {
                "map": {"kind": "platt", "slope": 1.0, "intercept": 0.0},
                "fitted_on": {"verifier": "another", "fingerprint": {}, "steps": True, "spec": "embedded"} | COUNTS,
            }
        )
    )
    assert isinstance(calibrated(str(file), any_verifier=True), Calibrated)


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("combined:", ParameterError, "name the verifiers"),
        ("calibrated:nowhere.json", FileFormatError, "nowhere.json"),
        ("executable:nowhere.json", ParameterError, "cannot be read"),
        ("generative:embed", UnknownNameError, "embed"),
        ("oracle:countdwn", UnknownNameError, "countdown"),
        ("outcome:embed", UnknownNameError, "embedded"),
        ("statistical:entropy", ParameterError, "mean_logprob"),
    ],
)
def test_a_wrong_spec_is_refused_with_what_there_is(spec: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        registry.verifier(spec)
