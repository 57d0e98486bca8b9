"""A scripted language model that gives probabilities of labels, for tests of judges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tts.capabilities import ScorerCapabilities
from tts.errors import TransientError
from tts.protocols import Path
from tts.types import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tts.protocols import Verifier

QUESTION = (Message(role="system", content="Be brief."), Message(role="user", content="What is 7 times 8?"))
STEPS = ("7 times 8 is 49 plus 7.\n\n", "That is 56.\n\n", "The answer is \\boxed{56}")
LABELS = {text: 0x110000 + place for place, text in enumerate((" Yes", " No", "Yes", "No", "A", "B", " A", " B"))}
READS = ScorerCapabilities("judge", classes=0, context=8192, labels=True, dollars_per_token=0.5, flops_per_token=3.0)


def path(*steps: str, finished: bool = True) -> Path:
    """Return a path of these steps, or of the usual ones."""
    return Path(QUESTION, steps or STEPS, finished)


async def began(verifier: Verifier, paths: list[Path]) -> bool:
    """Whether the transient fault with which it fails says that something was begun."""
    with pytest.raises(TransientError) as caught:
        await verifier.score(paths)
    return caught.value.began


@dataclass
class FakeScorer:
    """A token a character, one a label; the first label's probability is a function of the text that was read."""

    value: Callable[[str], float] = lambda text: 0.75
    able: ScorerCapabilities = READS
    lost: int = 0
    fault: Exception | None = None
    seen: list[str] = field(default_factory=list)
    asked: list[Sequence[int] | None] = field(default_factory=list)
    rounds: int = 0
    closed: bool = False

    @property
    def capabilities(self) -> ScorerCapabilities:
        """As given."""
        return self.able

    async def encode(self, messages: Sequence[Message]) -> Sequence[int]:
        """Write the roles before the turns; the assistant's is next."""
        text = "".join(f"[{turn.role}]{turn.content}" for turn in messages) + "[assistant]"
        return list(map(ord, text))

    async def tokenize(self, text: str) -> Sequence[int]:
        """A token a character, but one for a label."""
        return [LABELS[text]] if text in LABELS else list(map(ord, text))

    async def probabilities(
        self,
        sequences: Sequence[Sequence[int]],
        positions: Sequence[Sequence[int]],
        *,
        labels: Sequence[int] | None = None,
    ) -> list[list[list[float]]]:
        """Judge the text up to each position."""
        if self.fault is not None:
            raise self.fault
        self.rounds += 1
        rows: list[list[list[float]]] = []
        for sequence, places in zip(sequences, positions, strict=True):
            texts = ["".join(map(chr, sequence[: place + 1])) for place in places]
            self.seen += texts
            self.asked.append(labels)
            values = [self.value(text) for text in texts]
            rows.append([[value, 1 - value] for value in values])
        return rows[self.lost :]

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True
