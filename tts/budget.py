"""What a search may spend (Budget) and what it has spent, holds and could not see (Ledger)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from pydantic import Field, ValidationInfo, ValidatorFunctionWrapHandler, field_validator

from tts.errors import BudgetError
from tts.types import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

METERS = ("tokens", "samples", "verifier_calls", "dollars", "flops")
"""What is metered by amount; seconds are metered by the clock."""

UNITS = {
    "tok": "tokens",
    "token": "tokens",
    "tokens": "tokens",
    "sample": "samples",
    "samples": "samples",
    "call": "verifier_calls",
    "calls": "verifier_calls",
    "s": "seconds",
    "sec": "seconds",
    "seconds": "seconds",
    "min": "minutes",
    "usd": "dollars",
    "$": "dollars",
    "dollars": "dollars",
    "flop": "flops",
    "flops": "flops",
}
PREFIXES = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12, "P": 15}
"""Powers of ten."""
LARGEST = 1e300
"""Anything beyond is no limit at all."""
# A sign is read only so that what is refused is the amount, not how it is written.
_LIMIT = re.compile(r"(\$?)\s*(-?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([kKMGTP]?)\s*([a-zA-Z$]*)")


class Budget(Frozen):
    """Limits of one search; None is no limit. None is exceeded by more than what one step in flight can hold.

    Written as text, each limit carries its unit: "4096tok,30s", "64samples", "200calls", "0.05usd", "2Tflops", "5min".
    """

    tokens: int | None = Field(default=None, description="sampled tokens")
    samples: int | None = Field(default=None, description="sequences started")
    verifier_calls: int | None = Field(default=None, description="sequences scored")
    seconds: float | None = Field(default=None, description="wall-clock")
    dollars: float | None = Field(default=None, description="needs prices in the backends' capabilities")
    flops: float | None = Field(default=None, description="needs operations per token in the capabilities")

    @field_validator("*", mode="wrap")
    @classmethod
    def _is_positive_and_finite(cls, given: object, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
        number = given if isinstance(given, (int, float)) else read(given)
        if number is not None and not 0 < number < LARGEST:
            raise BudgetError(f"budget: {info.field_name} is {number}; a limit is positive and finite, or left out")
        return read(given)

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read limits such as "4096tok,30s".

        Raises:
            BudgetError: A limit has no unit, an unknown one, or is given twice.
        """
        limits: dict[str, Fraction] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, value = _parse_limit(part)
            if name in limits:
                raise BudgetError(f"budget {text!r}: {name} is given twice")
            limits[name] = value
        if not limits:
            raise BudgetError("the budget is empty: write limits with units, as in 4096tok,30s")
        return cls(**{name: _whole(name, value) for name, value in limits.items()})  # type: ignore[arg-type]


def _parse_limit(part: str) -> tuple[str, Fraction]:
    match = _LIMIT.fullmatch(part)
    if match is None:
        raise BudgetError(f"budget {part!r}: expected a number and a unit, as in 4096tok or 30s")
    dollar, number, prefix, unit = match.groups()
    if prefix and not unit:
        prefix, unit = "", prefix
    unit = "usd" if dollar and not unit else unit
    if not unit:
        raise BudgetError(f"budget {part!r} has no unit: one of tok, samples, calls, s, min, usd, flops")
    if unit not in UNITS:
        raise BudgetError(f"budget {part!r}: unknown unit {unit!r}; one of tok, samples, calls, s, min, usd, flops")
    if dollar and UNITS[unit] != "dollars":
        raise BudgetError(f"budget {part!r}: is it dollars or {UNITS[unit]}?")
    if abs(float(number)) > LARGEST:
        raise BudgetError(f"budget: {UNITS[unit]} is {float(number)}; a limit is positive and finite, or left out")
    value = Fraction(number) * 10 ** PREFIXES[prefix]
    return ("seconds", value * 60) if UNITS[unit] == "minutes" else (UNITS[unit], value)


def _whole(name: str, value: Fraction) -> float | int:
    if name not in ("tokens", "samples", "verifier_calls"):
        return float(value)
    if value.denominator != 1:
        raise BudgetError(f"budget: {name} is {float(value)}; it counts whole things")
    return int(value)


@dataclass(slots=True)
class Amounts:
    """An amount of each meter."""

    tokens: int = 0
    samples: int = 0
    verifier_calls: int = 0
    dollars: float = 0.0
    flops: float = 0.0

    def add(self, other: Amounts, sign: int = 1) -> None:
        """Add `other` in place, or take it away with `sign` -1."""
        self.tokens += sign * other.tokens
        self.samples += sign * other.samples
        self.verifier_calls += sign * other.verifier_calls
        self.dollars += sign * other.dollars
        self.flops += sign * other.flops


class Ledger:
    """Amounts held and spent against a budget. A hold is taken before work starts and released when it is settled."""

    __slots__ = ("exhausted", "held", "limits", "most", "spent", "unobserved")

    def __init__(self, budget: Budget) -> None:
        self.limits: dict[str, float] = {name: limit for name in METERS if (limit := getattr(budget, name)) is not None}
        self.held = Amounts()
        self.most = Amounts()
        self.spent = Amounts()
        self.unobserved = 0
        self.exhausted: str | None = None

    def longest_prefix(self, costs: Iterable[Amounts]) -> tuple[int, Amounts, str | None]:
        """Return how many leading `costs` fit beside what is held and spent, their sum, and the limit that broke."""
        total = Amounts()
        count = 0
        for cost in costs:
            refused = self._refused(total, cost)
            if refused is not None:
                return count, total, refused
            total.add(cost)
            count += 1
        return count, total, None

    def _refused(self, *more: Amounts) -> str | None:
        for name, limit in self.limits.items():
            amount: float = sum(getattr(part, name) for part in (self.spent, self.held, *more))
            if amount > limit * (1 + 1e-12):
                return name
        return None

    def overdrawn(self) -> bool:
        """Whether what is held and spent exceeds a limit, as failed attempts can make it; `exhausted` then names it."""
        limit = self._refused()
        self.exhausted = limit or self.exhausted
        return limit is not None

    def hold(self, amounts: Amounts) -> None:
        """Set `amounts` aside."""
        self.held.add(amounts)
        self.most.dollars = max(self.most.dollars, self.held.dollars)
        self.most.flops = max(self.most.flops, self.held.flops)

    def release(self, amounts: Amounts) -> None:
        """Give back what was set aside."""
        self.held.add(amounts, -1)
        # What rounding leaves of the greatest sum that was held is nothing.
        if abs(self.held.dollars) <= 1e-9 * self.most.dollars:
            self.held.dollars = 0.0
        if abs(self.held.flops) <= 1e-9 * self.most.flops:
            self.held.flops = 0.0

    def spend(self, amounts: Amounts) -> None:
        """Charge."""
        self.spent.add(amounts)

    def shares(self, count: int) -> Iterator[tuple[Ledger, Amounts]]:
        """Yield `count` ledgers with an equal part each of what is left, and that part, to be held here meanwhile."""
        left = {
            name: max(0.0, limit - getattr(self.spent, name) - getattr(self.held, name))
            for name, limit in self.limits.items()
        }
        for _ in range(count):
            share = Ledger(Budget())
            share.limits = {
                name: amount // count if name in ("tokens", "samples", "verifier_calls") else amount / count
                for name, amount in left.items()
            }
            yield share, Amounts(**share.limits)  # type: ignore[arg-type]
