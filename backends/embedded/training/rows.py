"""Training data of both models: token ids, what the policy learns to write, and what the reward model learns to say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tts.backends.embedded.training import vocabulary

BAD, GOOD = 0.0, 1.0
WIDTH = 128
"""Tokens of the longest row."""


class Batch(NamedTuple):
    """Some rows, cut to the longest of them; what they are is said in `Rows`."""

    tokens: NDArray[np.int64]
    learned: NDArray[np.bool_]
    labels: NDArray[np.float32]
    places: NDArray[np.int64]
    ids: NDArray[np.int64]
    shares: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Choices:
    """Where several continuations are right, in what shares.

    Attributes:
        places: Columns of the rows whose token is chosen; shape (choices,), the same for all rows.
        ids: Tokens to choose from; shape (rows, choices / 3, 3, options).
        shares: How often each is right; sums to one, or is zero throughout where nothing is to be learned.
    """

    places: NDArray[np.int64]
    ids: NDArray[np.int64]
    shares: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Examples of one kind, a row each.

    Attributes:
        tokens: Shape (rows, WIDTH), padded.
        learned: True where the policy learns to write the token as it stands; the same shape.
        labels: What the reward model learns to say at a token, 0 to 1; NaN where nothing. The same shape.
        places, ids, shares: What the policy learns where several tokens are right (`Choices`); empty for kinds without
            such places.
    """

    tokens: NDArray[np.uint16]
    learned: NDArray[np.bool_]
    labels: NDArray[np.float16]
    places: NDArray[np.int64]
    ids: NDArray[np.uint16]
    shares: NDArray[np.float16]

    @classmethod
    def of(
        cls,
        tokens: NDArray[np.uint16],
        learned: NDArray[np.bool_],
        labels: NDArray[np.float16],
        choices: Choices | None = None,
    ) -> "Rows":
        """Return rows with or without choices."""
        if choices is None:
            none = (len(tokens), 0, 3, 1)
            choices = Choices(np.zeros(0, np.int64), np.zeros(none, np.int64), np.zeros(none))
        return cls(
            tokens, learned, labels, choices.places, choices.ids.astype(np.uint16), choices.shares.astype(np.float16)
        )

    @classmethod
    def joined(cls, parts: "Sequence[Rows]") -> "Rows":
        """Return the rows of several of the same kind."""
        arrays: dict[str, Any] = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)
        }
        return cls(**arrays | {"places": parts[0].places})

    def first(self, count: int) -> "Rows":
        """Return the first rows."""
        arrays: dict[str, Any] = {field.name: getattr(self, field.name)[:count] for field in fields(self)}
        return Rows(**arrays | {"places": self.places})

    def save(self, file: Path) -> None:
        """Write the rows so that a file that exists is complete."""
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, **{field.name: getattr(self, field.name) for field in fields(self)})
        partial.rename(file)

    @classmethod
    def load(cls, file: Path) -> "Rows":
        """Read rows back."""
        with np.load(file) as stored:
            return cls(**{field.name: stored[field.name] for field in fields(cls)})

    def batch(self, chosen: NDArray[np.int64]) -> Batch:
        """Return some rows."""
        longest = int((self.tokens[chosen] != vocabulary.PADDING_ID).sum(1).max())
        return Batch(
            self.tokens[chosen, :longest].astype(np.int64),
            self.learned[chosen, :longest],
            self.labels[chosen, :longest].astype(np.float32),
            self.places,
            self.ids[chosen].astype(np.int64),
            self.shares[chosen].astype(np.float32),
        )

    def batches(self, size: int, seed: int) -> Iterator[Batch]:
        """Yield shuffled batches without end.

        Raises:
            ValueError: There are fewer rows than a batch takes.
        """
        if size > len(self.tokens):
            raise ValueError(f"a batch of {size} from {len(self.tokens)} rows: make more of them")
        generator = np.random.default_rng(seed)
        while True:
            order = generator.permutation(len(self.tokens))
            for start in range(0, len(order) - size + 1, size):
                yield self.batch(order[start : start + size])


def padded(rows: Sequence[Sequence[int]]) -> NDArray[np.uint16]:
    """Return rows of tokens of one width."""
    tokens = np.full((len(rows), WIDTH), vocabulary.PADDING_ID, np.uint16)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    return tokens
