"""Particle filtering: weights by the specification's vectors, populations by their frequencies."""

from __future__ import annotations

from collections import Counter

import pytest

import tts
from tests.strategies.trees import Moves, Tree, hashed, moves_of
from tts.testing import ScriptedGenerator, ScriptedVerifier

# Systematic resampling is unbiased over its offset, but one offset for moves that alternate so regularly aliases.
INDEPENDENT = ("multinomial", "stratified", "residual")


def first_moves(outcome: tts.Outcome) -> Counter[int]:
    """Count the second level's particles by their parents' move."""
    assert outcome.graph is not None
    return Counter(moves_of(node.path_text)[0] for node in outcome.graph if len(node.key) == 2)


@pytest.mark.parametrize("scheme", INDEPENDENT)
@pytest.mark.parametrize(
    ("weight_map", "share"), [("logit", [0.638, 0.284, 0.071, 0.008]), ("identity", [0.331, 0.299, 0.222, 0.149])]
)
def test_populations_follow_the_weights(scheme: str, weight_map: str, share: list[float]) -> None:
    scores = [0.9, 0.8, 0.5, 0.1]
    tree = Tree(depth=2, branching=4, values=lambda moves: scores[moves[0]])
    outcome = tree.search("particle_filter", n=4000, scheme=scheme, weight_map=weight_map)
    counts = first_moves(outcome)
    assert [counts[move] / 4000 for move in range(4)] == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("finished", ["compete", "leave"])
@pytest.mark.parametrize("selection", ["score", "weighted", "sample"])
def test_every_variant_answers(finished: str, selection: str) -> None:
    outcome = Tree(depth=3, branching=3, values=hashed(1)).search(
        "particle_filter", n=6, finished=finished, selection=selection
    )
    assert outcome.answer is not None
    assert outcome.usage.samples == 18


def test_choosing_by_score_takes_the_best_finished_path() -> None:
    outcome = Tree(depth=2, branching=4, values=hashed(3)).search("particle_filter", n=12)
    finished = [candidate for candidate in outcome.candidates if candidate.finished]
    assert outcome.candidates[0].score == max(candidate.score or 0 for candidate in finished)


def test_all_particles_finished_early_are_not_resampled() -> None:
    outcome = Tree(depth=1, branching=4, values=hashed(0)).search("particle_filter", n=8, selection="weighted")
    assert sum(candidate.votes is not None for candidate in outcome.candidates) == 8


def test_effective_size_above_the_threshold_keeps_particles() -> None:
    tree = Tree(depth=2, branching=4, values=lambda moves: 0.5)
    outcome = tree.search("particle_filter", n=4, when="ess", ess_threshold=0.9)
    assert first_moves(outcome) == Counter({0: 1, 1: 1, 2: 1, 3: 1})


def test_a_truncated_particle_has_no_weight() -> None:
    def script(path: str, seed: int) -> str:
        if path:
            return "\\boxed{1}"
        return "x" * 50 if seed % 2 else "s\n\n\\boxed{1}"

    outcome = tts.solve_sync(
        "?",
        strategy=tts.strategy("particle_filter", n=8),
        generator=ScriptedGenerator(script),
        verifier=ScriptedVerifier(value=lambda text: 0.9 if text.startswith("x") else 0.1),
        sampling=tts.Sampling(max_tokens=40),
    )
    assert outcome.answer == "1"
    assert outcome.graph is not None
    assert sum(node.key[:1] != () and len(node.key) == 2 for node in outcome.graph) == 8


def test_a_seed_decides_everything() -> None:
    tree = Tree(depth=3, branching=3, values=hashed(2))
    texts = [
        [node.path_text for node in graph.consumed()]
        for graph in (tree.search("particle_filter", n=6).graph for _ in range(2))
        if graph is not None
    ]
    assert texts[0] == texts[1]


def test_copies_draw_differently() -> None:
    def values(moves: Moves) -> float:
        return 0.999 if moves[0] == 0 else 0.001

    outcome = Tree(depth=2, branching=4, values=values).search("particle_filter", n=4)
    assert outcome.graph is not None
    second = [moves_of(node.path_text)[1] for node in outcome.graph if len(node.key) == 2]
    assert sorted(second) == [0, 1, 2, 3]
