"""The network in onnxruntime: sessions, and rows of key-value memory that it reads and writes in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tts.backends.embedded.shape import Shape
from tts.backends.optional import need
from tts.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tts.backends.embedded.arrays import Floats, Integers

READ_AT_ONCE = 512
"""Tokens in one forward pass over prompts, at most, so that its memory is bounded."""

PLACES = 64
"""Key-value memory grows by so many places (a multiple of any vector), so that short rows pay for short attention."""

CPU = "cpu", 0


class Network:
    """A loaded ONNX file.

    Attributes:
        shape: Its sizes.
        independent: A row's result is bitwise the same in every batch, on this machine. If a trial at loading finds
            that it is not, tokens are computed one by one, which is slow and always true.
    """

    def __init__(self, path: Path, threads: int) -> None:
        runtime = need("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session: Any = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        metadata = self.session.get_modelmeta().custom_metadata_map
        if "shape" not in metadata:
            raise ParameterError(f"{path} was not written by tts.backends.embedded.export")
        self.shape = Shape.from_json(metadata["shape"])
        self.runtime = f"onnxruntime {runtime.__version__}"
        self.independent = True
        self.independent = is_independent(self)


@dataclass(frozen=True, slots=True)
class Reading:
    """Tokens to read into a row from place `start` on; logits are wanted `at` some of them, counted from `start`."""

    start: int
    tokens: Sequence[int]
    at: Sequence[int]


class Lanes:
    """Rows of key-value memory and the network's pass over the first so many of them.

    `memory` is [two per layer, row, key head, 1, place, size]; a run of rows is one block in it for each layer, so it
    is bound as it lies, and nothing is copied in a step but the keys and values of the new tokens. There are as many
    places as the longest row has needed.
    """

    def __init__(self, network: Network, rows: int) -> None:
        shape = network.shape
        self.network = network
        self.rows = rows
        self.memory = self._allocate(PLACES if network.independent else shape.context)
        self._names = [f"{kind}.{layer}" for layer in range(shape.layers) for kind in ("keys", "values")]
        self._bound: tuple[int, ...] = ()

    @property
    def places(self) -> int:
        """How long a row may be without the memory being moved."""
        return int(self.memory.shape[4])

    def clear(self) -> None:
        """Forget all rows, and give back what long ones needed."""
        if self.network.independent and self.places > PLACES:
            self.memory = self._allocate(PLACES)
            self._bound = ()

    def load(self, row: int, count: int, states: Floats, start: int = 0) -> None:
        """Copy keys and values [place, two per layer, key head, size] into some rows, from place `start` on."""
        self._reserve(start + len(states))
        lain = states.transpose(1, 2, 0, 3)[:, None]
        self.memory[:, row : row + count, :, 0, start : start + len(states)] = lain

    def save(self, row: int, start: int, stop: int) -> Floats:
        """Return a copy of a row's keys and values, as `load` takes them."""
        return np.ascontiguousarray(self.memory[:, row, :, 0, start:stop].transpose(2, 0, 1, 3))

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first places of a row onto another."""
        self.memory[:, target, :, :, :length] = self.memory[:, source, :, :, :length]

    def read(self, readings: Sequence[Reading]) -> Floats:
        """Read ragged rows, the first into row 0; returns the wanted logits, reading by reading."""
        longest = max(len(reading.tokens) for reading in readings)
        width = max(1, READ_AT_ONCE // len(readings))
        wanted = [(row, at) for row, reading in enumerate(readings) for at in reading.at]
        logits = np.empty((len(wanted), self.network.shape.outputs), np.float32)
        for begin in range(0, longest, width):
            end = min(begin + width, longest)
            now = [(number, row, at) for number, (row, at) in enumerate(wanted) if begin <= at < end]
            places = np.array([row * (end - begin) + at - begin for _, row, at in now], np.int64)
            logits[[number for number, _, _ in now]] = self.step(*_columns(readings, begin, end), places)
        return logits

    def step(self, tokens: Integers, positions: Integers, places: Integers | None = None) -> Floats:
        """Read tokens [row, length] into the first rows; returns logits at flat `places`, or at all of them.

        What is returned is overwritten by the next call.
        """
        places = np.arange(tokens.size) if places is None else places
        self._reserve(int(positions.max()) + 1)
        if self.network.independent:
            return self._run(0, tokens, positions, places)
        return self._run_singly(tokens, positions)[places]

    def _allocate(self, places: int) -> Floats:
        """Zeros, because what is masked must still be finite."""
        shape = self.network.shape
        return np.zeros((2 * shape.layers, self.rows, shape.key_heads, 1, places, shape.head_size), np.float32)

    def _reserve(self, places: int) -> None:
        """Move the rows to more memory if one becomes longer than there are places."""
        if places > self.places:
            rows, self.memory = self.memory, self._allocate(-(-places // PLACES) * PLACES)
            self.memory[..., : rows.shape[4], :] = rows
            self._bound = ()

    def _run(self, first: int, tokens: Integers, positions: Integers, places: Integers) -> Floats:
        self._bind(first, tokens.shape, len(places))
        self._tokens[...] = tokens
        self._positions[...] = positions
        self._places[...] = places
        self.network.session.run_with_iobinding(self._binding)
        return self._logits

    def _run_singly(self, tokens: Integers, positions: Integers) -> Floats:
        one = np.zeros(1, np.int64)
        rows = [
            self._run(row, tokens[row : row + 1, [column]], positions[row : row + 1, [column]], one).copy()
            for row in range(tokens.shape[0])
            for column in range(tokens.shape[1])
        ]
        return np.concatenate(rows)

    def _bind(self, first: int, shape: tuple[int, ...], places: int) -> None:
        """Bind memory to the network, unless it is bound so already; a step of an unchanged batch binds nothing."""
        if self._bound == (first, *shape, places):
            return
        self._bound = (first, *shape, places)
        self._binding = self.network.session.io_binding()
        self._tokens, self._positions = np.empty(shape, np.int64), np.empty(shape, np.int64)
        self._places = np.empty(places, np.int64)
        for name, array in (("tokens", self._tokens), ("positions", self._positions), ("at", self._places)):
            self._binding.bind_input(name, *CPU, np.int64, array.shape, array.ctypes.data)
        for name, block in zip(self._names, self.memory[:, first : first + shape[0]], strict=True):
            self._binding.bind_input(name, *CPU, np.float32, block.shape, block.ctypes.data)
            self._binding.bind_output(f"new.{name}", *CPU, np.float32, block.shape, block.ctypes.data)
        self._logits = np.empty((places, self.network.shape.outputs), np.float32)
        self._binding.bind_output("logits", *CPU, np.float32, self._logits.shape, self._logits.ctypes.data)


def _columns(readings: Sequence[Reading], begin: int, end: int) -> tuple[Integers, Integers]:
    """Tokens and positions of some columns; a row that is shorter repeats its last token.

    A repeated token writes the same bytes to the same place, so no place needs to be kept for padding.
    """
    picks = [np.minimum(np.arange(begin, end), len(reading.tokens) - 1) for reading in readings]
    rows = list(zip(picks, readings, strict=True))
    tokens = np.stack([np.asarray(reading.tokens, np.int64)[pick] for pick, reading in rows])
    return tokens, np.stack([reading.start + pick for pick, reading in rows])


def is_independent(network: Network) -> bool:
    """Try whether rows read together give what they give alone, token by token and with more places."""
    shape = network.shape
    lengths = [min(length, shape.context) for length in (13, 1, 5, 8, 13)]
    rows = [np.arange(7 * row + 3, 7 * row + 3 + length) % shape.vocabulary for row, length in enumerate(lengths)]
    readings = [Reading(0, row.tolist(), range(len(row))) for row in rows]
    together = Lanes(network, len(rows)).read(readings)
    lane = Lanes(network, 1)
    lane.load(0, 1, lane.save(0, 0, 1), start=PLACES)
    alone = [
        lane.step(np.array([[token]]), np.array([[place]]))[0].copy()
        for reading in readings
        for place, token in enumerate(reading.tokens)
    ]
    return bool(np.array_equal(together, np.stack(alone)))
