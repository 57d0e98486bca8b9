"""Figures as tables of plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts.benchmarks.testbed.curves import CLOSES, COUNTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tts.benchmarks.testbed.calibration import Calibration
    from tts.benchmarks.testbed.figures import Estimate
    from tts.benchmarks.testbed.measure import Figures, TaskFigures
    from tts.benchmarks.testbed.summary import Summary

NONE = "-"
Row = tuple[str, ...]


def as_text(figures: Figures) -> str:
    """Return all tables; shares in percent, each with its standard error over problems."""
    settings, facts = figures.settings, figures.fingerprint
    head = (
        f"{facts['generator']['name']} judged by {facts['verifier']['name']}, temperature {settings.temperature:g}, "
        f"seed {settings.seed}; percent ± standard error over problems"
    )
    return "\n\n".join([head, *(block for task in figures.tasks for block in _blocks(task))]) + "\n"


def _blocks(task: TaskFigures) -> Iterator[str]:
    total = task.total
    yield _title(task)
    yield table("some sample right, or the chosen one", _curves(total))
    yield _sentences(total)
    if task.bands:
        yield table("by band", _bands(task))
    yield table("area under the curve of part scores, of 1", _areas(total))
    yield table("samples that first go wrong at", _errors(total))
    if task.calibration is not None:
        yield from _calibration("fresh completions of prefixes", task.calibration)
        if task.left_out:
            yield f"{task.left_out} prefixes were left out: their text does not read back as the tokens sampled"
    if task.calibration_in_pool is not None:
        yield from _calibration("whether the part's own sample was right", task.calibration_in_pool)


def _title(task: TaskFigures) -> str:
    total = task.total
    title = (
        f"{task.task}: {total.problems} problems, {total.samples} samples each of {plain(total.tokens, 1)} tokens; "
        f"{percent(total.unanswered)} end without an answer, {percent(total.cut_off)} are cut off"
    )
    if total.disagreements:
        title += f"\nWRONG TASK: {total.disagreements} answers have a label that is not their grade"
    return f"{title}\n{'=' * len(title.splitlines()[0])}"


def _curves(summary: Summary) -> Iterator[Row]:
    curves = summary.curves
    counts = [count for count in COUNTS if count in curves.pass_at]
    named = {
        "pass@N": curves.pass_at,
        **{f"Best-of-N, {how} score": curve for how, curve in curves.best_of.items()},
        "vote by last score": curves.weighted_vote,
        "majority vote": curves.majority_vote,
    }
    yield ("", *(f"N = {count}" for count in counts))
    for name, curve in named.items():
        yield (name, *(percent(curve.get(count)) for count in counts))


def _sentences(summary: Summary) -> str:
    curves = summary.curves
    return (
        f"greedy: {percent(curves.greedy)}; Best-of-{CLOSES} by the last score goes {percent(curves.closed)} of the "
        f"way from pass@1 to pass@{CLOSES}"
    )


def _bands(task: TaskFigures) -> Iterator[Row]:
    yield "", "problems", "greedy", "pass@1", f"pass@{CLOSES}", f"Best-of-{CLOSES}", f"majority {CLOSES}", "no answer"
    for name, band in task.bands.items():
        curves = band.curves
        best = next(iter(curves.best_of.values()))
        figures = (
            curves.greedy, curves.pass_at.get(1), curves.pass_at.get(CLOSES), best.get(CLOSES),
            curves.majority_vote.get(CLOSES), band.unanswered,
        )  # fmt: skip
        yield (name, str(band.problems), *map(percent, figures))


def _areas(summary: Summary) -> Iterator[Row]:
    yield "", "parts", "good", "AUC", "good where all before is", "AUC where all before is good"
    for part in summary.areas:
        every, after_good = part.every, part.so_far_good
        yield (
            part.part, str(every.good + every.bad), _share(every.good, every.bad), plain(every.auc, 3),
            _share(after_good.good, after_good.bad), plain(after_good.auc, 3),
        )  # fmt: skip


def _errors(summary: Summary) -> Iterator[Row]:
    yield "", "of all samples", "and end without an answer"
    for first in summary.first_errors:
        yield first.part, percent(first.samples), percent(first.stuck)


def _calibration(against: str, found: Calibration) -> Iterator[str]:
    distance = "" if found.squared_error is None else f", {plain(found.squared_error, 4)} from the chance of success"
    yield (
        f"scores against {against}: {found.prefixes} step ends of {found.problems} problems, {found.draws} each\n"
        f"expected calibration error {plain(found.ece, 4)}, with bins of equal mass {plain(found.ece_equal_mass, 4)}\n"
        f"Brier score {plain(found.brier, 4)}{distance}"
    )
    bins = [
        (f"{one.low:.3f} to {one.high:.3f}", str(one.prefixes), f"{one.score:.3f}", plain(one.success, 3))
        for one in found.bins
    ]
    yield table("reliability", [("score", "step ends", "mean score", "success"), *bins])
    steps = [
        (str(one.steps), str(one.prefixes), f"{one.score:.3f}", plain(one.success, 3), plain(one.ece, 4))
        for one in found.by_step
    ]
    yield table("by step", [("steps", "step ends", "mean score", "success", "calibration error"), *steps])


def table(title: str, rows: Sequence[Row] | Iterator[Row]) -> str:
    """Return rows as text under a title, the first column to the left and the others to the right."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        [title, *("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in lines)]
    )


def percent(figure: Estimate | None) -> str:
    """Write a share in percent."""
    if figure is None:
        return NONE
    error = "" if figure.error is None else f" ± {100 * figure.error:.1f}"
    return f"{100 * figure.value:.1f}{error}"


def plain(figure: Estimate | None, digits: int) -> str:
    """Write a figure with so many digits after the point."""
    if figure is None:
        return NONE
    error = "" if figure.error is None else f" ± {figure.error:.{digits}f}"
    return f"{figure.value:.{digits}f}{error}"


def _share(good: int, bad: int) -> str:
    return f"{100 * good / (good + bad):.1f}" if good + bad else NONE
