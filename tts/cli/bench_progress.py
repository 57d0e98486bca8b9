"""How far a benchmark has come: a bar where somebody looks at it, else a line now and then."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tts.cli.text import console, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.progress import TaskID

    from tts.benchmarks.runner import Progress as State
    from tts.benchmarks.runner import Watch

View = AbstractContextManager["Watch"]
PERIOD = 10.0
"""Seconds between lines."""
KEPT = 12
"""Bars that stay on the screen; a suite has more parts than a screen has lines."""


def watched(*, quiet: bool) -> View:
    """Return what shows how far a run has come: a bar on a terminal, lines elsewhere, or nothing."""
    if quiet:
        return Silence()
    return Bar(console(sys.stderr)) if sys.stderr.isatty() else Lines(sys.stderr)


def title(state: State) -> str:
    """Return what is under way, "beam 2048tok (2/4)"."""
    return f"{one_line(state.part)} ({state.number}/{state.parts}){', sizing' if state.sizing else ''}"


def figures(state: State) -> str:
    """Return what has come of it so far."""
    if state.sizing or not state.done:
        return ""
    said = f"accuracy {state.right / state.done:.3f}  {state.generated / state.done:,.0f} tok/problem"
    return f"{said}  {state.errors} errors" if state.errors else said


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Watch:
        return lambda _: None

    def __exit__(self, *_: object) -> None:
        return None


class Lines:
    """Writes a line at both ends of each part, and every few seconds."""

    def __init__(self, file: IO[str], now: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._now = now
        self._title = ""
        self._last = 0.0

    def __enter__(self) -> Watch:
        return self.show

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, state: State) -> None:
        """Write a line, if it is time."""
        ends = title(state) != self._title or state.done == state.problems
        if not ends and self._now() - self._last < PERIOD:
            return
        self._title, self._last = title(state), self._now()
        line = f"{title(state)}: {state.done}/{state.problems} problems  {figures(state)}"
        print(line.rstrip(), file=self._file, flush=True)


class Bar:
    """Draws a bar for each part, with accuracy and tokens so far, and the time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._parts: dict[str, TaskID] = {}

    def __enter__(self) -> Watch:
        self._progress.start()
        return self.show

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, state: State) -> None:
        """Move the bar."""
        if state.part not in self._parts:
            if len(self._parts) == KEPT:
                self._progress.remove_task(self._parts.pop(next(iter(self._parts))))
            self._parts[state.part] = self._progress.add_task(title(state), total=state.problems, figures="")
        bar = self._parts[state.part]
        self._progress.update(
            bar, description=title(state), completed=state.done, total=state.problems, figures=figures(state)
        )
