"""The policy's training text: solutions, and honest dead ends.

A policy trained on solutions alone writes `= target` in its last step whatever the arithmetic says. So a share of the
examples follows random moves, most of which lose the target, and ends with the nearest miss, stated as it is. In these
the choice of a move that loses the target is not learned; its arithmetic, and everything after it, is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np

from tts.backends.embedded.training import vocabulary
from tts.backends.embedded.training.rows import Rows
from tts.benchmarks.tasks.countdown import (
    Instance,
    Move,
    Path,
    after,
    draw_solution,
    moves,
    question,
    reachable,
    solution_text,
    training_instances,
)

LONGEST_EXAMPLE = 64
_SEPARATOR = " = "


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of an example, and whether the policy learns to write it."""

    text: str
    learned: bool


def random_path(instance: Instance, rng: Random) -> Path:
    """Return random moves, the last of which comes as near to the target as it can."""
    path: list[Move] = []
    left = instance.numbers
    while len(left) > 1:
        choices = moves(left)
        if len(left) == 2:
            path.append(min(choices, key=lambda move: abs(move.result - instance.target)))
        else:
            path.append(rng.choice(choices))
        left = after(left, path[-1])
    return tuple(path)


def segments(instance: Instance, path: Path) -> Iterator[Segment]:
    """Yield an example; the operands of a needless mistake are not learned."""
    yield Segment(question(instance) + "\n", learned=False)
    *steps, answer = solution_text(instance, path)
    left = instance.numbers
    for move, step in zip(path, steps, strict=True):
        left = after(left, move)
        choice, result = step.split(_SEPARATOR)
        yield Segment(choice, learned=len(left) == 1 or reachable(left, instance.target))
        yield Segment(_SEPARATOR + result, learned=True)
    yield Segment(answer, learned=True)
    yield Segment(vocabulary.END, learned=True)


def build(count: int, random_share: float, seed: int) -> Rows:
    """Return examples; a mark of 1 is on every token that is learned, and 0 on the others."""
    rng = Random(seed)
    tokenizer = vocabulary.build_tokenizer()
    tokens = np.full((count, LONGEST_EXAMPLE), vocabulary.PADDING_ID, np.uint16)
    learned = np.zeros((count, LONGEST_EXAMPLE), np.uint16)
    for row, instance in zip(range(count), training_instances(rng), strict=False):
        draw = random_path if rng.random() < random_share else draw_solution
        position = 0
        for segment in segments(instance, draw(instance, rng)):
            ids = tokenizer.encode(segment.text).ids
            tokens[row, position : position + len(ids)] = ids
            learned[row, position : position + len(ids)] = segment.learned
            position += len(ids)
    return Rows(tokens, learned)
