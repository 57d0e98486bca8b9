"""Token ids with a mark on each: the form of all training data."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tts.backends.embedded.training import vocabulary

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Rows:
    """Two arrays of one shape, a row per example; what a mark means is said where the rows are built."""

    tokens: NDArray[np.uint16]
    marks: NDArray[np.uint16]

    def save(self, file: Path) -> None:
        """Write the rows so that a file that exists is complete."""
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, tokens=self.tokens, marks=self.marks)
        partial.rename(file)

    @classmethod
    def load(cls, file: Path) -> "Rows":
        """Read rows back."""
        with np.load(file) as stored:
            return cls(stored["tokens"], stored["marks"])

    def batches(self, size: int, seed: int) -> Iterator[Batch]:
        """Yield shuffled batches without end, each cut to its longest row."""
        generator = np.random.default_rng(seed)
        while True:
            order = generator.permutation(len(self.tokens))
            for start in range(0, len(order) - size + 1, size):
                chosen = order[start : start + size]
                longest = int((self.tokens[chosen] != vocabulary.PADDING_ID).sum(1).max())
                cut = (array[chosen, :longest].astype(np.int64) for array in (self.tokens, self.marks))
                tokens, marks = map(torch.from_numpy, cut)
                yield tokens, marks
