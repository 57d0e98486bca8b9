"""A verifier measured from problems to figures, on a toy task whose every step can be judged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.benchmarks.test_testbed import Digits, say, value
from tts.benchmarks.testbed.drawing import Spent
from tts.benchmarks.testbed.settings import settle
from tts.benchmarks.verifier_evaluation import Evaluation, as_svg, evaluate, is_for_fitting
from tts.errors import NeedsError, ParameterError, TransientError, VerifierError
from tts.fakes import JUDGES, FakeClock
from tts.testing import ScriptedGenerator, ScriptedVerifier
from tts.types import Sampling

if TYPE_CHECKING:
    from tts.capabilities import VerifierCapabilities
    from tts.protocols import PathScore

PATHS = replace(JUDGES, steps=False, partial=False)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tts.benchmarks.verifier_metrics.RESAMPLES", 20)


async def run(
    verifier: ScriptedVerifier | None = None, *, task: Any = None, generator: Any = None, **more: Any
) -> Evaluation:
    names = {"problems", "samples", "seed", "skip"}
    settings = {"problems": 12, "samples": 8, **{name: more.pop(name) for name in names & set(more)}}
    judge = verifier or ScriptedVerifier(value=value)
    writer = generator or ScriptedGenerator(say)
    return await evaluate(task or Digits(), writer, judge, settle(**settings), **more)


async def test_steps_are_scored_labelled_and_grouped() -> None:
    found = await run()
    whole, parts = found.before.whole, found.before.by_part
    assert (found.of, found.attempts, found.left_out) == ("steps", 96, 0)
    assert list(parts) == ["step 1", "step 2", "answer", "giving up"]
    assert sum(part.good + part.bad for part in parts.values()) == whole.good + whole.bad
    assert whole.good + whole.bad == 3 * 8 * found.evaluation_problems
    assert parts["step 1"].auc is not None and parts["step 1"].auc.estimate == 1
    assert list(found.before.by_band) == ["easy", "hard"]
    assert found.after is not None and found.after.whole.brier.estimate < whole.brier.estimate
    assert sum(one.labels for one in found.after.bins) == whole.good + whole.bad


async def test_problems_to_fit_on_and_to_evaluate_on_are_disjoint() -> None:
    found, items = await run(), Digits().items()
    fitting = sum(map(is_for_fitting, items))
    assert 0 < fitting < len(items)
    assert (found.fit_problems, found.evaluation_problems) == (fitting, len(items) - fitting)
    assert found.calibration is not None and found.calibration.fitted_on.problems == fitting
    assert found.before.whole.problems == len(items) - fitting


async def test_thresholds_come_from_the_other_half() -> None:
    found = await run()
    assert found.calibration is not None
    assert {one.threshold.negatives for one in found.before.whole.recall} == {found.calibration.fitted_on.bad}


async def test_whole_paths_are_judged_by_whether_they_are_right() -> None:
    found = await run(ScriptedVerifier(value=value, able=PATHS), task=Digits(labels=False))
    whole = found.before.whole
    assert (found.of, found.before.by_part) == ("paths", {})
    assert whole.good + whole.bad == 8 * found.evaluation_problems
    assert whole.auc is not None and whole.auc.estimate == 1
    assert list(found.before.by_band) == ["easy", "hard"]


async def test_attempts_that_cannot_be_judged_are_counted() -> None:
    def silent(path: str, seed: int) -> str:
        return say(path, seed) if seed % 2 else ""

    assert (await run(generator=ScriptedGenerator(silent))).left_out == 48


async def test_whole_paths_that_were_cut_off_are_left_out() -> None:
    judge = ScriptedVerifier(value=value, able=replace(PATHS, partial=True))
    short = Sampling(temperature=0.8, max_tokens=12)
    with pytest.raises(ParameterError, match="one half gave no attempt"):
        await run(judge, sampling=short)
    whole = await run(judge, sampling=Sampling(temperature=0.8, max_tokens=20))
    assert 0 < whole.left_out < whole.attempts


async def test_a_map_that_is_there_is_used_and_gives_what_fitting_gave() -> None:
    fitted = await run(kind="isotonic")
    assert fitted.calibration is not None and fitted.calibration.map.kind == "isotonic"
    again = await run(calibration=fitted.calibration)
    assert again.after == fitted.after
    able = replace(JUDGES, fingerprint={"weights": "other"})
    with pytest.raises(NeedsError, match="another verifier"):
        await run(ScriptedVerifier(value=value, able=able), calibration=fitted.calibration)


async def test_the_same_settings_give_the_same_figures() -> None:
    once, again = (found.model_dump() for found in (await run(), await run()))
    assert once["cost"].pop("seconds") and again["cost"].pop("seconds")
    assert once == again


@pytest.mark.parametrize("able", [JUDGES, PATHS], ids=["steps", "paths"])
async def test_what_judging_cost_is_that_of_distinct_attempts(able: VerifierCapabilities) -> None:
    def ask_twice(replies: list[PathScore]) -> list[PathScore]:
        return [replace(reply, calls=2) for reply in replies]

    judge = ScriptedVerifier(value=value, able=replace(able, calls=2), spoil=ask_twice)
    found = await run(judge)
    cost, paths = found.cost, len(judge.seen)
    assert cost.paths == paths < found.attempts
    read = sum(len("".join(path.steps)) for path in judge.seen)
    assert (cost.calls.in_all, cost.calls.per_path) == (2 * paths, 2)
    assert (cost.tokens.in_all, cost.tokens.per_path) == (read, read / paths)
    assert cost.seconds.per_path == cost.seconds.in_all / paths


async def test_paths_that_were_asked_about_again_count_once() -> None:
    async def fail_first(call: int, tokens: int) -> None:
        if call == 1:
            raise TransientError("busy", at_once=True)

    judge = ScriptedVerifier(value=value, schedule=fail_first)
    assert (await run(judge)).cost.paths == len(set(judge.seen)) < len(judge.seen)


class HandClock(FakeClock):
    """Time that a test sets."""

    time = 0.0

    def now(self) -> float:
        return self.time


def test_seconds_that_run_side_by_side_count_once() -> None:
    clock, spent = HandClock(), Spent()
    with spent.timed(clock):
        clock.time = 1.0
        with spent.timed(clock):
            clock.time = 3.0
        clock.time = 4.0
    clock.time = 10.0
    with pytest.raises(KeyError), spent.timed(clock):
        clock.time = 10.5
        raise KeyError
    assert spent.seconds == 4.5


async def test_what_cannot_be_fitted_is_measured_all_the_same() -> None:
    found = await run(ScriptedVerifier(value=lambda path: 0.5))
    assert found.refused is not None and "scores are 0.5" in found.refused
    assert (found.calibration, found.after) == (None, None)
    assert found.before.whole.auc is not None and found.before.whole.auc.estimate == 0.5
    assert (await run(kind=None)).refused is None


async def test_an_empty_half_and_a_task_without_labels_are_refused() -> None:
    with pytest.raises(ParameterError, match="of 1 problems, one half"):
        await run(problems=1)
    with pytest.raises(ParameterError, match="no problems after the first 50"):
        await run(skip=50)
    with pytest.raises(ParameterError, match="0 labels"):
        await run(task=Digits(labels=False))


async def test_what_a_verifier_raises_is_typed() -> None:
    def broken(path: str) -> float:
        raise KeyError(path)

    with pytest.raises(VerifierError, match="failed: KeyError"):
        await run(ScriptedVerifier(value=broken))


async def test_log_probabilities_reach_a_verifier_that_judges_by_them() -> None:
    judge = ScriptedVerifier(value=value, able=replace(JUDGES, logprobs=True))
    await run(judge, problems=4)
    assert all(path.logprobs for path in judge.seen)


async def test_the_plot_has_both_lines_and_the_diagonal() -> None:
    drawn = as_svg(await run())
    assert drawn.count("<polyline") == 2 and "stroke-dasharray" in drawn
    assert all(word in drawn for word in ("as given", "calibrated", "mean score", "share of good labels"))
    assert as_svg(await run(kind=None)).count("<polyline") == 1
