"""Votes over answers: grouped by what they mean, and only by those that can be read."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.nodes import finished, graph_of, unfinished
from tts.voting import ballots, leader_confidence, vote, weight_by_likelihood, weight_by_score

BETA = {(1, 0): 0.75, (2, 0): 0.875, (3, 0): 0.9375, (4, 0): 0.96875, (5, 1): 0.9375, (6, 1): 0.9648, (8, 3): 0.9270}


@pytest.mark.parametrize("votes", BETA)
def test_confidence_in_the_leader_is_as_published(votes: tuple[int, int]) -> None:
    assert leader_confidence(*votes) == pytest.approx(BETA[votes], abs=5e-5)


@given(st.integers(0, 60), st.integers(0, 60))
def test_confidence_is_the_binomial_sum_of_adaptive_consistency(first: int, second: int) -> None:
    total = first + second + 1
    tail = sum(math.comb(total, k) for k in range(second + 1)) / 2**total
    assert leader_confidence(first, second) == pytest.approx(1 - tail, abs=1e-12)


def test_equal_answers_are_one_however_they_are_spelled() -> None:
    graph = graph_of(finished("1/2"), finished("0.75"), finished("0.5"), finished("\\frac{3}{4}"), finished("\\frac12"))
    answer = vote(graph[1:])
    assert answer.chosen is graph[1]
    assert [entry.votes for entry in answer.ranking] == [3, 3, 3, 2, 2]


def test_a_tie_goes_to_the_answer_seen_first_in_any_order_of_arrival() -> None:
    graph = graph_of(finished("7"), finished("8"), finished("8"), finished("7"))
    assert {vote(order).chosen for order in permutations(graph[1:])} == {graph[1]}


def test_what_cannot_be_read_does_not_vote() -> None:
    graph = graph_of(finished(""), finished(""), finished(""), finished("3"), unfinished("4"), unfinished("4"))
    answer = vote(graph[1:])
    assert answer.chosen is graph[4]
    assert [(entry.node.key, entry.votes) for entry in answer.ranking if entry.votes is not None] == [((3,), 1)]
    assert len(answer.ranking) == 6


def test_where_nobody_can_vote_the_best_is_returned_undecided() -> None:
    graph = graph_of(finished("", score=0.2), unfinished("4", score=0.9), finished("", score=0.3))
    answer = vote(graph[1:])
    assert (answer.chosen, answer.decided) == (graph[3], False)
    assert all(entry.votes is None for entry in answer.ranking)


def test_nobody_at_all_is_no_answer() -> None:
    answer = vote([])
    assert (answer.chosen, answer.ranking, answer.decided) == (None, (), False)


def test_scores_weigh() -> None:
    graph = graph_of(finished("1", score=0.3), finished("1", score=0.3), finished("2", score=0.7), finished("3"))
    answer = vote(graph[1:], weight_by_score)
    assert answer.chosen is graph[3]
    assert [entry.votes for entry in answer.ranking] == [0.7, 0.6, 0.6, 0.0]


def test_likelihood_weighs_by_the_mean_of_the_log_probabilities() -> None:
    graph = graph_of(finished("1", logprobs=(-1.0, -3.0)), finished("2"))
    assert weight_by_likelihood(graph[1]) == pytest.approx(math.exp(-2.0))
    assert weight_by_likelihood(graph[2]) == 0.0


def test_groups_and_their_members_stand_in_key_order() -> None:
    graph = graph_of(finished("2"), finished("1"), finished("2"))
    groups = ballots(reversed(graph[1:]))
    assert [[node.key for node in members] for members in groups.values()] == [[(0,), (2,)], [(1,)]]
