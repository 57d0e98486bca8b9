"""The sizes of a network, as its ONNX file tells them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a Llama-architecture network.

    `head` is "language" (logits over the vocabulary) or "classes" (logits over labels), of which there are `outputs`.
    """

    head: str
    layers: int
    hidden: int
    feed_forward: int
    query_heads: int
    key_heads: int
    head_size: int
    vocabulary: int
    outputs: int
    context: int
    epsilon: float
    rope_base: float
    end_tokens: tuple[int, ...]
    parameters: int

    def to_json(self) -> str:
        """Write it for the file's metadata."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Shape:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        return cls(**fields | {"end_tokens": tuple(fields["end_tokens"])})
