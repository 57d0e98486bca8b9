"""Equal budgets: how large a strategy must be so that it spends, on average, what it is given.

The rule. A strategy has one parameter that says how much of it there is: the samples of best_of_n, the width of beam.
Searches of a few pilot problems tell what it spends at one size; spending is taken to be proportional to size, so the
size for a budget follows, is tried on the pilot problems in turn, and corrected once. Of several limits the tightest
counts. The limits that size a strategy are then met on average, not by each problem, and the report says what was
spent.

Why not simply the limit. A batch holds its longest possible paths before it starts. Best-of-N under a limit of 4,096
tokens and paths of at most 2,048 draws two samples, whatever their length, and a beam that the limit cuts half-way has
no answer. Such a comparison would measure how strategies meet a limit (`Configuration.hard` asks for it), not what
they make of equal tokens.
"""

from __future__ import annotations

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
ROUNDS = 2
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
    return {
        limit: sum(getattr(usage, name) or 0 for usage in usages) / len(usages) for limit, name in SPENT.items()
    }


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
    spent: Spending = {}
    for _ in range(ROUNDS):
        strategy = resized(contender, parameter, size)
        spent = await measure(strategy)
        size = fitted(getattr(strategy, parameter), spent, limits)
    value = getattr(resized(contender, parameter, size), parameter)
    return Sized(parameter=parameter, value=value, pilot={name: spent[name] for name in limits})


def fitted(size: int, spent: Spending, limits: Spending) -> int:
    """Return the size at which spending proportional to size comes nearest to the tightest limit; at least 1."""
    scales = [limit / spent[name] for name, limit in limits.items() if spent[name] > 0]
    return max(1, round(size * min(scales))) if scales else size


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
