"""Word problems for both models to learn from: solutions in which a careless student slips now and then.

A slip is a wrong result, a wrong operation or a number taken from elsewhere; the steps after it go on from what it
made. The policy learns slips as it learns steps, so that it makes honest mistakes at about this rate; the reward model
learns to tell them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from random import Random
from typing import Any

import numpy as np

from tts.backends.embedded.training import vocabulary
from tts.backends.embedded.training.rows import Rows, padded
from tts.backends.embedded.training.vocabulary import encoded
from tts.benchmarks.tasks import words
from tts.benchmarks.tasks.countdown import STEP_END, answer_text
from tts.benchmarks.tasks.expressions import apply
from tts.benchmarks.tasks.words_routes import LARGEST_INTERMEDIATE, Step

_WRONG_RESULTS = (-10, -10, -10, -1, -1, 1, 1, 10, 10, 10)
_WRONG_OPERATORS = {"+": "-", "-": "+", "*": "+", "/": "-"}
_EQUATIONS, _LARGEST_FACTOR, _WRONG_SHARE, _FARTHEST = 12, 20, 0.3, 24
_KINDS = ("result", "result", "result", "operator", "operand")


def build_words(count: int, slips: float, seed: int) -> Rows:
    """Return attempts at word problems; what follows the question is learned, and every part is labelled.

    Args:
        count: how many, each at a problem of its own.
        slips: how often a step slips.
        seed: of problems and attempts.
    """
    rng = Random(seed)
    tokens, learned, labels = [], [], []
    for instance in islice(words.training_instances(rng), count):
        parts = texts(tuple(attempt(instance, slips, rng)))
        row, begin, ends = encoded(words.question(instance), parts)
        tokens.append(row)
        learned.append((begin, len(row)))
        labels.append(dict(zip(ends, words.label_steps(instance, parts), strict=True)))
    rows = padded(tokens)
    marks, said = np.zeros(rows.shape, bool), np.full(rows.shape, np.nan, np.float16)
    for index, (begin, end) in enumerate(learned):
        marks[index, begin:end] = True
        said[index, list(labels[index])] = list(labels[index].values())
    return Rows.of(rows, marks, said)


def attempt(instance: words.Instance, slips: float, rng: Random) -> Iterator[Step]:
    """Yield the steps of a route as a careless student takes it."""
    made: dict[int, int] = {}
    for step in words.draw_route(instance, rng):
        taken = _carried_on(step, made)
        if rng.random() < slips:
            taken = _slip(taken, instance, rng)
        if taken.result != step.result:
            made[step.result] = taken.result
        yield taken


def texts(steps: Sequence[Step]) -> list[str]:
    """Return an attempt as parts: its steps, and the answer that they come to."""
    written = [f"{step.left} {step.operator} {step.right} = {step.result}{STEP_END}" for step in steps]
    return [*written, answer_text(str(steps[-1].result))]


def _carried_on(step: Step, made: dict[int, int]) -> Step:
    """Return a step with the operands that were really made; where those do not fit, as it was meant."""
    left, right = made.get(step.left, step.left), made.get(step.right, step.right)
    result = apply(left, step.operator, right)
    return step if result is None or not _legal(result) else Step(left, step.operator, right, result)


def _slip(step: Step, instance: words.Instance, rng: Random) -> Step:
    """Return a step with a mistake; the same step where the mistake makes no sense."""
    kind = rng.choice(_KINDS)
    if kind == "result":
        wrong = replace(step, result=step.result + rng.choice(_WRONG_RESULTS))
        return wrong if _legal(wrong.result) else step
    if kind == "operator":
        operator, right = _WRONG_OPERATORS[step.operator], step.right
    else:
        operator, right = step.operator, rng.choice([number for event in instance.events for number in event.numbers])
    result = apply(step.left, operator, right)
    return step if result is None or not _legal(result) else Step(step.left, operator, right, result)


def _legal(result: int) -> bool:
    return 1 <= result <= LARGEST_INTERMEDIATE


def build_drills(count: int, seed: int) -> Rows:
    """Return lists of equations, each for itself; the results of right ones are learned, and each is labelled.

    Word problems hold few equations for their length; these teach what makes one right.
    """
    rng = np.random.default_rng(seed)
    shape = (count, _EQUATIONS)
    operator = rng.integers(0, 4, shape)
    larger, smaller = rng.integers(1, words.LARGEST_QUANTITY, (2, *shape))
    factor = rng.integers(1, _LARGEST_FACTOR + 1, shape)
    times = rng.integers(1, words.LARGEST_QUANTITY // factor + 1)
    total, part = np.maximum(larger, smaller) + 1, np.minimum(larger, smaller)
    product = factor * times
    swapped = rng.random(shape) < 0.5
    multiplied = np.where(swapped, times, factor), np.where(swapped, factor, times)
    left = np.choose(operator, [part, total, multiplied[0], product])
    right = np.choose(operator, [total - part, part, multiplied[1], factor])
    result = np.choose(operator, [total, total - part, product, times])
    wrong = rng.random(shape) < _WRONG_SHARE
    off = result + rng.integers(1, _FARTHEST + 1, shape) * rng.choice([-1, 1], shape)
    wrong &= (off >= 1) & (off <= LARGEST_INTERMEDIATE)
    said = np.where(wrong, off, result)
    signs = np.array([vocabulary.GLUE_IDS[f" {sign} "] for sign in "+-*/"])[operator]
    columns: list[Any] = [left, signs, right, vocabulary.GLUE_IDS[" = "], said, vocabulary.STEP_END_ID]
    spread = [np.broadcast_to(column, shape) for column in columns]
    for index in (0, 2, 4):
        spread[index] = spread[index] + vocabulary.FIRST_NUMBER_ID
    tokens = padded(np.stack(spread, 2).reshape(count, -1).tolist())
    learned = np.zeros(tokens.shape, bool)
    learned[:, 4 : 6 * _EQUATIONS : 6] = ~wrong
    labels = np.full(tokens.shape, np.nan, np.float16)
    labels[:, 5 : 6 * _EQUATIONS : 6] = ~wrong
    return Rows.of(tokens, learned, labels)
