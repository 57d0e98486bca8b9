"""Equal budgets: how large a strategy must be so that it spends, on average, what it is given.

The rule. A strategy has one parameter that says how much of it there is: the samples of best_of_n, the width of beam.
Searches of a few pilot problems tell what it spends at its usual size; the size that should spend the budget follows,
is tried on the pilot problems in turn, and corrected, a few times at most; the size that came nearest is taken. Of
several limits the tightest counts. The limits that size a strategy are then met on average, not by each problem, and
the report says what was spent.

Why not simply the limit. What is drawn holds its longest possible length before it starts, so that a limit leaves up to
a whole path unused, and makes samples wait for one another that could run side by side; and a beam that it cuts
half-way has no answer. Such a comparison measures how strategies meet a limit (`Configuration.hard` asks for it), not
what they make of equal tokens.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tts import registry
from tts.benchmarks.configuration import describe
from tts.budget import Budget
from tts.errors import ParameterError, UnknownNameError
from tts.types import Frozen, Usage

if TYPE_CHECKING:
    from tts.benchmarks.configuration import Configuration, Contender
    from tts.protocols import Strategy

USUAL_SIZE = "n"
SIZES = {"beam": "width", "a_star": "expansion"}
"""The parameter that says how much of a strategy there is, where it is not `n`."""
SPENT = {
    "tokens": "generated",
    "samples": "samples",
    "verifier_calls": "verifier_calls",
    "dollars": "dollars",
    "flops": "flops",
}
"""Each limit that sizes a strategy, and the field of `Usage` that tells what of it was spent."""
ROUNDS = 4
NEAR_ENOUGH = 0.03
_TRIES = 64

Spending = Mapping[str, float]
"""What was spent a problem, by name of limit."""
Measure = Callable[["Strategy"], Awaitable[Spending]]


class Sized(Frozen):
    """How a parameter was fitted to a budget."""

    parameter: str
    value: int
    pilot: dict[str, float] = Field(description="what a pilot problem spent, at the last size tried")


class Cell(Frozen):
    """A strategy at a budget: one row of a report."""

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


def spending(usages: list[Usage]) -> dict[str, float]:
    """Return the mean of every meter over searches."""
    return {limit: sum(getattr(usage, name) or 0 for usage in usages) / len(usages) for limit, name in SPENT.items()}


def size_parameter(contender: Contender, budget: Budget) -> str | None:
    """Return the parameter that the budget is to size, or None where the budget stays a limit.

    Raises:
        UnknownNameError: The strategy has no such parameter.
    """
    fields = registry.find("strategy", contender.strategy).model_fields
    if contender.size is not None and contender.size not in fields:
        raise UnknownNameError(f"parameter of {contender.strategy}", contender.size, fields)
    name = contender.size or SIZES.get(contender.strategy, USUAL_SIZE)
    sizes = any(getattr(budget, limit) is not None for limit in SPENT)
    return name if sizes and name in fields and name not in contender.parameters else None


async def plan(configuration: Configuration, measure: Measure) -> list[Cell]:
    """Return the cells of a run, budget after budget, sized by what `measure` says a strategy spends."""
    cells: list[Cell] = []
    known: dict[str, Spending] = {}

    async def remembered(strategy: Strategy) -> Spending:
        name = f"{strategy.name} {strategy.model_dump_json()}"
        if name not in known:
            known[name] = await measure(strategy)
        return known[name]

    for budget in configuration.budgets:
        for contender in configuration.contenders:
            sized = await _fit(contender, budget, remembered)
            cells.append(_cell(contender, budget, sized, hard=configuration.hard))
    return cells


def _cell(contender: Contender, budget: Budget, sized: Sized | None, *, hard: bool) -> Cell:
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


async def _fit(contender: Contender, budget: Budget, measure: Measure) -> Sized | None:
    parameter = size_parameter(contender, budget)
    if parameter is None:
        return None
    limits = {name: getattr(budget, name) for name in SPENT if getattr(budget, name) is not None}
    size = getattr(registry.strategy(contender.strategy, **contender.parameters), parameter)
    if not isinstance(size, int):
        raise ParameterError(f"{contender.strategy}: {parameter} is {size!r} by default, no count to be sized")
    tried: dict[int, Spending] = {}
    shares: dict[int, float] = {}
    while len(tried) < ROUNDS:
        strategy = resized(contender, parameter, size)
        size = getattr(strategy, parameter)
        if size in tried:
            break
        tried[size] = await measure(strategy)
        shares[size] = max(tried[size][name] / limit for name, limit in limits.items())
        if distance(shares[size]) < NEAR_ENOUGH:
            break
        size = next_size(shares)
    best = min(shares, key=lambda size: (distance(shares[size]), size))
    return Sized(parameter=parameter, value=best, pilot={name: tried[best][name] for name in limits})


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
        power = math.log(shares[nearest] / shares[others[0]]) / math.log(nearest / others[0])
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
