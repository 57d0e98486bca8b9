"""Tokens needed for an accuracy: the envelope, and reading between its points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts.benchmarks.needed import Needed, Spot, curve_of, envelope, needed_table, tokens_needed
from tts.benchmarks.report import rows

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Bench

CURVE = [Spot(400, 0.7), Spot(100, 0.5), Spot(200, 0.4)]
curves = st.lists(
    st.builds(Spot, st.floats(0.5, 1e5), st.integers(0, 300).map(lambda right: right / 300)), max_size=8
)  # fmt: skip


def test_the_envelope_never_falls() -> None:
    assert envelope(CURVE) == [(100, 0.5), (200, 0.5), (400, 0.7)]
    assert envelope([Spot(100, 0.6), Spot(100, 0.4), Spot(0, 0.9)]) == [(100, 0.6)]
    assert envelope([]) == []


def test_between_two_points_accuracy_grows_with_the_logarithm_of_tokens() -> None:
    found = tokens_needed(CURVE, 0.6)
    assert found is not None and not found.at_most
    assert found.tokens == pytest.approx(200 * 2**0.5)


def test_what_was_measured_is_read_as_it_is() -> None:
    assert tokens_needed(CURVE, 0.7) == Needed(400)
    assert tokens_needed(CURVE, 0.5) == Needed(100, at_most=True)
    assert tokens_needed(CURVE, 0.1) == Needed(100, at_most=True)
    assert tokens_needed([], 0.1) is None


def test_nothing_is_said_beyond_the_last_point() -> None:
    assert tokens_needed(CURVE, 0.701) is None


@given(curves, st.floats(0, 1), st.floats(0, 1))
def test_more_accuracy_never_takes_fewer_tokens(curve: list[Spot], one: float, other: float) -> None:
    less, more = (tokens_needed(curve, accuracy) for accuracy in sorted((one, other)))
    assert more is None or (less is not None and less.tokens <= more.tokens * (1 + 1e-9))


@given(curves)
def test_each_point_is_reached_with_its_own_tokens_at_most(curve: list[Spot]) -> None:
    for tokens, accuracy in curve:
        found = tokens_needed(curve, accuracy)
        assert found is not None and found.tokens <= tokens * (1 + 1e-9)


async def test_a_table_has_a_line_for_each_budget_of_the_reference(bench: Bench) -> None:
    contenders = [{"label": name, "strategy": name} for name in ("best_of_n", "beam", "self_consistency")]
    shown = rows(await bench.run(bench.configuration(contenders=contenders, budgets=("200tok", "800tok"))))
    assert len(curve_of(shown, "beam")) == 2
    headings, lines = needed_table(shown, "beam")
    assert headings == ["budget", "accuracy %", "tokens of beam", "best_of_n", "self_consistency"]
    assert [line[0] for line in lines] == ["200tok", "800tok"]
    assert {len(line) for line in lines} == {5}


async def test_cells_say_what_share_of_the_reference_it_is(bench: Bench) -> None:
    shown = rows(await bench.run(bench.configuration("best_of_n", "self_consistency", budgets=("9000tok", "9001tok"))))
    figures = {("best_of_n", 0): (100, 0.5), ("best_of_n", 1): (200, 0.9)}
    figures |= {("self_consistency", 0): (80, 0.5), ("self_consistency", 1): (90, 0.6)}
    made = []
    for place, row in enumerate(shown):
        tokens, accuracy = figures[row.label, place // 2]
        assert row.accuracy is not None and row.generated is not None
        made.append(row.model_copy(update={
            "accuracy": row.accuracy.model_copy(update={"estimate": accuracy}),
            "generated": row.generated.model_copy(update={"estimate": tokens}),
        }))  # fmt: skip
    assert [line[1:] for line in needed_table(made, "best_of_n")[1]] == [
        ["50.0", "100", "≤ 80 (≤ 0.80)"], ["90.0", "200", "not reached"],
    ]  # fmt: skip
    assert needed_table(made, "self_consistency")[1][1][3] == "119 (1.32)"
