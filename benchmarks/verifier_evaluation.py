"""A verifier measured on a generator's attempts at labelled problems, before and after calibration.

A verifier that scores steps is measured on every part of every attempt, against the task's exact labels: whether a
right answer can still be reached. One that scores whole paths is measured on finished ones, against whether they are
right. Problems, not labels, are halved by a hash of their id, so that a problem lies in the same half for every task
size, seed and verifier: maps and thresholds come from one half, figures from the other, also where a map comes from a
file that this made earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from pydantic import Field

from tts.__about__ import __version__
from tts.affinity import on_behalf_of
from tts.benchmarks.bands import count_bands
from tts.benchmarks.plot import Point, reliability_svg
from tts.benchmarks.statistics import Interval
from tts.benchmarks.testbed.calibration import BINS, of_equal_width
from tts.benchmarks.testbed.drawing import draw, each, seed_of
from tts.benchmarks.testbed.measure import items_of
from tts.benchmarks.testbed.pools import Bench, as_labelled, capabilities_of_judge, judge
from tts.benchmarks.testbed.summary import in_order
from tts.benchmarks.verifier_metrics import Labelled, Metrics, intervals, measure, share_of_good, thresholds_of
from tts.boundary import typed_errors
from tts.calibration import Calibration, FittedOn, Kind, fit
from tts.errors import ParameterError, VerifierError
from tts.seeds import derive
from tts.setup import prepare, render
from tts.types import Frozen, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tts.benchmarks.testbed.drawing import Spent
    from tts.benchmarks.testbed.figures import Flags
    from tts.benchmarks.testbed.pools import Attempt
    from tts.benchmarks.testbed.settings import Settings
    from tts.calibration import Map
    from tts.capabilities import VerifierCapabilities
    from tts.protocols import Generator, Verifier
    from tts.setup import SolveOptions
    from tts.tasks import Item, LabelledTask, Task

SETTINGS = {"problems", "skip", "samples", "temperature", "seed"}
"""What of the testbed's settings figures depend on."""


class Bin(Frozen):
    """Labels of like scores."""

    labels: int
    score: float = Field(description="mean")
    good: Interval = Field(description="share of good labels")


class Figures(Frozen):
    """What the scores of the evaluation half come to."""

    whole: Metrics
    by_part: dict[str, Metrics] = Field(description="by step index, the part that ends an attempt apart; of steps only")
    by_band: dict[str, Metrics] = Field(
        description="by class of difficulty, the easiest first, where there are several"
    )
    bins: tuple[Bin, ...] = Field(description="of equal width, those that are not empty")


class Amount(Frozen):
    """Of all paths that were judged, and the mean of one."""

    in_all: float
    per_path: float


class Cost(Frozen):
    """What it took to judge; attempts at a problem that say the same are judged once."""

    paths: int = Field(description="distinct attempts that were judged")
    calls: Amount = Field(description="how often the verifier asked something about a path")
    tokens: Amount = Field(description="read and written")
    seconds: Amount = Field(description="in which the verifier had a path to judge; side by side counts once")


class Evaluation(Frozen):
    """What was measured, and what it depends on: but for seconds, the same for the same settings and models."""

    format: int = 1
    task: str
    of: Literal["steps", "paths"] = Field(description="what the verifier scores")
    settings: dict[str, Any]
    fingerprint: dict[str, Any]
    fit_problems: int = Field(description="problems from which map and thresholds come")
    evaluation_problems: int = Field(description="the others, from which all figures come")
    attempts: int
    left_out: int = Field(description="attempts that the verifier cannot judge: empty, or cut off and it judges others")
    calibration: Calibration | None
    refused: str | None = Field(default=None, description="why no map was fitted")
    before: Figures = Field(description="scores as the verifier gives them")
    after: Figures | None = Field(description="the same, calibrated; None where there is no map")
    cost: Cost


@dataclass(frozen=True, slots=True)
class Rows:
    """Scored labels with what they are of.

    Attributes:
        labelled: The labels, whose problems are places in `items`.
        parts: Of each label, the name of the part; empty for a whole path.
        items: The problems.
    """

    labelled: Labelled
    parts: NDArray[np.str_]
    items: tuple[Item, ...]

    def where(self, wanted: Flags) -> Rows:
        """Return some of them."""
        return Rows(self.labelled.where(wanted), self.parts[wanted], self.items)

    def mapped(self, by: Map) -> Rows:
        """Return the same with calibrated scores."""
        return replace(self, labelled=replace(self.labelled, scores=by(self.labelled.scores)))


def is_for_fitting(item: Item) -> bool:
    """Whether a problem lies in the half from which maps and thresholds come, by its id."""
    return derive("calibration", item.problem.id or item.problem.question) % 2 == 0


async def evaluate(
    task: Task,
    generator: Generator | str,
    verifier: Verifier | str,
    settings: Settings,
    *,
    sampling: Sampling | None = None,
    system: str | None = None,
    kind: Kind | None = "platt",
    calibration: Calibration | None = None,
    spec: str = "",
    options: Mapping[str, Any] | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Measure a verifier on a task.

    Args:
        task: Labels steps, where the verifier scores steps.
        generator: Whose attempts are judged.
        verifier: What judges them.
        settings: How much is drawn, and the seed; what it says of prefixes is not looked at.
        sampling: How attempts are drawn; the settings' temperature by default.
        system: System prompt; None takes what the generator suggests.
        kind: Which map is fitted on one half of the problems; None fits none.
        calibration: A map that is there already, used instead of fitting one.
        spec: What the command line makes the verifier from, to be kept with the map.
        options: And with which options; headers, which may hold keys, are not kept.
        note: Told in a line what is done next.

    Raises:
        UsageError: Task, generator, verifier and calibration do not go together, or a half has no labels.
        BackendError: The generator failed for good.
        VerifierError: The verifier failed for good.
    """
    drawn = sampling or Sampling(temperature=settings.temperature)
    # Best-of-N, because it needs of the two what is needed here: whole paths, and scores of them.
    asked: SolveOptions = {"strategy": "best_of_n", "generator": generator, "verifier": verifier, "sampling": drawn}
    setup = await prepare({**asked, "system": system})
    try:
        able = capabilities_of_judge(setup)
        if calibration is not None:
            calibration.check(able.name, able.fingerprint, steps=able.steps)
        bench = Bench(as_labelled(task) if able.steps else cast("LabelledTask", task), setup, settings)
        items = items_of(bench)
        note(f"{task.name}: {settings.samples} attempts at each of {len(items)} problems")
        attempts = await each(items, lambda item: _attempts(bench, item), settings.in_flight)
    finally:
        await setup.aclose()
    return _summed_up(bench, items, attempts, kind, calibration, spec, _without_headers(options or {}))


def _without_headers(options: Any) -> Any:
    """Return options and what lies in them, but for headers, which may hold keys."""
    if isinstance(options, Mapping):
        return {name: _without_headers(value) for name, value in options.items() if name != "headers"}
    return [_without_headers(value) for value in options] if isinstance(options, list | tuple) else options


def _summed_up(
    bench: Bench,
    items: Sequence[Item],
    attempts: Sequence[Sequence[Attempt]],
    kind: Kind | None,
    calibration: Calibration | None,
    spec: str,
    options: dict[str, Any],
) -> Evaluation:
    setup, seed = bench.setup, bench.settings.seed
    able, policy = capabilities_of_judge(setup), setup.generator.capabilities
    fitting, evaluated = _halves(_as_rows(items, attempts, able))
    about = _fitted_on(fitting, able, bench.task.name, policy.name, spec, options)
    made, refused = (calibration, None) if calibration or kind is None else _fit(kind, fitting, about)
    return Evaluation(
        task=bench.task.name, of="steps" if able.steps else "paths",
        settings=bench.settings.model_dump(include=SETTINGS),
        fingerprint={
            "tts": __version__,
            "generator": {"name": policy.name, **policy.fingerprint},
            "verifier": {"name": able.name, **able.fingerprint},
            "sampling": setup.sampling.model_dump(mode="json"),
        },
        fit_problems=about.problems, evaluation_problems=len(np.unique(evaluated.labelled.problems)),
        attempts=sum(map(len, attempts)),
        left_out=sum(not (one.scores and (able.steps or one.finished)) for some in attempts for one in some),
        calibration=made, refused=refused,
        before=_figures(fitting, evaluated, seed),
        after=None if made is None else _figures(fitting.mapped(made.map), evaluated.mapped(made.map), seed),
        cost=_cost(bench.spent),
    )  # fmt: skip


def _cost(spent: Spent) -> Cost:
    def amount(in_all: float) -> Amount:
        return Amount(in_all=in_all, per_path=in_all / spent.paths)

    return Cost(
        paths=spent.paths, calls=amount(spent.calls), tokens=amount(spent.tokens), seconds=amount(spent.seconds)
    )


async def _attempts(bench: Bench, item: Item) -> list[Attempt]:
    """Return the attempts at a problem, scored; and labelled, where steps are scored."""
    setup, settings = bench.setup, bench.settings
    seed = seed_of(settings.seed, bench.task.name, item.problem.id, "verifier evaluation")
    with on_behalf_of(item.problem.id):
        prompt = await render(setup, item.problem)
        drawn = await draw(
            setup, prompt, setup.sampling, count=settings.samples, seed=seed, max_tokens=bench.cap(prompt)
        )
        with typed_errors(VerifierError, f"verifier {capabilities_of_judge(setup).name}"):
            return await judge(bench, item, prompt, drawn)


def _as_rows(items: Sequence[Item], attempts: Sequence[Sequence[Attempt]], able: VerifierCapabilities) -> Rows:
    rows: list[tuple[float, bool, int, str]] = []
    for number, some in enumerate(attempts):
        for one in some:
            if able.steps:
                parts = zip(one.scores, one.labels[: len(one.scores)], strict=True)
                rows += [(score, good, number, one.name_of(place)) for place, (score, good) in enumerate(parts)]
            elif one.finished:
                rows += [(value, one.right, number, "") for value in one.scores]
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    problems = np.asarray(columns[2], dtype=np.int64)
    labelled = Labelled(np.asarray(columns[0], dtype=float), np.asarray(columns[1], dtype=bool), problems)
    return Rows(labelled, np.asarray(columns[3], dtype=str), tuple(items))


def _halves(rows: Rows) -> tuple[Rows, Rows]:
    """Return the labels of the problems from which maps come, and those of the others.

    Raises:
        ParameterError: There are none.
    """
    fitting = np.array([is_for_fitting(item) for item in rows.items])[rows.labelled.problems]
    if fitting.all() or not fitting.any():
        raise ParameterError(
            f"of {len(rows.items)} problems, one half gave no attempt that can be judged: ask more problems or samples"
        )
    return rows.where(fitting), rows.where(~fitting)


def _fitted_on(
    fitting: Rows, able: VerifierCapabilities, task: str, generator: str, spec: str, options: dict[str, Any]
) -> FittedOn:
    labelled = fitting.labelled
    return FittedOn(
        verifier=able.name, fingerprint=able.fingerprint, steps=able.steps, spec=spec, options=options, task=task,
        generator=generator, problems=len(np.unique(labelled.problems)),
        good=int(labelled.good.sum()), bad=int((~labelled.good).sum()),
    )  # fmt: skip


def _fit(kind: Kind, fitting: Rows, about: FittedOn) -> tuple[Calibration | None, str | None]:
    """Return a map, or why there is none; what was drawn is measured all the same."""
    try:
        return Calibration(map=fit(kind, fitting.labelled.scores, fitting.labelled.good), fitted_on=about), None
    except ParameterError as error:
        return None, str(error)


def _figures(fitting: Rows, evaluated: Rows, seed: int) -> Figures:
    """Measure the one half with thresholds of the other; they are the same for every part and band."""
    thresholds = thresholds_of(fitting.labelled)

    def among(wanted: Flags) -> Metrics:
        return measure(evaluated.labelled.where(wanted), thresholds, seed)

    bands = np.array([item.band or "" for item in evaluated.items])[evaluated.labelled.problems]
    named = [band for band in count_bands(evaluated.items) if (bands == band).any()]
    return Figures(
        whole=measure(evaluated.labelled, thresholds, seed),
        by_part={part: among(evaluated.parts == part) for part in in_order(set(evaluated.parts.tolist()) - {""})},
        by_band={band: among(bands == band) for band in named} if len(named) > 1 else {},
        bins=_bins(evaluated.labelled, seed),
    )


def _bins(labelled: Labelled, seed: int) -> tuple[Bin, ...]:
    numbers = of_equal_width(labelled.scores, BINS)
    return tuple(_bin(labelled.where(numbers == number), seed) for number in np.unique(numbers))


def _bin(inside: Labelled, seed: int) -> Bin:
    share = intervals(inside, {"good": share_of_good}, seed)["good"]
    assert share is not None, "no bin is empty"
    score = float(inside.scores.mean())
    return Bin(labels=len(inside.scores), score=score, good=share)


def as_svg(evaluation: Evaluation) -> str:
    """Draw the share of good labels against the mean score of bins, before and after calibration."""
    found = {"as given": evaluation.before, "calibrated": evaluation.after}
    return reliability_svg(
        {
            name: [Point(one.score, one.good.estimate, one.good.low, one.good.high) for one in figures.bins]
            for name, figures in found.items()
            if figures is not None
        }
    )
