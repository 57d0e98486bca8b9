"""What files of results come to: a row for each strategy at each budget, as values, as cells of a table, as Markdown.

A failed search counts as wrong. Rows of a run that was broken off rest on the problems done so far, and say how many.
Each strategy is compared with the first one of its file at the same budget, on the problems that both have done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tts.benchmarks.plot import Point, accuracy_svg
from tts.benchmarks.statistics import Interval, Paired, bayes_interval, compare_paired, mean_interval
from tts.outcome import Ended
from tts.types import Frozen

if TYPE_CHECKING:
    from tts.benchmarks.results import Record, Results
    from tts.benchmarks.sizing import Cell

Records = Mapping[str, "Record"]
"""By problem."""


class Row(Frozen):
    """A strategy at a budget. Figures are per problem, over the problems done."""

    task: str
    label: str
    strategy: str
    parameters: dict[str, Any]
    given: dict[str, Any] = Field(description="parameters that were set, or sized to the budget")
    sized: bool = Field(description="whether the budget is met on average rather than by each problem")
    budget: str
    seed: int
    problems: int = Field(description="done")
    asked: int = Field(description="to be done")
    errors: int = Field(description="of those done; counted as wrong")
    accuracy: Interval | None = Field(description="95 %, Bayesian; None where no problem is done")
    covered: float | None = Field(description="share of problems with a right answer among the candidates")
    generated: Interval | None = Field(description="tokens sampled; 95 %, bootstrap over problems")
    prompt_computed: float | None
    prompt_cached: float | None
    verifier_calls: float | None
    seconds: float | None = Field(description="wall-clock of a problem, others beside it")
    throughput: float | None = Field(description="problems a second")
    cut: float | None = Field(description="share of problems that a limit ended")
    against: str | None = Field(default=None, description="label of the strategy that this one is compared with")
    paired: Paired | None = Field(default=None, description="this strategy less that one, on problems both have done")


def rows(results: Results) -> list[Row]:
    """Sum up a file: budget after budget, strategies in the order of the configuration."""
    done: dict[tuple[str, str], dict[str, Record]] = {cell.key: {} for cell in results.header.cells}
    for (label, budget, problem), record in results.latest().items():
        done[label, budget][problem] = record
    baseline = results.header.cells[0].label
    return [_row(results, cell, done[cell.key], baseline, done[baseline, cell.budget]) for cell in results.header.cells]


def _row(results: Results, cell: Cell, done: Records, baseline: str, reference: Records) -> Row:
    records = list(done.values())
    return Row(
        task=results.header.configuration.task,
        label=cell.label,
        strategy=cell.strategy,
        parameters=cell.parameters,
        given=cell.given,
        sized=cell.sized is not None and not results.header.configuration.hard,
        budget=cell.budget,
        seed=results.header.configuration.seed,
        problems=len(records),
        asked=results.header.problems,
        errors=sum(record.ended is Ended.ERROR for record in records),
        accuracy=bayes_interval(sum(record.right for record in records), len(records)) if records else None,
        covered=_mean(records, lambda record: record.covered),
        generated=mean_interval([record.usage.generated for record in records]) if records else None,
        prompt_computed=_mean(records, lambda record: record.usage.prompt_computed),
        prompt_cached=_mean(records, lambda record: record.usage.prompt_cached),
        verifier_calls=_mean(records, lambda record: record.usage.verifier_calls),
        seconds=_mean(records, lambda record: record.usage.seconds),
        throughput=_throughput(records),
        cut=_mean(records, lambda record: record.ended is Ended.BUDGET),
        against=baseline if cell.label != baseline else None,
        paired=_paired(done, reference) if cell.label != baseline else None,
    )


def _mean(records: Sequence[Record], value: Callable[[Record], float]) -> float | None:
    return sum(map(value, records)) / len(records) if records else None


def _throughput(records: Sequence[Record]) -> float | None:
    """Return problems a second; a session took as long as its last record says."""
    ends: dict[int, float] = {}
    for record in records:
        ends[record.session] = max(ends.get(record.session, 0.0), record.at)
    seconds = sum(ends.values())
    return len(records) / seconds if seconds else None


def _paired(done: Records, reference: Records) -> Paired | None:
    common = sorted(done.keys() & reference.keys())
    if not common:
        return None
    return compare_paired([done[name].right for name in common], [reference[name].right for name in common])


def as_json(table: Sequence[Row]) -> str:
    """Return the rows as one line of JSON in ASCII."""
    return json.dumps({"rows": [row.model_dump(mode="json") for row in table]})


Column = tuple[str, Callable[[Row], str]]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _accuracy(row: Row) -> str:
    if row.accuracy is None:
        return ""
    return f"{row.accuracy.estimate:.3f} [{row.accuracy.low:.3f}, {row.accuracy.high:.3f}]"


def _difference(row: Row) -> str:
    if row.paired is None:
        return ""
    gap = row.paired.difference
    return f"{gap.estimate:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"


def _given(row: Row) -> str:
    return " ".join(f"{name}={value}" for name, value in row.given.items())


def _done(row: Row) -> str:
    return str(row.problems) if row.problems == row.asked else f"{row.problems} of {row.asked}"


WHERE_DIFFERENT: tuple[Column, ...] = (("task", lambda row: row.task), ("seed", lambda row: str(row.seed)))
"""Columns that are shown where rows differ in them."""
ALWAYS: tuple[Column, ...] = (
    ("strategy", lambda row: row.label),
    ("parameters", _given),
    ("budget", lambda row: row.budget),
    ("problems", _done),
    ("accuracy [95 %]", _accuracy),
    ("difference to first", _difference),
    ("any right", lambda row: _share(row.covered)),
    ("generated tokens", lambda row: _number(row.generated.estimate if row.generated else None)),
    ("prompt computed", lambda row: _number(row.prompt_computed)),
    ("prompt cached", lambda row: _number(row.prompt_cached)),
    ("verifier calls", lambda row: _number(row.verifier_calls)),
    ("s/problem", lambda row: _number(row.seconds)),
    ("problems/s", lambda row: _number(row.throughput)),
)
SOMETIMES: tuple[Column, ...] = (
    ("cut by limit", lambda row: _share(row.cut) if row.cut else ""),
    ("errors", lambda row: str(row.errors) if row.errors else ""),
)
"""Columns that are left out where no row has anything to say in them."""


def _telling_apart(shown: Sequence[Row]) -> list[Column]:
    return [column for column in WHERE_DIFFERENT if len({column[1](row) for row in shown}) > 1]


def table(shown: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the cells of a table, as text."""
    told = [column for column in SOMETIMES if any(column[1](row) for row in shown)]
    columns = [*_telling_apart(shown), *ALWAYS, *told]
    return [heading for heading, _ in columns], [[text(row) for _, text in columns] for row in shown]


def notes(shown: Sequence[Row]) -> list[str]:
    """Return what a reader of the table must know."""
    said = ["Figures are per problem; accuracies with 95 % credible intervals, differences paired by problem."]
    if any(row.sized for row in shown):
        said.append("Budgets are met on average, by parameters sized on pilot problems; see what was generated.")
    if any(row.problems < row.asked for row in shown):
        said.append("The run is not complete.")
    if any(row.errors for row in shown):
        said.append("Searches that failed count as wrong; --retry-errors searches them again.")
    return said


def as_markdown(shown: Sequence[Row]) -> str:
    """Return the table and its notes in Markdown."""
    headings, lines = table(shown)
    ruled = [headings, ["---"] * len(headings), *lines]
    quoted = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in ruled]
    body = "\n".join(f"| {' | '.join(line)} |" for line in quoted)
    return f"{body}\n\n" + "\n".join(notes(shown)) + "\n"


def as_svg(shown: Sequence[Row]) -> str:
    """Draw accuracy against generated tokens, a line for each strategy."""
    lines: dict[str, list[Point]] = {}
    apart = _telling_apart(shown)
    for row in shown:
        if row.accuracy is not None and row.generated is not None and row.generated.estimate > 0:
            accuracy = row.accuracy
            name = " ".join([row.label, *(text(row) for _, text in apart)])
            lines.setdefault(name, []).append(
                Point(row.generated.estimate, accuracy.estimate, accuracy.low, accuracy.high)
            )
    return accuracy_svg(lines)
