r"""Countdown: combine every given number once, with + - * /, to reach a target. Four numbers, unless said otherwise.

A solution is text in parts, one part per step and one for the answer:

    25 + 15 = 40 (left: 18, 14, 40)\n\n
    40 + 14 = 54 (left: 18, 54)\n\n
    54 - 18 = 36 (left: 36)\n\n
    The answer is \boxed{((25 + 15) + 14) - 18}

Every part can be judged exactly: the arithmetic is checked, and brute force tells whether the target can still be
reached. Intermediate results are positive integers up to 999, and division leaves no remainder.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import combinations, islice
from random import Random

from tts.benchmarks.tasks.expressions import apply, leaves, parse, value

NUMBER_COUNT = 4
NUMBER_RANGE = (1, 30)
TARGET_RANGE = (10, 200)
LARGEST_INTERMEDIATE = 999
HELD_OUT_MODULUS = 50
STEP_END = "\n\n"

_QUESTION = re.compile(r"Use ([0-9]{1,6}(?:, [0-9]{1,6})*) to make ([0-9]{1,6})\.")
_STEP = re.compile(r"([0-9]{1,6}) ([-+*/]) ([0-9]{1,6}) = ([0-9]{1,6}) \(left: ([0-9]{1,6}(?:, [0-9]{1,6})*)\)")
_ANSWER = re.compile(r"The answer is \\boxed\{([^{}]*)\}\.?")


@dataclass(frozen=True, slots=True)
class Instance:
    """One problem: the numbers, in the order of the question, and the target."""

    numbers: tuple[int, ...]
    target: int


@dataclass(frozen=True, slots=True)
class Move:
    """One step of arithmetic: `left operator right = result`, the larger operand first."""

    left: int
    operator: str
    right: int
    result: int


Path = tuple[Move, ...]


# Moves and the exact solver


@lru_cache(maxsize=1 << 16)
def pair_moves(larger: int, smaller: int) -> tuple[Move, ...]:
    """Return every legal move on two values, where `larger >= smaller >= 1`."""
    results = {"+": larger + smaller, "-": larger - smaller, "*": larger * smaller}
    if larger % smaller == 0:
        results["/"] = larger // smaller
    return tuple(
        Move(larger, operator, smaller, result)
        for operator, result in results.items()
        if 1 <= result <= LARGEST_INTERMEDIATE
    )


def moves(left: Sequence[int]) -> tuple[Move, ...]:
    """Return the distinct legal moves on the values that are left."""
    pairs = set(combinations(sorted(left, reverse=True), 2))
    return tuple(move for larger, smaller in sorted(pairs) for move in pair_moves(larger, smaller))


def after(left: Sequence[int], move: Move) -> tuple[int, ...]:
    """Return the values left after a move: the operands leave, the result joins at the end.

    Raises:
        ValueError: if an operand is not available.
    """
    remaining = list(left)
    remaining.remove(move.left)
    remaining.remove(move.right)
    return (*remaining, move.result)


@lru_cache(maxsize=1 << 18)
def _count_solutions(left: tuple[int, ...], target: int) -> int:
    """Count the paths from sorted values to the target."""
    if len(left) == 1:
        return int(left[0] == target)
    if len(left) == 2:
        return sum(move.result == target for move in pair_moves(left[1], left[0]))
    if len(left) == 3:
        return _count_of_three(left, target)
    return sum(_count_solutions(tuple(sorted(after(left, move))), target) for move in moves(left))


def _count_of_three(left: tuple[int, ...], target: int) -> int:
    """Count as `_count_solutions` does, backwards from what the last value must meet: most of a search ends here."""
    smallest, middle, largest = left
    pairs = {(largest, middle): smallest, (largest, smallest): middle, (middle, smallest): largest}
    count = 0
    for (larger, smaller), last in pairs.items():
        partners = _partners(last, target)
        for move in pair_moves(larger, smaller):
            count += partners.get(move.result, 0)
    return count


@lru_cache(maxsize=1 << 16)
def _partners(value: int, target: int) -> Mapping[int, int]:
    """Return each value that one move combines with `value` into the target, with the number of such moves."""
    if not 1 <= target <= LARGEST_INTERMEDIATE:
        return {}
    partners = Counter((target - value, target + value, value - target, target * value))
    if target % value == 0:
        partners[target // value] += 1
    if value % target == 0 and target > 1:
        partners[value // target] += 1
    return partners


def count_solutions(left: Sequence[int], target: int) -> int:
    """Count the distinct paths of moves that turn all of `left` into `target`."""
    return _count_solutions(tuple(sorted(left)), target)


def reachable(left: Sequence[int], target: int) -> bool:
    """Tell whether some path of moves turns all of `left` into `target`."""
    return count_solutions(left, target) > 0


def draw_solution(instance: Instance, rng: Random) -> Path:
    """Draw a solution uniformly from all solution paths.

    Raises:
        ValueError: if the instance has no solution.
    """
    path: list[Move] = []
    left = instance.numbers
    while len(left) > 1:
        choices = moves(left)
        weights = [count_solutions(after(left, move), instance.target) for move in choices]
        if not any(weights):
            raise ValueError(f"no solution: {instance}")
        path.append(rng.choices(choices, weights)[0])
        left = after(left, path[-1])
    return tuple(path)


# Instances and their split


def draw_instance(rng: Random, size: int = NUMBER_COUNT) -> Instance:
    """Draw an instance of `size` numbers by a random forward path, so that it has at least one solution."""
    while True:
        numbers = tuple(rng.randint(*NUMBER_RANGE) for _ in range(size))
        left = numbers
        while len(left) > 1:
            larger, smaller = sorted(rng.sample(left, 2), reverse=True)
            left = after(left, rng.choice(pair_moves(larger, smaller)))
        if TARGET_RANGE[0] <= left[0] <= TARGET_RANGE[1]:
            return Instance(numbers, left[0])


def canonical(instance: Instance) -> str:
    """Return the key of an instance: the same for every order of its numbers."""
    return f"{','.join(map(str, sorted(instance.numbers)))}>{instance.target}"


def is_held_out(instance: Instance) -> bool:
    """Tell whether an instance belongs to the 2 % that no training may see."""
    digest = blake2b(canonical(instance).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_MODULUS == 0


def training_instances(rng: Random, size: int = NUMBER_COUNT) -> Iterator[Instance]:
    """Yield instances of `size` numbers without end, none of them held out."""
    while True:
        instance = draw_instance(rng, size)
        if not is_held_out(instance):
            yield instance


def held_out_instances(rng: Random, size: int = NUMBER_COUNT) -> Iterator[Instance]:
    """Yield held-out instances of `size` numbers without end, each canonical key once."""
    seen: set[str] = set()
    while True:
        instance = draw_instance(rng, size)
        if is_held_out(instance) and canonical(instance) not in seen:
            seen.add(canonical(instance))
            yield instance


def held_out(count: int, seed: int, size: int = NUMBER_COUNT) -> list[Instance]:
    """Return `count` distinct held-out instances of `size` numbers, the same for the same seed."""
    return list(islice(held_out_instances(Random(seed), size), count))


# Text


def question(instance: Instance) -> str:
    """Return the question as text."""
    return f"Use {', '.join(map(str, instance.numbers))} to make {instance.target}."


def parse_question(text: str) -> Instance:
    """Read an instance back from the text of its question.

    Raises:
        ValueError: if the text is not a Countdown question.
    """
    match = _QUESTION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a Countdown question: {text!r}")
    return Instance(_integers(match[1]), int(match[2]))


def step_text(move: Move, left: Sequence[int]) -> str:
    """Return one step as text, given the values that are left after it."""
    equation = f"{move.left} {move.operator} {move.right} = {move.result}"
    return f"{equation} (left: {', '.join(map(str, left))}){STEP_END}"


def answer_text(expression: str) -> str:
    """Return the last part of a solution."""
    return f"The answer is \\boxed{{{expression}}}"


def path_expression(numbers: Sequence[int], path: Path) -> str:
    """Return the expression that a complete path computes, every inner operation in brackets."""
    left = [(number, str(number)) for number in numbers]
    for move in path:
        operands = [_take(left, move.left), _take(left, move.right)]
        bracketed = [text if text.isdigit() else f"({text})" for text in operands]
        left.append((move.result, f" {move.operator} ".join(bracketed)))
    return left[-1][1]


def solution_text(instance: Instance, path: Path) -> tuple[str, ...]:
    """Return a path as the parts of a solution: one per step, and the answer."""
    parts: list[str] = []
    left = instance.numbers
    for move in path:
        left = after(left, move)
        parts.append(step_text(move, left))
    return (*parts, answer_text(path_expression(instance.numbers, path)))


def _take(left: list[tuple[int, str]], value: int) -> str:
    position = next(index for index, (held, _) in enumerate(left) if held == value)
    return left.pop(position)[1]


def _integers(listing: str) -> tuple[int, ...]:
    return tuple(int(number) for number in listing.split(", "))


def check_answer(instance: Instance, expression: str) -> bool:
    """Tell whether an expression uses each number exactly once and equals the target.

    Division must be exact; intermediate values may have any size and sign. Any text at all is safe to check.
    """
    parsed = parse(expression)
    if parsed is None or sorted(leaves(parsed)) != sorted(instance.numbers):
        return False
    return value(parsed) == instance.target


def answer_of(part: str) -> str | None:
    """Return the expression of the last part of a solution, or None where the part states no answer."""
    match = _ANSWER.fullmatch(part.strip())
    return None if match is None else match[1]


# Exact labels


def label_steps(instance: Instance, steps: Sequence[str]) -> tuple[bool, ...]:
    """Label each part of a solution as good or not, exactly.

    A step is good when every step before it is, its operands are available, its arithmetic and its list of values left
    are right, and the target can still be reached. An answer is good when it is right, whatever came before it.
    """
    labels: list[bool] = []
    left: tuple[int, ...] | None = instance.numbers
    for step in steps:
        expression = answer_of(step)
        if expression is not None:
            labels.append(check_answer(instance, expression))
            continue
        left = None if left is None else _follow(left, step.strip())
        labels.append(left is not None and reachable(left, instance.target))
    return tuple(labels)


def _follow(left: tuple[int, ...], step: str) -> tuple[int, ...] | None:
    """Return the values left after a step as text, or None where the step is not valid."""
    match = _STEP.fullmatch(step)
    if match is None:
        return None
    move = Move(int(match[1]), match[2], int(match[3]), int(match[4]))
    if apply(move.left, move.operator, move.right) != move.result:
        return None
    if not 1 <= move.result <= LARGEST_INTERMEDIATE:
        return None
    try:
        remaining = after(left, move)
    except ValueError:
        return None
    return remaining if sorted(remaining) == sorted(_integers(match[5])) else None
