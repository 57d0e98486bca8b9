"""A model folder with its network and its language loaded: what generator and scorer have in common."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

from tts.backends.embedded.cache import PrefixCache
from tts.backends.embedded.network import Network
from tts.backends.language import Language
from tts.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.backends.embedded.folder import Folder


class Loaded:
    """A loaded model."""

    def __init__(self, folder: Folder, template: str | None, threads: int) -> None:
        self.folder = folder
        self.network = Network(folder.network, at_least("threads", threads, 1))
        self.language = Language(folder.path, template)
        self._threads = threads

    @cached_property
    def fingerprint(self) -> dict[str, str | int | float | bool | None]:
        """Facts that identify weights, tokenizer, template and engine."""
        return {
            "engine": self.network.runtime,
            "threads": self._threads,
            "network": self.folder.digest("model.onnx"),
            "tokenizer": self.folder.digest("tokenizer.json"),
            "template": hashlib.sha256(self.language.template.encode()).hexdigest(),
            "dtype": "float32",
            "batch_invariant": self.network.independent,
        }

    def cache(self, limit: int) -> PrefixCache:
        """Make a prefix cache of at most `limit` bytes for this network."""
        shape = self.network.shape
        sizes = 2 * shape.layers, shape.key_heads, shape.head_size
        return PrefixCache(sizes, at_least("cache_bytes", limit, 0))

    def check_tokens(self, tokens: Sequence[int]) -> None:
        """Check that a sequence can be read.

        Raises:
            ParameterError: It is empty, longer than the context, or has a token that is not in the vocabulary.
        """
        shape = self.network.shape
        name, lowest, highest = self.folder.name, min(tokens, default=0), max(tokens, default=0)
        if not 1 <= len(tokens) <= shape.context:
            raise ParameterError(f"a sequence has {len(tokens)} tokens; {name} reads 1 to {shape.context}")
        if not 0 <= lowest <= highest < shape.vocabulary:
            raise ParameterError(f"token ids lie in {lowest} to {highest}; {name} knows {shape.vocabulary}")


def at_least(name: str, value: int, least: int) -> int:
    """Return a number that is not too small.

    Raises:
        ParameterError: It is.
    """
    if value < least:
        raise ParameterError(f"{name} is {value}; it is at least {least}")
    return value
