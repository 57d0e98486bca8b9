"""Budgets as they are written, and the ledger that keeps to them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts.budget import METERS, Amounts, Budget, Ledger
from tts.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Iterable

READ = {
    "4096tok": Budget(tokens=4096),
    "4096 tokens": Budget(tokens=4096),
    "4ktok,30s": Budget(tokens=4000, seconds=30),
    " 64samples , 200calls": Budget(samples=64, verifier_calls=200),
    "0.05usd": Budget(dollars=0.05),
    "$0.05": Budget(dollars=0.05),
    "$0.05usd": Budget(dollars=0.05),
    "0.05$": Budget(dollars=0.05),
    "2Tflops": Budget(flops=2e12),
    "1.5e3tok": Budget(tokens=1500),
    "5min": Budget(seconds=300),
    "0.5min,": Budget(seconds=30),
    "1.005ktok": Budget(tokens=1005),
    "2.3ktok": Budget(tokens=2300),
    "4.35ktok": Budget(tokens=4350),
    ".5s": Budget(seconds=0.5),
}
REFUSED = {
    "": "the budget is empty",
    " , ": "the budget is empty",
    "4096": "no unit",
    "5k": "no unit|unknown unit",
    "5 parsecs": "unknown unit 'parsecs'",
    "tok": "expected a number and a unit",
    "-5tok": "tokens is -5",
    "nantok": "expected a number and a unit",
    "inftok": "expected a number and a unit",
    "1e999tok": "tokens is inf",
    "1e300ktok": "tokens is",
    "1e999999999tok": "tokens is inf",
    "1e999s": "seconds is inf",
    "0tok": "tokens is 0",
    "0.0tok": "tokens is 0",
    "0.0s": "seconds is 0.0",
    "0.5tok": "tokens is 0.5; it counts whole things",
    "5tok,6tok": "tokens is given twice",
    "60s,1min": "seconds is given twice",
    "$5tok": "dollars or tokens",
    "$5k": "unknown unit 'k'",
    "5..5tok": "expected a number",
    "٣tok": "expected a number",
}


@pytest.mark.parametrize("text", READ)
def test_limits_are_read_with_their_units(text: str) -> None:
    assert Budget.parse(text) == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_limit_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(BudgetError, match=REFUSED[text]):
        Budget.parse(text)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [*METERS, "seconds"])
def test_limits_are_positive_and_finite(name: str, value: float) -> None:
    with pytest.raises(BudgetError, match=f"{name} is {value}"):
        Budget(**{name: value})  # type: ignore[arg-type]


@given(st.integers(1, 10**12), st.sampled_from(["tok", "samples", "calls"]))
def test_counts_are_read_exactly(count: int, unit: str) -> None:
    assert next(value for _, value in Budget.parse(f"{count}{unit}") if value is not None) == count


@given(st.decimals(min_value="0.001", max_value="100000", places=3))
def test_thousands_are_read_exactly(thousands: object) -> None:
    assert Budget.parse(f"{thousands}ktok").tokens == int(thousands * 1000)  # type: ignore[operator]


COSTS = st.lists(
    st.builds(
        Amounts,
        tokens=st.integers(0, 50),
        samples=st.integers(0, 2),
        verifier_calls=st.integers(0, 2),
        dollars=st.floats(0, 0.01),
        flops=st.floats(0, 1e15),
    ),
    max_size=30,
)
LIMITS = st.builds(
    Budget,
    tokens=st.none() | st.integers(1, 500),
    samples=st.none() | st.integers(1, 30),
    verifier_calls=st.none() | st.integers(1, 30),
    dollars=st.none() | st.floats(1e-4, 0.1),
    flops=st.none() | st.floats(1, 1e16),
)


@given(LIMITS, st.lists(COSTS, max_size=4), st.randoms(use_true_random=False))
def test_it_never_holds_beyond_a_limit_and_ends_with_nothing_held(
    budget: Budget, batches: list[list[Amounts]], random: object
) -> None:
    ledger = Ledger(budget)
    held: list[Amounts] = []
    for batch in batches:
        fits, total, refused = ledger.longest_prefix(batch)
        assert (fits == len(batch)) == (refused is None)
        ledger.hold(total)
        held += batch[:fits]
        within(ledger, budget)
        random.shuffle(held)  # type: ignore[attr-defined]
        for cost in held[len(held) // 2 :]:
            ledger.release(cost)
            ledger.spend(cost)
        del held[len(held) // 2 :]
        within(ledger, budget)
    for cost in held:
        ledger.release(cost)
    assert ledger.held == Amounts()


def within(ledger: Ledger, budget: Budget) -> None:
    for name in METERS:
        limit = getattr(budget, name)
        if limit is not None:
            assert getattr(ledger.spent, name) + getattr(ledger.held, name) <= limit * (1 + 1e-9)


@given(LIMITS, COSTS)
def test_the_prefix_is_the_longest_that_fits(budget: Budget, costs: list[Amounts]) -> None:
    ledger = Ledger(budget)
    fits, _, refused = ledger.longest_prefix(costs)
    if refused is not None:
        limit = getattr(budget, refused)
        assert total(refused, costs[: fits + 1]) > limit
        assert all(total(name, costs[:fits]) <= top * (1 + 1e-9) for name, top in ledger.limits.items())


def total(name: str, costs: Iterable[Amounts]) -> float:
    return math.fsum(getattr(cost, name) for cost in costs)


@given(LIMITS, st.integers(1, 7))
def test_shares_are_equal_and_sum_to_no_more_than_is_left(budget: Budget, count: int) -> None:
    ledger = Ledger(budget)
    ledger.spend(Amounts(tokens=3, samples=1, dollars=1e-5))
    shares = list(ledger.shares(count))
    assert len(shares) == count
    for name, limit in ledger.limits.items():
        parts = [share.limits[name] for share, _ in shares]
        assert len(set(parts)) == 1
        assert sum(parts) <= max(0.0, limit - getattr(ledger.spent, name)) * (1 + 1e-9)


def test_a_share_without_limits_has_none() -> None:
    [(share, held)] = Ledger(Budget()).shares(1)
    assert share.limits == {}
    assert held == Amounts()


def test_overdrawn_is_beyond_a_limit_and_not_at_it() -> None:
    ledger = Ledger(Budget(tokens=10))
    ledger.spend(Amounts(tokens=10))
    assert not ledger.overdrawn()
    ledger.hold(Amounts(tokens=1))
    assert ledger.overdrawn()
