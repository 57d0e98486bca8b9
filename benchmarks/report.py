"""What files of results come to: a row for each strategy at each budget, as values, as cells of a table, as Markdown.

A failed search counts as wrong. Rows of a run that was broken off rest on the problems done so far, and say how many.
Each strategy is compared with the first one of its file at the same budget, on the problems that both have done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tts.benchmarks.plot import Point, accuracy_svg, panels_svg
from tts.benchmarks.statistics import Interval, Paired, bayes_interval, compare_paired, mean_interval
from tts.budget import Budget
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
    band: str | None = Field(default=None, description="class of difficulty to which the figures are confined")
    against: str | None = Field(default=None, description="label of the strategy that this one is compared with")
    paired: Paired | None = Field(default=None, description="this strategy less that one, on problems both have done")


def rows(results: Results, band: str | None = None) -> list[Row]:
    """Sum up a file, or one band of it: budget after budget, strategies as configured; none that has not begun."""
    done: dict[tuple[str, str], dict[str, Record]] = {cell.key: {} for cell in results.cells}
    for (label, budget, problem), record in results.latest().items():
        if band is None or record.band == band:
            done[label, budget][problem] = record
    baseline = results.header.configuration.contenders[0].label
    return [
        _row(results, band, cell, done[cell.key], baseline, done.get((baseline, cell.budget), {}))
        for cell in results.cells
    ]


def rows_by_band(results: Results) -> list[Row]:
    """Sum up each band of difficulty by itself, the easiest first; none where the task's problems have no bands."""
    return [row for band in results.header.bands for row in rows(results, band)]


def _row(results: Results, band: str | None, cell: Cell, done: Records, baseline: str, reference: Records) -> Row:
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
        asked=results.header.problems if band is None else results.header.bands[band],
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
        band=band,
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


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table.

    Attributes:
        heading: Its heading.
        text: What it says of a row.
        rank: Which columns a narrow terminal leaves out: the greatest first, 0 never.
        only: It is shown only where rows have something to say in it, or differ in it.
        whole: It says nothing of a band that the row of the whole run does not say better.
    """

    heading: str
    text: Callable[[Row], str]
    rank: int = 0
    only: Literal["said", "different"] | None = None
    whole: bool = False

    def is_shown(self, shown: Sequence[Row]) -> bool:
        """Whether these rows have a use for it."""
        if self.whole and any(row.band for row in shown):
            return False
        texts = {self.text(row) for row in shown}
        return self.only is None or (texts != {""} if self.only == "said" else len(texts) > 1)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _accuracy(row: Row) -> str:
    if row.accuracy is None:
        return ""
    return f"{_percent(row.accuracy.estimate)} [{_percent(row.accuracy.low)}, {_percent(row.accuracy.high)}]"


def _difference(row: Row) -> str:
    if row.paired is None:
        return ""
    gap = row.paired.difference
    return f"{100 * gap.estimate:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"


def _given(row: Row) -> str:
    return " ".join(f"{name}={value}" for name, value in row.given.items())


def _done(row: Row) -> str:
    return str(row.problems) if row.problems == row.asked else f"{row.problems} of {row.asked}"


COLUMNS = (
    Column("task", lambda row: row.task, only="different"),
    Column("seed", lambda row: str(row.seed), only="different"),
    Column("band", lambda row: row.band or "", only="said"),
    Column("strategy", lambda row: row.label),
    Column("parameters", _given, 3, whole=True),
    Column("budget", lambda row: row.budget),
    Column("problems", _done, 2),
    Column("accuracy %", _accuracy),
    Column("difference %", _difference, 1, only="said"),
    Column("covered %", lambda row: _percent(row.covered), 6),
    Column("tokens", lambda row: _number(row.generated.estimate if row.generated else None)),
    Column("prompt computed", lambda row: _number(row.prompt_computed), 8, whole=True),
    Column("prompt cached", lambda row: _number(row.prompt_cached), 7, whole=True),
    Column("verifier calls", lambda row: _number(row.verifier_calls)),
    Column("s/problem", lambda row: _number(row.seconds), whole=True),
    Column("problems/s", lambda row: _number(row.throughput), 5, whole=True),
    Column("cut %", lambda row: _percent(row.cut) if row.cut else "", 4, only="said"),
    Column("errors", lambda row: str(row.errors) if row.errors else "", only="said"),
)


def table(shown: Sequence[Row], width: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the cells of a table, as text; with a width, as many columns as fit beside two spaces."""
    columns = [column for column in COLUMNS if column.is_shown(shown)]
    while width is not None and _width(columns, shown) > width and any(column.rank for column in columns):
        columns.remove(max(columns, key=lambda column: column.rank))
    return [column.heading for column in columns], [[column.text(row) for column in columns] for row in shown]


def _width(columns: Sequence[Column], shown: Sequence[Row]) -> int:
    """Return how wide a table is whose headings may break at spaces."""
    widest = [max(map(len, [*column.heading.split(), *map(column.text, shown)])) for column in columns]
    return sum(widest) + 2 * (len(columns) - 1)


def notes(shown: Sequence[Row]) -> list[str]:
    """Return what a reader of the table must know."""
    said = [
        "Accuracy with 95 % credible interval; difference to the first strategy at the same budget, paired by problem."
    ]
    said.append("Tokens are those generated for a problem. Covered: a right answer was among the candidates.")
    if any(row.sized for row in shown):
        said.append("Budgets are met on average, by parameters sized on pilot problems; see tokens for what was spent.")
    if any(row.band for row in shown):
        said.append("Bands are classes of difficulty, the easiest first; a budget is met over all of them together.")
    missed = [f"{row.label} {row.budget}" for row in shown if _missed(row)]
    if missed:
        said.append(
            f"Spending is uneven or cannot be set finely: more than a quarter off the budget: {', '.join(missed)}."
        )
    if not shown or any(row.problems < row.asked for row in shown):
        said.append("The run is not complete.")
    if any(row.errors for row in shown):
        said.append("Searches that failed count as wrong; --retry-errors searches them again.")
    return said


def _missed(row: Row) -> bool:
    """Whether a sized strategy spent a quarter more or less than its budget in tokens."""
    wanted = Budget.parse(row.budget).tokens if row.sized and row.band is None else None
    if wanted is None or row.generated is None or row.problems < row.asked:
        return False
    return not 0.75 <= row.generated.estimate / wanted <= 1.25


def as_markdown(shown: Sequence[Row]) -> str:
    """Return the table and its notes in Markdown."""
    return f"{markdown_table(*table(shown))}\n\n" + "\n".join(notes(shown)) + "\n"


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; whatever cells say, it stays one."""
    ruled = [headings, ["---"] * len(headings), *lines]
    quoted = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in ruled]
    return "\n".join(f"| {' | '.join(line)} |" for line in quoted)


def as_svg(shown: Sequence[Row]) -> str:
    """Draw accuracy against generated tokens, a line for each strategy, and a panel for each band of difficulty."""
    panels: dict[str, dict[str, list[Point]]] = {}
    apart = [column for column in COLUMNS if column.only == "different" and column.is_shown(shown)]
    for row in shown:
        if row.accuracy is not None and row.generated is not None and row.generated.estimate > 0:
            accuracy = row.accuracy
            name = " ".join([row.label, *(column.text(row) for column in apart)])
            panels.setdefault(row.band or "", {}).setdefault(name, []).append(
                Point(row.generated.estimate, accuracy.estimate, accuracy.low, accuracy.high)
            )
    return panels_svg(panels) if any(panels) else accuracy_svg(panels.get("", {}))
