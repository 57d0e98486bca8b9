"""Votes over answers: candidates are grouped by equivalence first, and what cannot be parsed does not vote."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

from tts.selection import Answer, Ranked, Value, best, score_of

if TYPE_CHECKING:
    from tts.graph import Node


def one(node: Node) -> float:
    """Give each candidate one vote."""
    return 1.0


def weight_by_score(node: Node) -> float:
    """Give each candidate its score, in [0, 1]; none counts as nothing."""
    return node.score or 0.0


def weight_by_likelihood(node: Node) -> float:
    """Give each candidate the geometric mean of its tokens' probabilities, in [0, 1]."""
    mean = node.mean_logprob
    return 0.0 if mean is None else math.exp(mean)


def ballots(pool: Iterable[Node]) -> dict[Hashable, list[Node]]:
    """Group the finished candidates whose answers can be parsed; groups and members in key order."""
    groups: dict[Hashable, list[Node]] = {}
    for node in sorted(pool, key=lambda node: node.key):
        key = node.answer_key
        if isinstance(key, Hashable) and key is not None:
            groups.setdefault(key, []).append(node)
    return groups


def vote(pool: Iterable[Node], weight: Value = one) -> Answer:
    """Choose the answer of greatest total weight; a tie goes to the answer seen first, in key order.

    The answer is spoken by the group's first member. A group's total stands beside each of its members in the ranking.
    Where nobody can vote, the best candidate is returned undecided.
    """
    pool = list(pool)
    groups = ballots(pool)
    totals = {key: math.fsum(weight(node) for node in members) for key, members in groups.items()}
    order = sorted(groups, key=lambda key: (-totals[key], groups[key][0].key))
    if not order:
        fallback = best(pool)
        return Answer(fallback.chosen, fallback.ranking, decided=False)
    ranked = [Ranked(node, totals[key]) for key in order for node in groups[key]]
    voters = {id(entry.node) for entry in ranked}
    others = best(node for node in pool if id(node) not in voters).ranking
    return Answer(ranked[0].node, (*ranked, *others))


def leader_confidence(first: int, second: int) -> float:
    """Probability that the leading answer is truly more likely than the runner-up, given their vote counts.

    Adaptive-Consistency's Beta criterion (arXiv 2305.11860, section 3): 1 - I_0.5(first + 1, second + 1), the posterior
    mass of a Beta above one half under a uniform prior. In [0, 1].
    """
    from scipy import special  # takes longer to import than all the rest

    return float(special.betainc(second + 1, first + 1, 0.5))


__all__ = ["ballots", "leader_confidence", "one", "score_of", "vote", "weight_by_likelihood", "weight_by_score"]
