"""Choosing among candidates: pure functions under a total order, so that nothing hangs on who came first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tts.graph import Node

Value = Callable[["Node"], float]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate and what spoke for it."""

    node: Node
    votes: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a strategy returns: the node it chose, if any, and its candidates, best first.

    `decided` is False where there were candidates but no rule could choose among them, as in a vote without voters.
    """

    chosen: Node | None
    ranking: tuple[Ranked, ...]
    decided: bool = True


def score_of(node: Node) -> float:
    """The node's score; what has none ranks below everything that has."""
    return -math.inf if node.score is None else node.score


def keep(nodes: Iterable[Node], count: int, value: Value = score_of) -> list[Node]:
    """Return the `count` nodes of greatest value, best first; ties go to the smaller key."""
    return sorted(nodes, key=lambda node: (-value(node), node.key))[:count]


def unique(nodes: Iterable[Node]) -> list[Node]:
    """Return one node, the one of smallest key, of each set whose paths say the same and ended alike."""
    first: dict[tuple[bytes, str], Node] = {}
    for node in sorted(nodes, key=lambda node: node.key):
        first.setdefault((node.digest, node.status), node)
    return list(first.values())


def rank(pool: Iterable[Node], value: Value = score_of) -> list[Node]:
    """Return the pool best first: finished with an answer, finished without, then the rest; each by value, then key."""
    return sorted(pool, key=lambda node: (node.answer is None, not node.finished, -value(node), node.key))


def best(pool: Iterable[Node], value: Value = score_of) -> Answer:
    """Choose the finished candidate of greatest value; with none finished, the best unfinished one."""
    ranking = rank(pool, value)
    return Answer(ranking[0] if ranking else None, tuple(map(Ranked, ranking)))
