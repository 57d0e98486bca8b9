"""The view of a search while it runs, for people at a terminal."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tts.cli.cost import count

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from tts.cli.tally import Tally
    from tts.types import Event

ROWS = 6
"""How many paths are shown."""


class LiveView:
    """Shows a tally several times a second while the block is open; `observe` is the search's observer."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self._tally = tally
        self._opened = time.monotonic()
        # The view is drawn by a thread of its own, so that time is seen to pass while an engine is at work.
        self._lock = threading.Lock()
        self._live = Live(console=console, get_renderable=self.render, transient=True, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def observe(self, event: Event) -> None:
        """Count one event."""
        with self._lock:
            self._tally.observe(event)

    def render(self) -> RenderableType:
        """Draw the tally as it is now."""
        with self._lock:
            if not self._tally.start:
                return Text("loading ...", style="dim")
            self._tally.seconds = max(self._tally.seconds, time.monotonic() - self._opened)
            return Group(self._title(), self._counts(), self._budget(), self._paths())

    def _title(self) -> Text:
        start = self._tally.start
        parameters = " ".join(f"{name}={value}" for name, value in start["parameters"].items())
        return Text.assemble((start["strategy"], "bold"), "  ", (parameters, "dim"))

    def _counts(self) -> Text:
        tally = self._tally
        rate = tally.tokens / tally.seconds if tally.seconds else 0.0
        parts = [
            count(tally.nodes, "node"), count(tally.samples, "sample"), count(tally.verifier_calls, "verifier call"),
            count(tally.tokens, "token"), f"{rate:,.0f} tok/s", f"{tally.seconds:.1f} s",
        ]  # fmt: skip
        return Text("  ".join(parts))

    def _budget(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, limit in self._tally.start["budget"].items():
            used = self._tally.used(name)
            if used is not None:
                table.add_row(
                    Text(name),
                    ProgressBar(total=limit, completed=min(used, limit), width=30),
                    Text(f"{used:,.0f} / {limit:,.0f}"),
                )
        return table

    def _paths(self) -> Table:
        table = Table(box=None, header_style="dim", pad_edge=False)
        for heading in ("path", "alike", "status", "score", "tokens"):
            table.add_column(heading, no_wrap=True)
        table.add_column("last line", no_wrap=True, overflow="ellipsis")
        for tip, alike in self._tally.best(ROWS):
            score = "" if tip.score is None else f"{tip.score:.3f}"
            table.add_row(tip.key, str(alike), tip.status, score, str(tip.tokens), Text(tip.last_line))
        return table
