"""The testbed from problems to figures, on a toy task whose every step can be judged."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from tts import registry
from tts.answers import MathAnswerReader
from tts.benchmarks.testbed.__main__ import main
from tts.benchmarks.testbed.measure import Figures, TaskFigures, measure
from tts.benchmarks.testbed.report import as_text
from tts.benchmarks.testbed.settings import settle
from tts.errors import NeedsError, ParameterError, ScoreValueError
from tts.fakes import JUDGES
from tts.protocols import PathScore
from tts.seeds import derive
from tts.steps import split_steps
from tts.tasks import Item
from tts.testing import ScriptedGenerator, ScriptedVerifier
from tts.types import Message, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Digits:
    """Steps are digits, good below 5; the answer to a path of good steps is 1. "stuck" says that there is none."""

    size: int = 12
    labels: bool = True
    name: str = "digits"
    reader: MathAnswerReader = field(default_factory=MathAnswerReader)

    def items(self, limit: int | None = None) -> Sequence[Item]:
        count = self.size if limit is None else min(limit, self.size)
        return [_item(number) for number in range(count)]

    def grade(self, item: Item, answer: str) -> bool:
        return answer == item.gold

    def label_steps(self, item: Item, steps: Sequence[str]) -> tuple[bool, ...]:
        good = [step.strip()[-1] in "01234" for step in steps]
        labels = [all(good[: place + 1]) for place in range(len(steps))]
        if steps and "boxed" in steps[-1]:
            labels[-1] = "boxed{1}" in steps[-1]
        return tuple(labels) if self.labels else ()


def _item(number: int) -> Item:
    problem = Problem(messages=(Message(role="user", content=f"Question {number}"),), id=f"digits-{number}")
    return Item(problem, "1", band=("hard", "easy")[number % 2], difficulty=-float(number % 2))


def say(path: str, seed: int) -> str:
    """Two steps, at random, then 1 if both are good; else a wrong answer, or none."""
    steps = split_steps(path, ("\n\n",))
    while len(steps) < 2:
        steps.append(f"d{derive(len(steps), *steps, seed) % 10}\n\n")
    good = all(step[1] in "01234" for step in steps)
    wrong = ("The answer is \\boxed{0}", "stuck")[derive("wrong", *steps, seed) % 2]
    return "".join(steps)[len(path) :] + ("The answer is \\boxed{1}" if good else wrong)


def value(path: str) -> float:
    """Say 0.9 of what can still be right and 0.1 of what cannot; which overlooks what the next step may lose."""
    digits = [step[1] for step in split_steps(path, ("\n\n",)) if step[0] == "d"]
    return 0.9 if all(digit in "01234" for digit in digits) else 0.1


async def run(*, generator: ScriptedGenerator | None = None, **settings: Any) -> Figures:
    values = {"problems": 6, "samples": 16, "prefixes": 1000, "completions": 8, **settings}
    verifier = ScriptedVerifier(value=value)
    return await measure([Digits()], generator or ScriptedGenerator(say), verifier, settle(**values), lambda _: None)


@pytest.fixture
async def figures() -> TaskFigures:
    return (await run()).tasks[0]


async def test_labels_scores_and_answers_belong_together(figures: TaskFigures) -> None:
    total = figures.total
    areas = {part.part: part for part in total.areas}
    assert list(areas) == ["step 1", "step 2", "answer", "giving up", "all steps", "all parts"]
    assert areas["step 2"].every.auc is not None and areas["step 2"].every.auc.value == 1.0
    assert areas["all parts"].every.good + areas["all parts"].every.bad == 6 * 16 * 3
    assert areas["step 2"].so_far_good.good + areas["step 2"].so_far_good.bad == areas["step 1"].every.good
    assert areas["answer"].every.good + areas["giving up"].every.bad < 6 * 16, "some answers are wrong"
    assert total.disagreements == 0


async def test_samples_are_counted_by_where_they_go_wrong_and_how_they_end(figures: TaskFigures) -> None:
    total, errors = figures.total, {first.part: first for first in figures.total.first_errors}
    assert list(errors) == ["step 1", "step 2"]
    wrong = sum(first.samples.value for first in errors.values())
    assert wrong == pytest.approx(1 - total.curves.pass_at[1].value)
    assert sum(first.stuck.value for first in errors.values()) == pytest.approx(total.unanswered.value)
    assert 0 < total.unanswered.value < wrong
    assert total.cut_off.value == 0


async def test_scores_that_know_the_answer_close_the_whole_way(figures: TaskFigures) -> None:
    curves = figures.total.curves
    assert list(curves.pass_at) == [1, 4, 16]
    assert curves.closed is not None and curves.closed.value == pytest.approx(1)
    assert all(best[4].value == pytest.approx(curves.pass_at[4].value) for best in curves.best_of.values())


async def test_bands_are_summed_up_alike_the_easiest_first(figures: TaskFigures) -> None:
    assert {name: band.problems for name, band in figures.bands.items()} == {"easy": 3, "hard": 3}
    assert list(figures.bands) == ["easy", "hard"]
    total = sum(band.curves.pass_at[1].value for band in figures.bands.values()) / 2
    assert total == pytest.approx(figures.total.curves.pass_at[1].value)


async def test_calibration_after_two_steps_is_what_the_script_makes_it(figures: TaskFigures) -> None:
    assert figures.calibration is not None and figures.calibration_in_pool is not None
    for found in (figures.calibration, figures.calibration_in_pool):
        first, second = found.by_step
        assert (first.steps, second.steps) == (1, 2)
        assert second.ece.value == pytest.approx(0.1), "0.9 where all succeed, 0.1 where none does"
        assert first.success.value < first.score, "after one good step half the samples still go wrong"
    assert figures.calibration_in_pool.prefixes == 6 * 16 * 2


async def test_step_ends_are_continued_as_a_search_would() -> None:
    generator = ScriptedGenerator(say)
    await run(generator=generator)
    continued = [call for call in generator.calls if call.text]
    assert continued and all(call.text.endswith("\n\n") for call in continued), "nothing follows an answer or giving up"
    assert len({(call.prompt.text, call.text) for call in continued}) == len(continued), "each once"
    for call in continued:
        assert list(call.token_ids) == [ord(letter) for letter in call.text]
        assert (call.count, call.sampling.temperature, call.delimiters) == (8, 0.8, ())
        assert call.max_tokens == 2048 - len(call.text), "the path's cap, less what it has"


async def test_as_many_prefixes_as_asked_for() -> None:
    found = (await run(prefixes=5)).tasks[0].calibration
    assert found is not None and found.prefixes == 5
    assert (await run(prefixes=0)).tasks[0].calibration is None


class Merging(ScriptedGenerator):
    """Reads its own steps back as other tokens when they have a 7."""

    async def tokenize(self, text: str) -> Sequence[int]:
        return [7] if "7" in text else await super().tokenize(text)


async def test_a_prefix_that_does_not_read_back_is_left_out_and_counted() -> None:
    plain, merging = (await run()).tasks[0], (await run(generator=Merging(say))).tasks[0]
    assert plain.calibration is not None and merging.calibration is not None
    assert plain.left_out == 0 < merging.left_out
    assert merging.calibration.prefixes + merging.left_out == plain.calibration.prefixes


async def test_figures_depend_on_the_seed_and_not_on_what_runs_beside() -> None:
    first, alone, other = await run(), await run(in_flight=1), await run(seed=8)
    assert first.model_dump_json() == alone.model_dump_json()
    assert first.tasks != other.tasks


async def test_skipping_problems_takes_the_next_ones() -> None:
    generator = ScriptedGenerator(say)
    await run(generator=generator, problems=2, skip=3, prefixes=0)
    assert sorted({call.prompt.text for call in generator.calls}) == ["Question 3\n", "Question 4\n"]
    with pytest.raises(ParameterError, match="no problems after the first 12"):
        await run(skip=12)


async def test_what_cannot_be_measured_is_refused() -> None:
    async def attempt(task: Any, verifier: ScriptedVerifier) -> None:
        settings = settle(problems=1, samples=2)
        await measure([task], ScriptedGenerator(say), verifier, settings, lambda _: None)

    with pytest.raises(NeedsError, match="one score a step"):
        await attempt(Digits(), ScriptedVerifier(able=replace(JUDGES, steps=False)))
    with pytest.raises(ParameterError, match="cannot label steps"):
        await attempt(Unlabelled(), ScriptedVerifier())
    with pytest.raises(ParameterError, match="0 labels for the"):
        await attempt(Digits(labels=False), ScriptedVerifier())
    with pytest.raises(ScoreValueError, match="a score is 1"):
        await attempt(Digits(), ScriptedVerifier(spoil=_overdone))
    with pytest.raises(ParameterError, match="samples=0"):
        settle(samples=0)


@dataclass(frozen=True)
class Unlabelled:
    """A task that only grades."""

    name: str = "unlabelled"


def _overdone(replies: list[PathScore]) -> list[PathScore]:
    return [PathScore([1.5] * len(reply.values)) for reply in replies]


def test_the_command_prints_tables_and_writes_every_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(registry._added["task"], "digits", Digits())
    monkeypatch.setitem(registry._added["generator"], "scripted", lambda _: ScriptedGenerator(say))
    monkeypatch.setitem(registry._added["verifier"], "scripted", lambda _: ScriptedVerifier(value=value))
    file = tmp_path / "figures.json"
    engines = ("--generator", "scripted", "--verifier", "scripted", "--problems", "4", "--samples", "16")
    assert main(["--task", "digits", *engines, "--json", str(file)]) == 0
    figures = Figures.model_validate(json.loads(file.read_text(encoding="utf-8")))
    printed = capsys.readouterr()
    assert printed.out == as_text(figures)
    assert "by band" in printed.out and "reliability" in printed.out and "giving up" in printed.out
    assert main(["--task", "digit"]) == 2
    assert "did you mean digits?" in capsys.readouterr().err


@pytest.mark.engine
async def test_the_bundled_models_can_be_measured() -> None:
    settings = settle(problems=2, samples=4, prefixes=6, completions=2)
    figures = await measure([registry.task("countdown")], "embedded", "embedded", settings, lambda _: None)
    task = figures.tasks[0]
    assert task.calibration is not None
    assert (task.calibration.prefixes, task.left_out, task.total.disagreements) == (6, 0, 0)
