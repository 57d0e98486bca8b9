"""The generator: a small model in this process, on the CPU."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from tts.backends.embedded.batch import Batch
from tts.backends.embedded.children import Asked
from tts.backends.embedded.folder import find_folder
from tts.backends.embedded.loaded import Loaded, at_least
from tts.backends.worker import Worker
from tts.capabilities import Capabilities
from tts.errors import ParameterError, ProblemError
from tts.protocols import SEED_BLOCK
from tts.types import Prompt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tts.protocols import GenerationRequest, Sink
    from tts.types import Message


class EmbeddedGenerator:
    """Draws text from a small Llama-architecture model in this process.

    Requests are batched as they come. A child's tokens depend on its prompt, path, seed and sampling alone: they are
    the same alone and in any batch, with a cold and a warm prefix cache, and with any number of threads. One generator
    serves several event loops, also at the same time.

    A request's prompt is reported once, however many children share it.
    """

    def __init__(
        self,
        model: str | Path = "arithmetic-policy",
        *,
        template: str | None = None,
        threads: int = 1,
        rows: int = 64,
        cache_bytes: int = 64 * 2**20,
    ) -> None:
        """Load a model.

        Args:
            model: A bundled model's name, or a folder that `tts.backends.embedded.export` has written into.
            template: A chat template (Jinja) instead of the folder's own.
            threads: Threads of one step. More than one seldom pays for a small model.
            rows: Children in one batch, at most; others wait.
            cache_bytes: Memory for keys and values of prefixes; 0 for none.

        Raises:
            UnknownNameError: There is no such model.
            ParameterError: A number is out of range, or the folder holds no exported generator.
            MissingExtraError: The extra "embedded" is not installed.
        """
        self._loaded = Loaded(find_folder(model), template, threads)
        shape = self._loaded.network.shape
        if shape.head != "language":
            raise ParameterError(f"{self._loaded.folder.name} gives {shape.outputs} classes: it is a scorer")
        batch = Batch(self._loaded.network, self._loaded.cache(cache_bytes), at_least("rows", rows, 1))
        self._worker: Worker[Asked] = Worker(self._loaded.folder.name, batch)

    @cached_property
    def capabilities(self) -> Capabilities:
        """What it can do, with the suggestions of the model's folder."""
        loaded, facts = self._loaded, self._loaded.folder.json("tts.json")
        return Capabilities(
            name=loaded.folder.name,
            exact_cancellation=True,
            context=loaded.network.shape.context,
            max_tokens=facts.get("max_tokens"),
            step_tokens=facts.get("step_tokens"),
            system=facts.get("system"),
            task=facts.get("task"),
            flops_per_token=2.0 * loaded.network.shape.parameters,
            fingerprint=loaded.fingerprint,
        )

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        """Render a conversation with the chat template.

        Raises:
            ProblemError: It has a piece that the model does not know, or leaves no room in the context.
        """
        language, context = self._loaded.language, self._loaded.network.shape.context
        text = language.render(messages)
        tokens = language.tokenize(text)
        if not 0 < len(tokens) < context:
            raise ProblemError(f"the conversation has {len(tokens)} tokens; the model reads 1 to {context - 1}")
        return Prompt(tuple(messages), text, tuple(tokens))

    async def tokenize(self, text: str) -> Sequence[int]:
        """Return the token ids of `text`.

        Raises:
            ProblemError: It has a piece that the model does not know.
        """
        return self._loaded.language.tokenize(text)

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        """Draw the children of one path.

        Raises:
            ParameterError: The request is out of range, or does not fit into the context.
            EngineDeadError: The engine failed, or was closed.
        """
        asked = Asked(request, self._prefix(request), self._loaded.language, sink)
        try:
            await self._worker.run(asked)
        except BaseException:
            asked.tell_rest()
            raise

    async def aclose(self) -> None:
        """Fail what is running and end the engine's thread."""
        await self._worker.aclose()

    def _prefix(self, request: GenerationRequest) -> list[int]:
        """Return the tokens to continue, checked; they are made from the text where the request brings none."""
        language, context = self._loaded.language, self._loaded.network.shape.context
        if not 1 <= request.count <= SEED_BLOCK or request.max_tokens < 1:
            raise ParameterError(f"count={request.count}, max_tokens={request.max_tokens}: out of range")
        prompt = request.prompt.token_ids or language.tokenize(request.prompt.text)
        path = request.token_ids if len(request.token_ids) else language.tokenize(request.text)
        prefix = [*prompt, *path]
        self._loaded.check_tokens(prefix)
        if len(prefix) + request.max_tokens > context:
            parts = f"prompt {len(prompt)} + path {len(path)} + max_tokens {request.max_tokens}"
            raise ParameterError(f"{parts} is more than the {context} tokens that {self._loaded.folder.name} holds")
        return prefix
