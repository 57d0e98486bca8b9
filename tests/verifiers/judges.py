"""Verifiers that say what they are told to, for tests of what is made of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tts.capabilities import VerifierCapabilities
from tts.errors import BackendError
from tts.protocols import Path, PathScore
from tts.types import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

QUESTION = (Message(role="user", content="What is 7 times 8?"),)
ABLE = VerifierCapabilities(name="judge", steps=False, dollars_per_token=0.0, flops_per_token=0.0)


@dataclass
class Judge:
    """Gives each path the value that its text says, or each step; notes what it was asked."""

    value: Callable[[str], float] = lambda text: float(text)
    able: VerifierCapabilities = ABLE
    fault: Exception | None = None
    broken: Exception | None = None
    tokens: int = 10
    calls: int = 1
    closed: bool = False

    def __post_init__(self) -> None:
        self.seen: list[list[Path]] = []

    @property
    def capabilities(self) -> VerifierCapabilities:
        return self.able

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        self.seen.append(list(paths))
        if self.fault is not None:
            raise self.fault
        return [PathScore(self._values(path), self.tokens, self.calls) for path in paths]

    def _values(self, path: Path) -> list[float]:
        return [self.value(text) for text in (path.steps if self.able.steps else ("".join(path.steps),))]

    async def aclose(self) -> None:
        self.closed = True
        if self.broken is not None:
            raise self.broken


@dataclass
class Served(Judge):
    """Does not know what it is before it has been asked."""

    connected: int = 0

    async def connect(self) -> None:
        self.connected += 1

    @property
    def capabilities(self) -> VerifierCapabilities:
        if not self.connected:
            raise BackendError("not connected")
        return self.able


def says(*values: float, able: VerifierCapabilities = ABLE, **settings: Any) -> Judge:
    """Return a judge that gives these values, by the text's first letter as a number."""
    return Judge(lambda text: values[int(text[0])], able, **settings)


def paths(count: int) -> list[Path]:
    return [Path(QUESTION, (str(place),), True) for place in range(count)]
