"""Equal budgets: how large a strategy must be so that it spends, on average, what it is given.

The rule. A strategy has one parameter that says how much of it there is: the samples of best_of_n, the width of beam.
Searches of pilot problems tell what it spends at its usual size; the size that should spend the budget follows, is
tried on the pilot problems in turn, and corrected, a few times at most; the size that came nearest is taken. What a
strategy spent at the budgets measured before counts too, and where its spending has grown evenly with size, the next
size is taken without being tried. Of several limits the tightest counts. The limits that size a strategy are then met
on average, not by each problem, and the report says what was spent.

Why not simply the limit. What is drawn holds its longest possible length before it starts, so that a limit leaves up to
a whole path unused, and makes samples wait for one another that could run side by side; and a beam that it cuts
half-way has no answer. Such a comparison measures how strategies meet a limit (`Configuration.hard` asks for it), not
what they make of equal tokens.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tts import registry
from tts.benchmarks.configuration import describe
from tts.budget import Budget
from tts.errors import ParameterError, UnknownNameError
from tts.types import Frozen

if TYPE_CHECKING:
    from tts.benchmarks.configuration import Contender
    from tts.protocols import Strategy
    from tts.types import Usage

SPENT = {
    "tokens": "generated",
    "samples": "samples",
    "verifier_calls": "verifier_calls",
    "dollars": "dollars",
    "flops": "flops",
}
"""Each limit that sizes a strategy, and the field of `Usage` that tells what of it was spent."""
ROUNDS = 4
NEAR_ENOUGH = 0.05
EVEN = (0.8, 1.25)
"""Powers of size by which spending may have grown for a size to be taken untried."""
FAR = 2.5
"""How many times the nearest known size, or which part of it, an untried size may be."""
_TRIES = 64

Spending = Mapping[str, float]
"""What was spent a problem, by name of limit."""
Measure = Callable[["Strategy"], Awaitable[Spending]]


class Sized(Frozen):
    """How a parameter was fitted to a budget."""

    parameter: str
    value: int
    tried: dict[int, dict[str, float]] = Field(description="what a pilot problem, or one measured, spent, by size")


class Cell(Frozen):
    """A strategy at a budget: one row of a report."""

    kind: Literal["cell"] = "cell"
    label: str
    strategy: str
    parameters: dict[str, Any] = Field(description="all of them")
    given: dict[str, Any] = Field(description="those that were set or sized")
    budget: str = Field(description="as it was asked for")
    limits: Budget = Field(description="those that each problem keeps to")
    sized: Sized | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the other cells of a run."""
        return self.label, self.budget


def size_parameter(contender: Contender, budget: Budget) -> str | None:
    """Return the parameter that the budget is to size, or None where the budget stays a limit.

    Raises:
        UnknownNameError: The strategy has no such parameter.
    """
    kind = registry.find("strategy", contender.strategy)
    fields = kind.model_fields
    if contender.size is not None and contender.size not in fields:
        raise UnknownNameError(f"parameter of {contender.strategy}", contender.size, fields)
    name = contender.size or kind.scales_with
    sizes = any(getattr(budget, limit) is not None for limit in SPENT)
    return name if sizes and name in fields and name not in contender.parameters else None


async def make_cell(
    contender: Contender, budget: Budget, measure: Measure, known: Mapping[int, Spending], *, hard: bool
) -> Cell:
    """Return a strategy at a budget, sized by what it is measured to spend and is known to from other budgets."""
    sized = await _fit(contender, budget, measure, known)
    given = dict(contender.parameters)
    if sized is not None:
        given[sized.parameter] = sized.value
    average = {} if sized is None or hard else dict.fromkeys(SPENT)
    return Cell(
        label=contender.label,
        strategy=contender.strategy,
        parameters=registry.strategy(contender.strategy, **given).model_dump(mode="json"),
        given=given,
        budget=describe(budget),
        limits=budget.model_copy(update=average),
        sized=sized,
    )


async def _fit(contender: Contender, budget: Budget, measure: Measure, known: Mapping[int, Spending]) -> Sized | None:
    parameter = size_parameter(contender, budget)
    if parameter is None:
        return None
    limits = {name: getattr(budget, name) for name in SPENT if getattr(budget, name) is not None}
    tried = dict(known)
    shares = {size: share_of(spent, limits) for size, spent in tried.items()}
    value = _foreseen(contender, parameter, shares)
    if value is not None:
        return _sized(parameter, value, tried)
    for _ in range(ROUNDS):
        if any(distance(share) < NEAR_ENOUGH for share in shares.values()):
            break
        strategy = resized(contender, parameter, next_size(shares) if shares else usual_size(contender, parameter))
        size = getattr(strategy, parameter)
        if size in tried:
            break
        tried[size] = await measure(strategy)
        shares[size] = share_of(tried[size], limits)
    best = min(shares, key=lambda size: (distance(shares[size]), size))
    return _sized(parameter, best, tried)


def _sized(parameter: str, value: int, tried: Mapping[int, Spending]) -> Sized:
    return Sized(parameter=parameter, value=value, tried={size: dict(spent) for size, spent in tried.items()})


def _foreseen(contender: Contender, parameter: str, shares: Mapping[int, float]) -> int | None:
    """Return the size that need not be tried, since spending grew evenly with size up to near it; or None."""
    nearest = sorted(shares, key=lambda size: (distance(shares[size]), size))[:2]
    if len(nearest) < 2 or distance(shares[nearest[0]]) < NEAR_ENOUGH or not all(shares[size] > 0 for size in nearest):
        return None
    size: int = getattr(resized(contender, parameter, next_size(shares)), parameter)
    near = 1 / FAR <= size / nearest[0] <= FAR
    return size if near and size not in shares and EVEN[0] <= growth(shares, *nearest) <= EVEN[1] else None


def growth(shares: Mapping[int, float], one: int, other: int) -> float:
    """Return the power of size by which spending grew between two sizes that spent something."""
    return math.log(shares[one] / shares[other]) / math.log(one / other)


def mean_spending(usages: Sequence[Usage]) -> dict[str, float]:
    """Return what searches spent on average, by limit; there is one at least."""
    return {limit: fmean(getattr(usage, name) or 0 for usage in usages) for limit, name in SPENT.items()}


def known_spending(cell: Cell, usages: Sequence[Usage]) -> dict[int, Spending]:
    """Return what a problem spends by size, as a sized cell and the searches that it has measured tell."""
    assert cell.sized is not None
    # Searches that kept to a limit do not tell what they would have spent.
    free = usages and cell.limits == Budget()
    return {**cell.sized.tried, **({cell.sized.value: mean_spending(usages)} if free else {})}


def usual_size(contender: Contender, parameter: str) -> int:
    """Return the size that a strategy has by default.

    Raises:
        ParameterError: The parameter is no count.
    """
    size = getattr(registry.strategy(contender.strategy, **contender.parameters), parameter)
    if not isinstance(size, int):
        raise ParameterError(f"{contender.strategy}: {parameter} is {size!r} by default, no count to be sized")
    return size


def share_of(spent: Spending, limits: Spending) -> float:
    """Return which share of the tightest limit was spent."""
    return max(spent[name] / limit for name, limit in limits.items())


def distance(share: float) -> float:
    """Return how far from spending all of a budget it is to spend `share` of it; twice is as far as half."""
    return abs(math.log(share)) if share > 0 else math.inf


def next_size(shares: Mapping[int, float]) -> int:
    """Return the size to try next, given which share of the budget each size spent; at least 1.

    Spending is taken to be a power of size: through the two sizes that came nearest, or, with one, proportional to it.
    """
    nearest, *others = sorted(shares, key=lambda size: (distance(shares[size]), size))
    if shares[nearest] == 0:
        return nearest
    power = 1.0
    if others and shares[others[0]] > 0:
        power = growth(shares, nearest, others[0])
    # Where pilots spend hardly more, or less, with a greater size, a power would lead far away.
    power = power if 0.25 <= power <= 4 else 1.0
    return max(1, round(nearest * math.exp(-math.log(shares[nearest]) / power)))


def resized(contender: Contender, parameter: str, size: int) -> Strategy:
    """Return the strategy with the largest size it allows up to `size`, or else with its smallest.

    Raises:
        ParameterError: It allows none near it.
    """
    schema = registry.find("strategy", contender.strategy).model_json_schema()["properties"][parameter]
    size = max(schema.get("minimum", 1), min(size, schema.get("maximum", size)))
    for smaller in range(size, max(0, size - _TRIES), -1):
        try:
            return registry.strategy(contender.strategy, **{**contender.parameters, parameter: smaller})
        except ParameterError as error:
            refusal = error
    raise refusal
