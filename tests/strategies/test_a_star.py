"""A*: costs by hand, and the whole search against a plain reference."""

from __future__ import annotations

import heapq
from itertools import pairwise

import pytest

from tests.strategies.trees import Moves, Tree, chosen, hashed, moves_of
from tts.strategies.a_star import CostMode, child_cost, root_cost

VECTORS: dict[CostMode, list[tuple[list[float], float]]] = {
    "consistent": [
        ([0.9], 1.0), ([0.9, 0.6], 1.3), ([0.9, 0.6, 0.8], 1.3), ([0.5, 0.7, 0.9], 1.0), ([0.9, 0.8, 0.7], 1.2),
    ],
    "accumulated_drops": [
        ([0.9], 0.1), ([0.5], 0.5), ([0.9, 0.6], 0.7), ([0.9, 0.6, 0.8], 0.5), ([0.5, 0.7, 0.9], 0.1),
        ([0.9, 0.8, 0.7], 0.5),
    ],
    "greedy": [([0.9], 0.1), ([0.9, 0.6], 0.4), ([0.9, 0.6, 0.8], 0.2)],
}  # fmt: skip
MODES: tuple[CostMode, ...] = ("consistent", "accumulated_drops", "greedy")


def path_cost(mode: CostMode, scores: list[float]) -> float:
    cost = root_cost(mode, 1.0)
    for place, score in enumerate(scores):
        cost = child_cost(mode, cost, 1 - score, first=place == 0)
    return cost.total


@pytest.mark.parametrize(
    ("mode", "scores", "total"), [(mode, scores, total) for mode, rows in VECTORS.items() for scores, total in rows]
)
def test_costs_by_hand(mode: CostMode, scores: list[float], total: float) -> None:
    assert path_cost(mode, scores) == pytest.approx(total)


def reference(tree: Tree, mode: CostMode) -> tuple[Moves, int]:
    """Expand the cheapest open path until the cheapest is finished; return it, and how many were expanded."""
    heap: list[tuple[float, float, int, Moves]] = [(root_cost(mode, 1.0).total, 1.0, 0, ())]
    expanded = 0
    while True:
        _, _, _, moves = heapq.heappop(heap)
        if len(moves) == tree.depth:
            return moves, expanded
        expanded += 1
        for move in range(tree.branching):
            child = (*moves, move)
            scores = [tree.values(child[: end + 1]) for end in range(len(child))]
            heapq.heappush(heap, (path_cost(mode, scores), 1 - scores[-1], -len(child), child))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_a_plain_reference(mode: CostMode, seed: int) -> None:
    tree = Tree(depth=3, branching=3, values=hashed(seed))
    moves, expanded = reference(tree, mode)
    outcome = tree.search("a_star", expansion=3, cost=mode)
    assert chosen(outcome) == moves
    assert outcome.usage.samples == 3 * expanded


@pytest.mark.parametrize("seed", range(4))
def test_consistent_cost_never_falls_along_a_path(seed: int) -> None:
    tree = Tree(depth=5, branching=2, values=hashed(seed))
    for leaf in tree.leaves():
        totals = [path_cost("consistent", [tree.values(leaf[:end]) for end in range(1, n + 1)]) for n in range(1, 6)]
        assert all(later >= earlier - 1e-12 for earlier, later in pairwise(totals))


def test_several_goals_choose_the_cheapest() -> None:
    tree = Tree(depth=2, branching=3, values=hashed(5))
    outcome = tree.search("a_star", expansion=3, goals=9, cost="greedy")
    assert chosen(outcome) == max(tree.leaves(), key=tree.values)
    assert sum(candidate.finished for candidate in outcome.candidates) == 9


def test_goal_test_on_push_stops_at_the_first_finished_child() -> None:
    tree = Tree(depth=2, branching=3, values=hashed(5))
    on_push = tree.search("a_star", expansion=3, goal_test="push")
    assert on_push.usage.samples == 6


def test_open_cap_drops_the_worst() -> None:
    tree = Tree(depth=3, branching=4, values=hashed(2))
    outcome = tree.search("a_star", expansion=4, open_cap=1, goals=2, cost="greedy", complete=False)
    assert sum(candidate.finished for candidate in outcome.candidates if candidate.answer) == 4
    assert outcome.usage.samples == 12


def test_parallel_pops_expand_side_by_side() -> None:
    tree = Tree(depth=3, branching=3, values=hashed(1))
    outcome = tree.search("a_star", expansion=3, parallel=3, cost="greedy")
    assert outcome.graph is not None
    expanded = [node for node in outcome.graph if node.draws]
    assert len(expanded) % 3 == 1


def test_without_a_goal_the_best_open_path_is_finished() -> None:
    tree = Tree(depth=4, branching=3, values=hashed(3))
    outcome = tree.search("a_star", expansion=3, max_expansions=1)
    first = max(((move,) for move in range(3)), key=tree.values)
    assert chosen(outcome)[:1] == first
    assert outcome.answer is not None


def test_without_completion_it_says_so() -> None:
    outcome = Tree(depth=4, branching=3, values=hashed(3)).search("a_star", max_expansions=1, complete=False)
    assert outcome.answer is None
    assert outcome.ended == "no_answer"


def test_equal_children_are_merged() -> None:
    tree = Tree(depth=2, branching=2, values=hashed(4))
    outcome = tree.search("a_star", expansion=6, goals=4, cost="greedy")
    answers = [moves_of(candidate.text) for candidate in outcome.candidates[:4]]
    assert sorted(answers) == sorted(tree.leaves())
    assert outcome.usage.verifier_calls == 2 + 4
