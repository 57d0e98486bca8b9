"""The scorer: class probabilities, or those of some next tokens, from a small model in this process."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tts.backends.embedded.folder import find_folder
from tts.backends.embedded.loaded import Loaded, at_least
from tts.backends.embedded.readers import Posed, Readers
from tts.backends.worker import Worker
from tts.capabilities import ScorerCapabilities
from tts.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tts.backends.embedded.arrays import Floats
    from tts.types import Message


class EmbeddedScorer:
    """Scores token sequences with a small Llama-architecture model in this process.

    A model that classifies tokens gives probabilities over its classes; a language model gives them over the `labels`
    that are asked for. Sequences of concurrent callers are read together, and the result for one does not depend on the
    others.
    """

    def __init__(
        self,
        model: str | Path = "arithmetic-prm",
        *,
        template: str | None = None,
        threads: int = 1,
        rows: int = 16,
        cache_bytes: int = 64 * 2**20,
    ) -> None:
        """Load a model.

        Args:
            model: A bundled model's name, or a folder that `tts.backends.embedded.export` has written into.
            template: A chat template (Jinja) instead of the folder's own.
            threads: Threads of one pass.
            rows: Sequences in one pass, at most; others wait.
            cache_bytes: Memory for keys and values of prefixes; 0 for none.

        Raises:
            UnknownNameError: There is no such model.
            ParameterError: A number is out of range, or the folder has not been exported.
            MissingExtraError: The extra "embedded" is not installed.
        """
        self._loaded = Loaded(find_folder(model), template, threads)
        readers = Readers(self._loaded.network, self._loaded.cache(cache_bytes), at_least("rows", rows, 1))
        self._worker: Worker[Posed] = Worker(self._loaded.folder.name, readers)

    @cached_property
    def capabilities(self) -> ScorerCapabilities:
        """What it can do."""
        shape = self._loaded.network.shape
        return ScorerCapabilities(
            name=self._loaded.folder.name,
            classes=shape.outputs if shape.head == "classes" else 0,
            context=shape.context,
            flops_per_token=2.0 * shape.parameters,
            fingerprint=self._loaded.fingerprint,
            labels=shape.head != "classes",
            local=True,
        )

    async def encode(self, messages: Sequence[Message]) -> Sequence[int]:
        """Render a conversation into token ids.

        Raises:
            ProblemError: It has a piece that the model does not know.
        """
        return self._loaded.language.tokenize(self._loaded.language.render(messages))

    async def tokenize(self, text: str) -> Sequence[int]:
        """Return the token ids of `text`; what a model wrote is never refused, two numbers run together included."""
        return self._loaded.language.read(text)

    async def probabilities(
        self,
        sequences: Sequence[Sequence[int]],
        positions: Sequence[Sequence[int]],
        *,
        labels: Sequence[int] | None = None,
    ) -> Sequence[Sequence[Sequence[float]]]:
        """Return probabilities at each asked position of each sequence: of classes, or of `labels` as next tokens.

        Raises:
            ParameterError: A sequence, position or label is out of range, or the model does not give what is asked for.
            EngineDeadError: The engine failed, or was closed.
        """
        self._check(sequences, positions, labels)
        asked = [index for index, places in enumerate(positions) if places]
        outputs = self._loaded.network.shape.outputs
        posed = Posed([list(sequences[index]) for index in asked], [positions[index] for index in asked], outputs)
        if asked:
            await self._worker.run(posed)
        found = dict(zip(asked, posed.logits, strict=True))
        return [_chances(found[index], labels) if index in found else [] for index in range(len(sequences))]

    async def aclose(self) -> None:
        """Fail what is running and end the engine's thread."""
        await self._worker.aclose()

    def _check(
        self, sequences: Sequence[Sequence[int]], positions: Sequence[Sequence[int]], labels: Sequence[int] | None
    ) -> None:
        name, shape = self._loaded.folder.name, self._loaded.network.shape
        if len(sequences) != len(positions):
            raise ParameterError(f"{len(sequences)} sequences, but positions for {len(positions)}")
        if (labels is None) != (shape.head == "classes"):
            wanted = "classes, and takes no labels" if shape.head == "classes" else "next tokens: give labels"
            raise ParameterError(f"{name} gives probabilities of {wanted}")
        if labels is not None and not (labels and 0 <= min(labels) <= max(labels) < shape.outputs):
            raise ParameterError(f"labels {list(labels)} are not token ids below {shape.outputs}")
        for sequence, places in zip(sequences, positions, strict=True):
            self._loaded.check_tokens(sequence)
            if places and not 0 <= min(places) <= max(places) < len(sequence):
                raise ParameterError(f"positions {list(places)} do not lie in a sequence of {len(sequence)} tokens")


def _chances(logits: Floats, labels: Sequence[int] | None) -> list[list[float]]:
    wanted = (logits if labels is None else logits[:, list(labels)]).astype(np.float64)
    weights = np.exp(wanted - wanted.max(axis=1, keepdims=True))
    chances: list[list[float]] = (weights / weights.sum(axis=1, keepdims=True)).tolist()
    return chances
