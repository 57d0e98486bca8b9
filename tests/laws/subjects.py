"""The strategies that the laws are tried on: all that are registered, each with small variants, and some of our own."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin

from tests.laws.wanderer import Wanderer
from tts import registry
from tts.errors import ParameterError
from tts.protocols import Needs, Strategy
from tts.selection import Answer, Ranked, keep
from tts.voting import vote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tts.graph import Node
    from tts.search import Search

SMALL = {"n": 6, "width": 2, "expansion": 3, "max_expansions": 12}
"""Smaller than the defaults, so that the laws are quick; a name that a strategy has not is left out."""

MORE: dict[str, list[dict[str, object]]] = {
    "a_star": [{"parallel": 3}, {"parallel": 3, "as_completed": True}, {"goals": 3}, {"open_cap": 2}],
    "beam": [{"lookahead": 2}, {"width": 1, "expansion": 4}],
    "first_finish": [{"k": 3}, {"k": 3, "tie": "arrival"}],
    "particle_filter": [{"when": "ess", "finished": "leave"}, {"annealing": "ess", "selection": "weighted"}],
    "self_consistency": [{"weights": "score", "stopping": "beta"}],
}
"""Variants that differ in more than one choice."""


class InOrder(Strategy):
    """Goes on with whichever children stand first, so that a batch out of order changes all that follows."""

    name: ClassVar[str] = "in_order"

    n: int = 3
    keep: int = 2
    whole: bool = False

    @property
    def needs(self) -> Needs:
        """Scores, of steps."""
        return Needs(verifier=True, partial_scores=True, continuation=True)

    async def search(self, s: Search) -> Answer:
        """Expand the first, and answer with the last."""
        pool: list[Node] = []
        live = [s.root]
        while live:
            children = await s.expand(live, self.n, whole=self.whole, scored=True)
            pool += children
            live = [child for child in children if not child.done][: self.keep]
        return Answer(pool[-1] if pool else None, tuple(map(Ranked, pool)), decided=bool(pool))


class EarlyStop(Strategy):
    """Leaves a block after a few children, in key order, and goes on from the last of them."""

    name: ClassVar[str] = "early_stop"

    n: int = 8
    take: int = 2
    whole: bool = False

    @property
    def needs(self) -> Needs:
        """Scores, of steps."""
        return Needs(verifier=True, partial_scores=True, continuation=True)

    async def search(self, s: Search) -> Answer:
        """Take, leave, go on once."""
        pool: list[Node] = []
        async with s.arrivals(s.root, self.n, whole=self.whole, scored=True) as children:
            async for child in children:
                pool.append(child)
                if len(pool) >= self.take:
                    break
        if pool and not s.ledger.limits:
            pool += await s.expand(pool[-1], self.n, whole=True, scored=True)
        return vote(pool)


class SideBySide(Strategy):
    """Searches in parts at once, each step by step within its own share, and scores what they found once more."""

    name: ClassVar[str] = "side_by_side"

    parts: int = 3

    @property
    def needs(self) -> Needs:
        """Scores, of steps."""
        return Needs(verifier=True, partial_scores=True, continuation=True)

    async def search(self, s: Search) -> Answer:
        """Split, join, choose by the second score."""
        found = await s.split(self.parts, self._part)
        pool = [node for part in found for node in part]
        await s.score(pool)
        return vote(keep(pool, len(pool)))

    async def _part(self, s: Search) -> list[Node]:
        pool: list[Node] = []
        live = [s.root]
        while live:
            children = await s.expand(live, 2, scored=True)
            pool += children
            live = keep([child for child in children if not child.done], 1)
        return pool


def small(name: str, **parameters: object) -> Strategy:
    """Build a strategy with small numbers and these parameters."""
    fields = registry.find("strategy", name).model_fields
    numbers = {field: value for field, value in SMALL.items() if field in fields}
    return registry.strategy(name, **{**numbers, **parameters})


def choices(annotation: Any) -> list[object]:
    """Return what a parameter may be, if it is one of a few."""
    if annotation is bool:
        return [True, False]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return list(annotation)
    return []


def variants(name: str) -> Iterator[Strategy]:
    """Yield a strategy with each choice other than its defaults, one at a time, then with the listed ones."""
    for field, info in registry.find("strategy", name).model_fields.items():
        for choice in choices(info.annotation):
            if choice != info.default:
                try:
                    yield small(name, **{field: choice})
                except ParameterError:
                    continue
    for parameters in MORE.get(name, []):
        yield small(name, **parameters)


WILD: list[Strategy] = [Wanderer(plan=plan) for plan in range(8)]
OWN: list[Strategy] = [InOrder(), InOrder(whole=True), EarlyStop(), EarlyStop(whole=True), SideBySide()]
MAIN: list[Strategy] = [*(small(name) for name in registry.names("strategy")), *OWN]
"""One of each."""
EVERY: list[Strategy] = [*MAIN, *(one for name in registry.names("strategy") for one in variants(name)), *WILD]
"""With all variants."""


def label(strategy: Strategy | str) -> str:
    """Name a subject, or an event loop, in a test's report."""
    if isinstance(strategy, str):
        return strategy
    given = strategy.model_dump(exclude_defaults=True, mode="json")
    shown = ",".join(f"{key}={value}" for key, value in given.items() if key not in SMALL or value != SMALL[key])
    return f"{strategy.name}({shown})"


CASES = [*(("asyncio", one) for one in EVERY), *(("trio", one) for one in MAIN)]
"""Every variant on one event loop, and one of each on the other."""
