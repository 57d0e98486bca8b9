"""Attempts at Countdown for both models to learn from, made in numpy: many walks side by side, every step labelled.

At each step a walk takes a move that leads to the target, in proportion to the ways that go on after it, or any legal
move. What the policy is to choose does not hang on which it was: its targets are the shares of all solutions that begin
with each number and operator, which says more than one solution drawn from them would.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tts.backends.embedded.training import vocabulary
from tts.backends.embedded.training.rows import BAD, GOOD, Choices, Rows, padded
from tts.backends.embedded.training.solver import OPERATORS, Positions, count, counts_after, pairs, results
from tts.benchmarks.tasks.countdown import (
    NUMBER_RANGE,
    TARGET_RANGE,
    Instance,
    Move,
    answer_text,
    is_held_out,
    path_expression,
)

STRAY_SHARE = 0.4
"""How often a step of a walk is any legal move rather than one towards the target."""
STUCK_SHARE = 0.25
"""How often the policy says that it is stuck where two numbers are left that do not make the target."""
_FAR_SHARE = 0.1
"""How often a stray last step is any move rather than the one that comes nearest to the target."""
_CHUNK = 300
_FAR = 10**9

Numbers = NDArray[np.int64] | NDArray[np.int32]


def draw_instances(rng: np.random.Generator, numbers: int, rows: int) -> tuple[Positions, Positions]:
    """Return numbers and targets made by random forward paths, none of them held out; about `rows` of them."""
    low, high = NUMBER_RANGE
    drawn = rng.integers(low, high + 1, (rows, numbers), dtype=np.int32)
    left = drawn
    while left.shape[1] > 1:
        left = np.take_along_axis(left, rng.random(left.shape).argsort(1), 1)
        made = results(left[:, 0], left[:, 1])
        chosen = ((made > 0) * rng.random(made.shape)).argmax(1)
        left = np.concatenate([left[:, 2:], np.take_along_axis(made, chosen[:, None], 1)], 1)
    target = left[:, 0]
    kept = (target >= TARGET_RANGE[0]) & (target <= TARGET_RANGE[1])
    kept[kept] = [not is_held_out(instance) for instance in _instances(drawn[kept], target[kept])]
    return drawn[kept], target[kept]


def build(numbers: int, rows: int, careless: float, seed: int) -> Rows:
    """Return attempts at problems.

    Args:
        numbers: of a problem.
        rows: how many attempts.
        careless: how often the policy is to take any legal move before the last one, a mistake that can be seen.
        seed: of problems and walks.
    """
    rng = np.random.default_rng(seed)
    chunks: list[Rows] = []
    while sum(len(chunk.tokens) for chunk in chunks) < rows:
        chunks.append(_Walks(rng, *draw_instances(rng, numbers, _CHUNK * 3), careless).rows())
    return Rows.joined(chunks).first(rows)


@dataclass
class _Walks:
    """Walks through problems of the same size, and the text that they write, a column of tokens at a time."""

    rng: np.random.Generator
    numbers: Positions
    target: Positions
    careless: float
    columns: list[Numbers] = field(default_factory=list)
    moves: list[tuple[Numbers, ...]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    alive: list[NDArray[np.bool_]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    ids: list[Numbers] = field(default_factory=list)
    shares: list[NDArray[np.float64]] = field(default_factory=list)

    def rows(self) -> Rows:
        """Write all: question, steps, answer."""
        self._glue("Use ")
        self._list(self.numbers, " to make ")
        self._number(self.target)
        self._glue(".\n")
        left = self.numbers
        while left.shape[1] > 1:
            left = self._step(left)
        return self._finish(*self._answers())

    def _step(self, left: Positions) -> Positions:
        """Choose a move for each walk, write it, and return what is left."""
        ways = np.stack([counts_after(left, self.target, *pair) for pair in pairs(left.shape[1])], 1)
        made = np.stack([results(left[:, first], left[:, second]) for first, second in pairs(left.shape[1])], 1)
        move = self._choose(left, ways, made)
        first, second = (np.array(places)[move // 4] for places in zip(*pairs(left.shape[1]), strict=True))
        row = np.arange(len(left))
        larger = np.maximum(left[row, first], left[row, second])
        smaller = np.minimum(left[row, first], left[row, second])
        result = made.reshape(len(left), -1)[row, move]
        self._teach(left, ways, made, larger, move % 4)
        kept = np.ones(left.shape, bool)
        kept[row, first] = kept[row, second] = False
        after = np.concatenate([left[kept].reshape(len(left), -1), result[:, None]], 1)
        self._write(larger, move % 4, smaller, result, after)
        self.alive.append(ways.reshape(len(left), -1)[row, move] > 0)
        return after

    def _choose(self, left: Positions, ways: Numbers, made: Positions) -> Numbers:
        """Return the number of a move for each walk: four times its pair, plus its operator."""
        rows = len(left)
        onward, legal = ways.reshape(rows, -1), made.reshape(rows, -1) > 0
        stray = (self.rng.random(rows) < STRAY_SHARE) | (onward.sum(1) == 0)
        aimless = legal
        if left.shape[1] == 2:
            near = self._near(made).reshape(rows, -1)
            aimless = np.where((self.rng.random(rows) < _FAR_SHARE)[:, None], legal, near)
        weights = np.where(stray[:, None], aimless, onward).astype(np.float64).cumsum(1)
        drawn: Numbers = (self.rng.random(rows)[:, None] * weights[:, -1:] < weights).argmax(1)
        return drawn

    def _near(self, made: Positions) -> NDArray[np.bool_]:
        """Tell which moves come nearest to the target."""
        distance = np.where(made > 0, np.abs(made - self.target[:, None, None]), _FAR)
        nearest: NDArray[np.bool_] = distance == distance.min((1, 2), keepdims=True)
        return nearest

    def _teach(self, left: Positions, ways: Numbers, made: Positions, larger: Numbers, operator: Numbers) -> None:
        """Note what share of the solutions writes each number first, then each operator, then each number."""
        rows, values = left.shape
        width = max(self.numbers.shape[1], 4)
        dead = ways.sum((1, 2)) == 0
        wanted = _mixed(ways, made > 0, self.careless)
        if values == 2:
            wanted = np.where(dead[:, None, None], self._near(made), ways)
        ids, shares = np.zeros((rows, 3, width), np.int64), np.zeros((rows, 3, width))
        firsts = np.stack([np.maximum(left[:, a], left[:, b]) for a, b in pairs(values)], 1)
        seconds = np.stack([np.minimum(left[:, a], left[:, b]) for a, b in pairs(values)], 1)
        begun = firsts == larger[:, None]
        chosen = np.take_along_axis(wanted, operator[:, None, None], 2)[..., 0] * begun
        ids[:, 0, :values] = ids[:, 2, :values] = vocabulary.FIRST_NUMBER_ID + left
        ids[:, 1, :4] = _OPERATOR_IDS
        shares[:, 1, :4] = (wanted * begun[..., None]).sum(1)
        for place in range(values):
            new = ~(left[:, :place] == left[:, place, None]).any(1)
            shares[:, 0, place] = new * (wanted.sum(2) * (firsts == left[:, place, None])).sum(1)
            shares[:, 2, place] = new * (chosen * (seconds == left[:, place, None])).sum(1)
        if values == 2:
            shares[dead, 0, left[dead].argmin(1)] = 0
            shares[dead, 0, left[dead].argmax(1)] = 1 - STUCK_SHARE
            ids[dead, 0, 2], shares[dead, 0, 2] = vocabulary.STUCK_ID, STUCK_SHARE
        total = shares.sum(2, keepdims=True)
        self.ids.append(ids)
        self.shares.append(shares / np.maximum(total, 1e-9))
        self.places += range(len(self.columns), len(self.columns) + 3)

    def _write(self, larger: Numbers, operator: Numbers, smaller: Numbers, result: Numbers, left: Positions) -> None:
        self._number(larger)
        self.columns.append(_OPERATOR_IDS[operator])
        self._number(smaller)
        self._glue(" = ")
        self._number(result)
        self._glue(" (left: ")
        self._list(left, ")")
        self._glue("\n\n")
        self.moves.append((larger, operator, smaller, result))
        self.ends.append(len(self.columns) - 1)

    def _answers(self) -> tuple[list[list[int]], NDArray[np.bool_]]:
        """Return the tokens that follow the last step, and who says that it is stuck instead of taking that step."""
        told = self.rng.random(len(self.numbers)) < STUCK_SHARE
        stuck = told & ~self._alive_before_last()
        texts = [
            vocabulary.STUCK if says else answer_text(path_expression(numbers.tolist(), path))
            for numbers, path, says in zip(self.numbers, self._paths(), stuck, strict=True)
        ]
        encoded = vocabulary.build_tokenizer().encode_batch([text + vocabulary.END for text in texts])
        return [entry.ids for entry in encoded], stuck

    def _alive_before_last(self) -> NDArray[np.bool_]:
        if len(self.alive) > 1:
            return self.alive[-2]
        return count(self.numbers, self.target) > 0

    def _paths(self) -> Iterator[tuple[Move, ...]]:
        steps = [np.stack(move, 1).tolist() for move in self.moves]
        for moves in zip(*steps, strict=True):
            yield tuple(Move(left, OPERATORS[operator], right, made) for left, operator, right, made in moves)

    def _finish(self, answers: list[list[int]], stuck: NDArray[np.bool_]) -> Rows:
        """Put the walks and their answers together, with what is learned of them."""
        body = np.stack(self.columns, 1)
        cut = np.where(stuck, self.ends[-2] + 1 if len(self.ends) > 1 else 2 * self.numbers.shape[1] + 3, body.shape[1])
        tokens = padded([[*row[:end], *answer] for row, end, answer in zip(body.tolist(), cut, answers, strict=True)])
        learned = tokens != vocabulary.PADDING_ID
        learned[:, : 2 * self.numbers.shape[1] + 3] = False
        learned[:, self.places] = False
        labels = np.full(tokens.shape, np.nan, np.float16)
        for end, alive in zip(self.ends, self.alive, strict=True):
            labels[:, end] = np.where(end < cut, np.where(alive, GOOD, BAD), np.nan)
        last = (tokens != vocabulary.PADDING_ID).sum(1) - 2
        labels[np.arange(len(tokens)), last] = np.where(stuck, np.nan, self.alive[-1])
        shares = np.stack(self.shares, 1)
        shares[stuck, -1, 1:] = 0
        return Rows.of(tokens, learned, labels, Choices(np.array(self.places), np.stack(self.ids, 1), shares))

    def _glue(self, text: str) -> None:
        self.columns.append(np.full(len(self.numbers), vocabulary.GLUE_IDS[text]))

    def _number(self, values: Numbers) -> None:
        self.columns.append(vocabulary.FIRST_NUMBER_ID + values)

    def _list(self, values: Positions, ending: str) -> None:
        for place, column in enumerate(values.T):
            self._number(column)
            self._glue(", " if place < values.shape[1] - 1 else ending)


_OPERATOR_IDS = np.array([vocabulary.GLUE_IDS[f" {operator} "] for operator in OPERATORS])


def _mixed(ways: Numbers, legal: NDArray[np.bool_], careless: float) -> NDArray[np.float64]:
    """Return how likely each move is to be: by its solutions, or at random, and only at random where there are none."""
    total = ways.sum((1, 2), keepdims=True)
    by_solutions = ways / np.maximum(total, 1)
    at_random = legal / legal.sum((1, 2), keepdims=True)
    mixed: NDArray[np.float64] = np.where(total > 0, (1 - careless) * by_solutions + careless * at_random, at_random)
    return mixed


def _instances(numbers: Positions, target: Positions) -> list[Instance]:
    return [Instance(tuple(row), goal) for row, goal in zip(numbers.tolist(), target.tolist(), strict=True)]
