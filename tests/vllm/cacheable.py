"""What a prefix cache of whole blocks can hold of the requests that come, so that its counters have a measure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.vllm.served import BLOCK
from tts.protocols import connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.capabilities import Capabilities
    from tts.protocols import GenerationRequest, Generator, Sink
    from tts.types import Completion, Message, Prompt


def whole_blocks(tokens: int) -> int:
    """Tokens of a prompt that can come from the cache; its last token is always computed."""
    return (tokens - 1) // BLOCK * BLOCK


@dataclass
class Cacheable:
    """A generator on its way to another, which notes how much of each prompt the engine can have kept.

    Attributes:
        most: Prompt tokens of all children that are cached if the cache forgets nothing.
        least_told: The same of one child a request, the first, for which nothing may have been computed yet.
        most_told: The same of one child a request, another where there are several.
    """

    inner: Generator
    most: int = 0
    least_told: int = 0
    most_told: int = 0
    known: set[tuple[int, ...]] = field(default_factory=set)

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    async def connect(self) -> None:
        await connect(self.inner)

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        return await self.inner.encode(messages)

    async def tokenize(self, text: str) -> Sequence[int]:
        return await self.inner.tokenize(text)

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        path = (*request.prompt.token_ids, *request.token_ids)
        whole = whole_blocks(len(path))
        kept = self._kept(path, whole)
        self._learn(path)
        self.most += kept + (request.count - 1) * whole
        self.least_told += kept
        self.most_told += kept if request.count == 1 else whole
        await self.inner.generate(request, _Learning(self, path, sink))

    def _kept(self, path: tuple[int, ...], whole: int) -> int:
        ends = range(BLOCK, whole + 1, BLOCK)
        return next((end - BLOCK for end in ends if path[:end] not in self.known), whole)

    def _learn(self, path: tuple[int, ...]) -> None:
        self.known.update(path[:end] for end in range(BLOCK, len(path) + 1, BLOCK))

    def finished(self, path: tuple[int, ...], completion: Completion) -> None:
        """Note that a child's blocks are there; that of its last token was never computed."""
        self._learn((*path, *(completion.token_ids or ())[:-1]))


class _Learning:
    def __init__(self, watch: Cacheable, path: tuple[int, ...], sink: Sink) -> None:
        self._watch = watch
        self._path = path
        self._sink = sink

    def prompt(self, *, cached: int, computed: int) -> None:
        self._sink.prompt(cached=cached, computed=computed)

    def progress(self, index: int, tokens: int) -> None:
        self._sink.progress(index, tokens)

    def finish(self, index: int, completion: Completion) -> None:
        self._watch.finished(self._path, completion)
        self._sink.finish(index, completion)
