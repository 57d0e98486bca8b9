from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tts import registry
from tts.drawing import END, START, draw, dry_run
from tts.errors import BackendError
from tts.notation import best, expand, keep, loop, score
from tts.protocols import Strategy
from tts.selection import Answer
from tts.selection import best as best_of

if TYPE_CHECKING:
    from tts.graph import Node
    from tts.search import Search


def test_one_batch_is_a_straight_line() -> None:
    drawing = dry_run(registry.strategy("best_of_n", n=5))
    assert [operator.site.verb for operator in drawing.operators] == ["expand"]
    assert drawing.edges == {(START, 0): 1, (0, END): 1}
    assert "expand(n=5, whole, scored=last)" in drawing.text()


def test_a_loop_comes_back_to_its_site() -> None:
    drawing = dry_run(registry.strategy("beam", width=2, expansion=2))
    assert len(drawing.operators) == 1
    assert drawing.edges[0, 0] == drawing.operators[0].calls - 1 > 0
    assert "↺ back to [1]" in drawing.text()


def test_a_block_that_is_extended_shows_both() -> None:
    drawing = dry_run(registry.strategy("a_star", parallel=2, as_completed=True))
    assert {"arrivals", "extend"} <= {operator.site.verb for operator in drawing.operators}


def test_notation_draws_itself() -> None:
    pipeline = loop(expand(4) >> score() >> keep(2)) >> best()
    assert draw(pipeline) == pipeline.describe()


class Branching(Strategy):
    """Splits into parts with two calls each, and scores what they found."""

    name: ClassVar[str] = "branching"

    async def search(self, s: Search) -> Answer:
        """Split, then score."""
        found = [node for part in await s.split(3, self._part) for node in part]
        hint = await s.transform(found[0], "Wait.")
        return best_of(await s.score([*found, hint]))

    async def _part(self, s: Search) -> list[Node]:
        steps = await s.expand(s.root, 2)
        return await s.expand(steps, whole=True)


def test_parts_fork_and_join() -> None:
    drawing = dry_run(Branching())
    assert [operator.site.verb for operator in drawing.operators] == ["split", "expand", "expand", "transform", "score"]
    assert drawing.edges == {(START, 0): 1, (0, 1): 3, (1, 2): 3, (2, 3): 3, (3, 4): 1, (4, END): 1}
    assert drawing.operators[1].site.function == "_part"


class Failing(Strategy):
    """Raises after its first batch."""

    name: ClassVar[str] = "failing"

    async def search(self, s: Search) -> Answer:
        """Fail."""
        await s.expand(s.root)
        raise BackendError("no more")


def test_a_dry_run_that_fails_says_so() -> None:
    text = draw(Failing())
    assert "expand(n=1)" in text and "the dry run ended early: BackendError: no more" in text
