"""What benchmarks came to, for a screen or a pipe."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

from tts.benchmarks.report import Row, as_markdown, notes, table
from tts.cli.text import console, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table


def marked_down(shown: Sequence[Row]) -> str:
    """Return the table and its notes in Markdown."""
    return as_markdown(shown) + "".join(f"{note}\n" for note in _notes_on_intervals(shown))


def _notes_on_intervals(shown: Sequence[Row]) -> list[str]:
    """Explain intervals that leave out their own estimate, which looks like a mistake."""
    if all(row.accuracy is None or row.accuracy.low <= row.accuracy.estimate <= row.accuracy.high for row in shown):
        return []
    return ["At 0 or 100 % the estimate lies outside its interval, which leaves out 2.5 % at each end."]


def rendered(shown: Sequence[Row]) -> str:
    """Return the table: ruled for a terminal, else with tabs."""
    if not sys.stdout.isatty():
        return tabbed(*table(shown))
    screen = console(sys.stdout)
    headings, lines = table(shown, screen.width)
    left_out = len(table(shown)[0]) - len(headings)
    said = [f"{left_out} columns have no room here: --markdown and --json show all."] if left_out else []
    with screen.capture() as capture:
        screen.print(_ruled(headings, lines), "", *notes(shown), *_notes_on_intervals(shown), *said, sep="\n")
    return capture.get()


def plain(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a small table: ruled for a terminal, else with tabs."""
    if not sys.stdout.isatty():
        return tabbed(headings, lines)
    screen = console(sys.stdout)
    with screen.capture() as capture:
        screen.print(_ruled(headings, lines))
    return capture.get()


def tabbed(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table with tabs between cells and a line for each row."""
    return "".join("\t".join(map(one_line, line)) + "\n" for line in (headings, *lines))


def _ruled(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    """Return a table whose headings break where their cells are narrower, and whose cells never do."""
    from rich.table import Table

    ruled = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        width = max(len(line[place]) for line in lines) if lines else len(heading)
        words = max(map(len, heading.split()))
        ruled.add_column("\n".join(textwrap.wrap(heading, max(width, words))), no_wrap=True)
    for line in lines:
        ruled.add_row(*map(one_line, line))
    return ruled
