"""A strategy that a test writes as a function, run on scripted backends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from pydantic import PrivateAttr

from tts.laws import Conditions, Trial
from tts.protocols import Strategy
from tts.selection import Answer, best

if TYPE_CHECKING:
    from tts.graph import Node
    from tts.search import Search

Body = Callable[["Search"], Awaitable["Iterable[Node]"]]


class Freely(Strategy):
    """Answers with the best of what a function finds."""

    name: ClassVar[str] = "freely"

    _body: Body = PrivateAttr()

    async def search(self, s: Search) -> Answer:
        return best(await self._body(s))


def freely(body: Body) -> Strategy:
    """Make a strategy of a function."""
    strategy = Freely()
    strategy._body = body
    return strategy


async def search_freely(body: Body, conditions: Conditions | None = None) -> Trial:
    """Run a function as a strategy."""
    return await Trial(freely(body), conditions or Conditions()).run()
