from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console

from tts import Budget, solve_sync
from tts.cli.live import LiveView
from tts.cli.tally import Tally
from tts.cli.text import console
from tts.testing import ScriptedGenerator, ScriptedVerifier, tree_script
from tts.types import Event

if TYPE_CHECKING:
    import pytest

NASTY = "step [bold red]one[/] \x1b[2J\x1b]0;t\x07 :smile:\n\nThe answer is \\boxed{7}\x9b31m[/link]"


def rendered(view: LiveView, width: int = 120) -> str:
    """Return what a plain screen shows of a view."""
    screen = io.StringIO()
    Console(file=screen, width=width).print(view.render())
    return screen.getvalue()


def watched(script: ScriptedGenerator, **parameters: object) -> LiveView:
    """Return the view of a search that has ended."""
    view = LiveView(console(io.StringIO()), Tally())
    solve_sync(
        "1?", strategy="best_of_n", generator=script, verifier=ScriptedVerifier(), observers=[view.observe],
        budget=Budget.parse("100samples,9999tok,1000usd"),
    )  # fmt: skip
    return view


def test_before_the_first_event() -> None:
    assert "loading" in rendered(LiveView(console(io.StringIO()), Tally()))


def test_counts_bars_and_best_paths() -> None:
    shown = rendered(watched(ScriptedGenerator(tree_script())))
    assert "best_of_n" in shown and "n=16" in shown
    assert "16 nodes" in shown and "16 samples" in shown and "tok/s" in shown
    assert "16 / 100" in shown and "/ 9,999" in shown
    assert "finished" in shown and "\\boxed{" in shown


def test_what_a_model_says_is_shown_as_it_is() -> None:
    shown = rendered(watched(ScriptedGenerator(lambda path, seed: NASTY)))
    assert "The answer is \\boxed{7}[/link]" in shown
    assert shown.replace("\n", "").isprintable()


def test_a_narrow_screen_cuts_lines_rather_than_wrapping() -> None:
    wide = rendered(watched(ScriptedGenerator(lambda path, seed: "word " * 100)), width=500)
    narrow = rendered(watched(ScriptedGenerator(lambda path, seed: "word " * 100)), width=100)
    assert len(narrow.splitlines()) == len(wide.splitlines())


def test_paths_alike_share_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    for draw in range(3):
        node = {"key": str(draw), "status": "open", "origin": "sampled", "text": "same\n\n", "tokens": 2}
        tally.observe(Event("node", 0.5, node))
    assert [(tip.key, alike) for tip, alike in tally.best(5)] == [("0", 3)]
    tally.observe(Event("status", 0.6, {"key": "0", "status": "discarded"}))
    assert [(tip.key, alike) for tip, alike in tally.best(5)] == [("1", 2)]
