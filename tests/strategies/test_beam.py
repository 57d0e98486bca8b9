"""Beam search against a plain reference, and its variants by hand."""

from __future__ import annotations

import pytest

import tts
from tests.strategies.trees import Moves, Tree, chosen, hashed


def reference(tree: Tree, width: int) -> Moves:
    """Keep the best `width` paths of every level."""
    live: list[Moves] = [()]
    for _ in range(tree.depth):
        children = [(*moves, move) for moves in live for move in range(tree.branching)]
        live = sorted(children, key=tree.values, reverse=True)[:width]
    return live[0]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("slots", ["refill", "hold"])
def test_agrees_with_a_plain_reference(seed: int, slots: str) -> None:
    tree = Tree(depth=4, branching=3, values=hashed(seed))
    outcome = tree.search("beam", width=2, expansion=3, finished_slots=slots)
    assert chosen(outcome) == reference(tree, 2)


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_as_wide_as_the_tree_finds_the_best_leaf(seed: int) -> None:
    tree = Tree(depth=3, branching=2, values=hashed(seed))
    assert chosen(tree.search("beam", width=4, expansion=2)) == max(tree.leaves(), key=tree.values)


def test_each_level_draws_width_times_expansion() -> None:
    outcome = Tree(depth=3, branching=4, values=hashed(0)).search("beam", width=3, expansion=4)
    assert outcome.usage.samples == 3 * 12
    assert outcome.usage.critical_path == sum(max(step) for step in ([3], [3], [10]))


def test_equal_paths_take_one_place() -> None:
    tree = Tree(depth=2, branching=2, values=lambda moves: 0.9 if moves[0] == 0 else 0.1)
    merged = tree.search("beam", width=2, expansion=2)
    doubled = tree.search("beam", width=2, expansion=2, deduplicate=False)
    assert merged.graph is not None and doubled.graph is not None
    assert {node.text for node in merged.graph if node.draws and node.parent} == {"0\n\n", "1\n\n"}
    assert {node.text for node in doubled.graph if node.draws and node.parent} == {"0\n\n"}


def test_lookahead_scores_the_end_of_a_greedy_rollout() -> None:
    # Move 1 looks worse at once and better one step on; rollouts take move 0.
    values = {(0,): 0.9, (1,): 0.1, (0, 0): 0.2, (1, 0): 0.8}
    tree = Tree(depth=3, branching=2, values=lambda moves: values.get(moves, 0.5))
    near = tree.search("beam", width=1, expansion=2)
    far = tree.search("beam", width=1, expansion=2, lookahead=1)
    assert chosen(near)[0] == 0
    assert chosen(far)[0] == 1
    assert far.usage.generated > near.usage.generated


def test_rollouts_are_greedy_and_no_candidates() -> None:
    outcome = Tree(depth=3, branching=2, values=hashed(0)).search("beam", width=2, expansion=2, lookahead=2)
    assert outcome.graph is not None
    assert len(outcome.candidates) < len(outcome.graph) - 1


def test_finished_paths_hold_their_place() -> None:
    def script_values(moves: Moves) -> float:
        return 0.9 if moves[:1] == (0,) else 0.5

    tree = Tree(depth=2, branching=2, values=script_values)
    held = tree.search("beam", width=2, expansion=2, finished_slots="hold")
    assert held.usage.samples == 4 + 4


def test_a_budget_that_cuts_the_search_does_not_lose_its_best_candidate() -> None:
    tree = Tree(depth=2, branching=3, values=hashed(6))
    whole = tree.search("beam", width=3, expansion=3)
    finished = [candidate for candidate in whole.candidates if candidate.finished]
    for tokens in range(1, whole.usage.generated + 30):
        cut = tree.search("beam", tts.Budget(tokens=tokens), width=3, expansion=3)
        done = [candidate for candidate in cut.candidates if candidate.finished]
        if done:
            assert cut.candidates[0].score == max(candidate.score or 0 for candidate in done)
    assert finished[0].score == max(candidate.score or 0 for candidate in finished)


def test_weighted_choice_sums_scores_of_equal_answers() -> None:
    def values(moves: Moves) -> float:
        scores: dict[Moves, float] = {(0, 0): 0.6, (1, 1): 0.5, (2, 1): 0.4}
        return scores.get(moves, 0.1)

    tree = Tree(depth=2, branching=3, values=values)
    naive = tree.search("beam", width=3, expansion=3)
    weighted = tree.search("beam", width=3, expansion=3, selection="weighted")
    assert naive.answer == "0"
    assert weighted.answer == "1"
