"""Several engines as one generator or one scorer."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tts.affinity import caller
from tts.backends.routing import LIMIT, SPILL, WATCH, Pool
from tts.backends.vllm_server import VLLMServer
from tts.protocols import Generator, Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tts.capabilities import Capabilities, ScorerCapabilities
    from tts.protocols import GenerationRequest, Sink
    from tts.types import Message, Prompt

F = TypeVar("F")


class GeneratorPool(Pool[Generator]):
    """Several generators of one model as one; see `Pool` for which of them a request goes to.

    With seeds, what is drawn does not hang on the replica, as far as their engines calculate alike: a replica of
    another kind of accelerator may round otherwise.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What every replica can do; the fingerprint says how many there are.

        Raises:
            BackendError: They have not been asked.
        """
        return cast("Capabilities", self._joint())

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        """Render a conversation with the chat template.

        Raises:
            TTSError: As the replica does, or as `generate`.
        """
        key = caller().problem or "".join(message.content for message in messages)
        return await self._call(key, 0, lambda generator: generator.encode(messages))

    async def tokenize(self, text: str) -> Sequence[int]:
        """Return the token ids of `text` as part of a path; raises as `encode` does."""
        return await self._call(caller().problem or text, 0, lambda generator: generator.tokenize(text))

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        """Draw the children of one path on one replica, in as many places as there are children.

        Raises:
            TransientError: A fault that may pass; `at_once` if another replica is there. Children that were delivered
                stay delivered.
            EngineDeadError: The engines of all replicas are dead.
            TTSError: As the replica does.
        """
        key = caller().problem or request.prompt.text or str(request.prompt.token_ids)
        await self._call(key, request.count, lambda generator: generator.generate(request, sink))


class ScorerPool(Pool[Scorer]):
    """Several scorers of one model as one; see `Pool` for which of them a request goes to."""

    @property
    def capabilities(self) -> ScorerCapabilities:
        """What every replica can do; the fingerprint says how many there are.

        Raises:
            BackendError: They have not been asked.
        """
        return cast("ScorerCapabilities", self._joint())

    async def encode(self, messages: Sequence[Message]) -> Sequence[int]:
        """Render a conversation into token ids.

        Raises:
            TTSError: As the replica does, or as `probabilities`.
        """
        key = caller().problem or "".join(message.content for message in messages)
        return await self._call(key, 0, lambda scorer: scorer.encode(messages))

    async def tokenize(self, text: str) -> Sequence[int]:
        """Return the token ids of `text`; raises as `encode` does."""
        return await self._call(caller().problem or text, 0, lambda scorer: scorer.tokenize(text))

    async def probabilities(
        self,
        sequences: Sequence[Sequence[int]],
        positions: Sequence[Sequence[int]],
        *,
        labels: Sequence[int] | None = None,
    ) -> Sequence[Sequence[Sequence[float]]]:
        """Return probabilities, all from one replica, in as many places as there are sequences.

        Raises:
            TransientError: A fault that may pass; `at_once` if another replica is there.
            EngineDeadError: The engines of all replicas are dead.
            TTSError: As the replica does.
        """
        if not sequences:
            return []
        key = caller().problem or str(sequences[0])
        return await self._call(
            key, len(sequences), lambda scorer: scorer.probabilities(sequences, positions, labels=labels)
        )


def _with_options_of(kind: type) -> Callable[[F], F]:
    """Show the options that a factory passes on as its own, so that they are checked by name."""

    def sign(factory: F) -> F:
        own = list(inspect.signature(cast("Any", factory)).parameters.values())[:-1]
        theirs = list(inspect.signature(kind).parameters.values())[1:]
        named = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in theirs]
        setattr(factory, "__signature__", inspect.Signature([*own, *named]))  # noqa: B010 (functions declare none)
        return factory

    return sign


@_with_options_of(VLLMServer)
def pool_of_servers(
    urls: str, *, limit: int = LIMIT, spill: float = SPILL, watch: float = WATCH, **options: Any
) -> GeneratorPool:
    """Join vLLM servers into one generator; `pool:URL,URL,...` in the registry.

    Args:
        urls: Where they are, with commas between.
        limit: See `Pool`, as for the next two.
        spill: How deep a queue may get.
        watch: Seconds between two looks.
        options: Those of each `VLLMServer`.

    Raises:
        ParameterError: There is no URL, one is none, or one comes twice.
    """
    return GeneratorPool(
        [VLLMServer(url, **options) for url in split_urls(urls)], limit=limit, spill=spill, watch=watch
    )


def split_urls(urls: str) -> list[str]:
    """Return the URLs of a text with commas between them."""
    return [url.strip() for url in urls.split(",") if url.strip()]
