"""The arithmetic of word problems: every valid sequence of steps, and what may come next."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

from tts.benchmarks.tasks.expressions import apply

LARGEST_INTERMEDIATE = 999

_GAINS = ("+bc *a0 +q1", "*ab *ac +01 +q2", "*ab *ac +q0 +21", "*ab *ac +q1 +20")
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "idle": ("",),
    "gain": ("+qa",),
    "loss": ("-qa",),
    "times": ("*qa",),
    "share": ("/qa",),
    "boxes": ("*ab +q0",),
    "bags": ("*ab -q0",),
    "bring": _GAINS,
    "take": ("+bc *a0 -q1", "*ab *ac +01 -q2", "*ab *ac -q0 -21", "*ab *ac -q1 -20"),
}
"""What each kind of event computes, in every valid way, the shortest first.

A way has one word per step: operator, left and right operand; q is the quantity before the event, a to c are the
event's numbers, 0 to 2 the results of the event's own steps. The last step makes the new quantity.
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of arithmetic: `left operator right = result`."""

    left: int
    operator: str
    right: int
    result: int

    def matches(self, other: "Step") -> bool:
        """Tell whether both are the same computation, up to the order of what is added or multiplied."""
        if (self.operator, self.result) != (other.operator, other.result):
            return False
        mine, theirs = (self.left, self.right), (other.left, other.right)
        return mine == theirs or (self.operator in "+*" and mine == theirs[::-1])


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a plan, and the positions of the plan's steps whose results it needs."""

    step: Step
    needs: frozenset[int]


@dataclass(frozen=True, slots=True)
class Event:
    """What happens to the quantity: a kind of `PROGRAMS` and its numbers a, b, c."""

    kind: str
    numbers: tuple[int, ...]


Plan = tuple[Node, ...]
Route = tuple[Step, ...]


def plans(opening: int, events: Sequence[Event]) -> tuple[Plan, ...]:
    """Return every way to compute the last quantity, the shortest first; any order that keeps `needs` is a route.

    Raises:
        ValueError: if the opening quantity or a result is no integer of 1 to 999.
    """
    if not 1 <= opening <= LARGEST_INTERMEDIATE:
        raise ValueError(f"not an opening quantity: {opening}")
    ways = product(*(PROGRAMS[event.kind] for event in events))
    return tuple(_plan(opening, events, way) for way in ways)


def _plan(opening: int, events: Sequence[Event], way: Sequence[str]) -> Plan:
    plan: list[Node] = []
    for event, program in zip(events, way, strict=True):
        values = {"q": (plan[-1].step.result if plan else opening, len(plan) - 1)}
        values |= {slot: (number, -1) for slot, number in zip("abc", event.numbers, strict=False)}
        for index, step in enumerate(program.split()):
            plan.append(_node(step[0], values[step[1]], values[step[2]]))
            values[str(index)] = (plan[-1].step.result, len(plan) - 1)
    return tuple(plan)


def _node(operator: str, left: tuple[int, int], right: tuple[int, int]) -> Node:
    """Return the node of two operands, each a value and the position of the step that made it, or -1."""
    result = apply(left[0], operator, right[0])
    if result is None or not 1 <= result <= LARGEST_INTERMEDIATE:
        raise ValueError(f"not a step: {left[0]} {operator} {right[0]}")
    return Node(Step(left[0], operator, right[0], result), frozenset({left[1], right[1]} - {-1}))


def ready(plan: Plan, done: frozenset[int]) -> list[int]:
    """Return the positions of a plan's steps that can come next."""
    return [index for index, node in enumerate(plan) if index not in done and node.needs <= done]


def orders(plan: Plan, done: frozenset[int] = frozenset()) -> Iterator[Route]:
    """Yield every order of a plan's steps after those that are done."""
    if len(done) == len(plan):
        yield ()
    for index in ready(plan, done):
        for rest in orders(plan, done | {index}):
            yield (plan[index].step, *rest)


def draw_order(plan: Plan, rng: Random) -> Route:
    """Draw an order of a plan's steps, each next one uniformly from those that can come next."""
    done: list[int] = []
    while len(done) < len(plan):
        done.append(rng.choice(ready(plan, frozenset(done))))
    return tuple(plan[index].step for index in done)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a sequence of steps may have done so far: each possible plan with the positions of its steps done."""

    states: frozenset[tuple[Plan, frozenset[int]]]

    def follow(self, step: Step) -> "Progress":
        """Return the progress after a step; without any state where the step belongs to no valid route."""
        return Progress(
            frozenset(
                (plan, done | {index})
                for plan, done in self.states
                for index in ready(plan, done)
                if step.matches(plan[index].step)
            )
        )


def start(ways: Sequence[Plan]) -> Progress:
    """Return the progress before the first step."""
    return Progress(frozenset((plan, frozenset[int]()) for plan in ways))
