"""Choosing under a total order."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from tests.nodes import Made, finished, graph_of, unfinished
from tts.selection import best, keep, rank, score_of, unique

MADE = st.builds(
    Made,
    st.sampled_from(["\\boxed{1}", "what?"]),
    st.sampled_from(["finished", "truncated"]),
    st.sampled_from([None, 0.1, 0.9]),
)


def test_the_best_has_an_answer_then_an_end_then_a_score_then_the_smaller_key() -> None:
    graph = graph_of(
        unfinished("1", score=1.0), finished("", score=0.9), finished("2", score=0.1), finished("3", score=0.2),
        finished("4", score=0.2),
    )  # fmt: skip
    assert [node.key for node in rank(graph[1:])] == [(3,), (4,), (2,), (1,), (0,)]
    assert best(graph[1:]).chosen is graph[4]


def test_what_has_no_score_ranks_below_what_has() -> None:
    graph = graph_of(finished("1"), finished("2", score=0.0))
    assert best(graph[1:]).chosen is graph[2]
    assert score_of(graph[1]) == float("-inf")


def test_the_best_of_nothing_is_nothing() -> None:
    assert (best([]).chosen, best([]).ranking) == (None, ())


@given(st.lists(MADE, max_size=6))
def test_the_order_of_arrival_does_not_matter(made: list[Made]) -> None:
    nodes = graph_of(*made)[1:]
    for order in list(permutations(nodes))[:24]:
        assert rank(order) == rank(nodes)
        assert keep(order, 2) == keep(nodes, 2)
        assert unique(order) == unique(nodes)


def test_keep_takes_the_greatest_first_and_the_smaller_key_of_equals() -> None:
    graph = graph_of(finished("1", score=0.5), finished("2", score=0.9), finished("3", score=0.5))
    assert [node.key for node in keep(graph[1:], 2)] == [(1,), (0,)]
    assert keep(graph[1:], 0) == []
    assert [node.key for node in keep(graph[1:], 1, lambda node: -score_of(node))] == [(0,)]


def test_of_paths_that_say_the_same_the_smaller_key_stays() -> None:
    graph = graph_of(finished("1"), finished("2"), finished("1"))
    assert [node.key for node in unique(reversed(graph[1:]))] == [(0,), (1,)]
