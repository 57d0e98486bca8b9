"""What a suite came to, as one document: tables whole and by band, tokens needed, and a plot for each run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tts.benchmarks.needed import needed_table
from tts.benchmarks.report import as_markdown, as_svg, markdown_table, rows, rows_by_band

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tts.benchmarks.report import Row
    from tts.benchmarks.results import Results
    from tts.benchmarks.suite import Part, Suite

DOCUMENT = "results.md"
_READING = (
    "Read between the budgets measured, along the best accuracy so far and the logarithm of tokens; in brackets, as a "
    "share of the reference's tokens. ≤: the smallest budget measured was enough."
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a part came to.

    Attributes:
        part: What was measured.
        results: What its file holds.
        whole: Rows over all problems.
        banded: Rows by band; none where the task has no bands.
    """

    part: Part
    results: Results
    whole: Sequence[Row]
    banded: Sequence[Row]


def sum_up(parts: Sequence[Part], measured: Sequence[Results]) -> list[Figures]:
    """Sum up each part; takes a moment for each strategy at each budget."""
    pairs = zip(parts, measured, strict=True)
    return [Figures(part, results, rows(results), rows_by_band(results)) for part, results in pairs]


def write_suite(folder: Path, suite: Suite, figures: Sequence[Figures], command: str) -> None:
    """Write the document and its plots into a folder that is there.

    Args:
        folder: Where to; what has the same names is replaced.
        suite: For its title and notes.
        figures: What each part came to.
        command: What was typed, for who wants to do the same.

    Raises:
        OSError: A file cannot be written.
    """
    sections = [f"# {suite.title}", *_said(suite.note), f"```\n{command}\n```", *_engines(figures)]
    for one in figures:
        (folder / f"{one.part.name}.svg").write_text(as_svg(one.whole), encoding="utf-8")
        if one.banded:
            (folder / f"{one.part.name}-bands.svg").write_text(as_svg(one.banded), encoding="utf-8")
        sections += _section(one)
    (folder / DOCUMENT).write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _said(text: str) -> list[str]:
    return [text.strip()] if text.strip() else []


def _engines(figures: Sequence[Figures]) -> list[str]:
    """Say with what it was measured."""
    facts = dict.fromkeys(
        (str(header.fingerprint.get("tts")), _name(header.fingerprint.get("generator")),
         _name(header.fingerprint.get("verifier")))
        for header in (one.results.header for one in figures)
    )  # fmt: skip
    return [f"Measured with tts {version}, generator {one}, verifier {other}." for version, one, other in facts]


def _name(facts: object) -> str:
    return str(facts["name"]) if isinstance(facts, dict) and "name" in facts else "none"


def _section(figures: Figures) -> Iterator[str]:
    part = figures.part
    seed = f", seed {part.configuration.seed}" if part.configuration.seed else ""
    yield f"## {part.run.title or part.run.name}{seed}"
    yield from _said(part.run.note)
    yield f"Task `{part.configuration.task}`, {figures.results.header.problems} problems."
    yield f"![accuracy against generated tokens]({part.name}.svg)"
    yield as_markdown(figures.whole).rstrip()
    yield from _needed(part, figures.whole)
    if figures.banded:
        yield "### By band of difficulty"
        yield f"![accuracy against generated tokens, by band]({part.name}-bands.svg)"
        yield as_markdown(figures.banded).rstrip()


def _needed(part: Part, shown: Sequence[Row]) -> Iterator[str]:
    """Yield a table for each strategy whose accuracy the others are to reach, where there are others."""
    for reference in part.run.references:
        headings, lines = needed_table(shown, reference)
        if len(headings) > 3 and lines:
            yield f"### Tokens needed for the accuracy of {reference}"
            yield markdown_table(headings, lines)
            yield _READING


def pivot(shown: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return a run in short: accuracy in percent, a line for each strategy, a column for each budget."""
    budgets = list(dict.fromkeys(row.budget for row in shown))
    cells = {(row.label, row.budget): row.accuracy for row in shown}
    lines: list[list[str]] = []
    for label in dict.fromkeys(row.label for row in shown):
        known = [cells.get((label, budget)) for budget in budgets]
        lines.append([label, *("" if one is None else f"{100 * one.estimate:.1f}" for one in known)])
    return ["strategy", *budgets], lines
