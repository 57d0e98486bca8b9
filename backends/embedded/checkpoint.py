"""Reads a small Llama-architecture checkpoint in the Hugging Face layout: config.json beside model.safetensors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tts.backends.embedded.shape import Shape
from tts.errors import ParameterError

if TYPE_CHECKING:
    from pathlib import Path

    from tts.backends.embedded.arrays import Floats

    Weights = dict[str, Floats]

HEADS = {"LlamaForCausalLM": "language", "LlamaForTokenClassification": "classes"}
"""What the last layer says, by architecture."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network as it was trained; `digest` is the SHA-256 of its weights file."""

    shape: Shape
    weights: Weights
    digest: str


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        ParameterError: The folder holds another architecture, or a variant that the exporter does not know.
    """
    config = _read_json(folder / "config.json")
    _refuse_variants(config)
    path = folder / "model.safetensors"
    if not path.exists():
        raise ParameterError(f"there is no {path}; checkpoints in several files are not read")
    data = path.read_bytes()
    weights = _read_safetensors(data)
    return Checkpoint(_shape(folder, config, weights), weights, hashlib.sha256(data).hexdigest())


def _read_json(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def _refuse_variants(config: dict[str, Any]) -> None:
    architectures = config.get("architectures") or []
    if not any(name in HEADS for name in architectures):
        raise ParameterError(f"cannot export {architectures}: the exporter knows {', '.join(HEADS)}")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    expected = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
    wrong = {name: config[name] for name, value in expected.items() if config.get(name, value) != value}
    if kind != "default":
        wrong["rope_type"] = kind
    if wrong:
        raise ParameterError(f"cannot export a Llama variant with {wrong}")


def _shape(folder: Path, config: dict[str, Any], weights: Weights) -> Shape:
    head = next(HEADS[name] for name in config["architectures"] if name in HEADS)
    rope = config.get("rope_parameters") or {}
    return Shape(
        head=head,
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        feed_forward=config["intermediate_size"],
        query_heads=config["num_attention_heads"],
        key_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
        head_size=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        vocabulary=config["vocab_size"],
        outputs=config["vocab_size"] if head == "language" else len(weights["score.weight"]),
        context=config["max_position_embeddings"],
        epsilon=config["rms_norm_eps"],
        rope_base=rope.get("rope_theta") or config.get("rope_theta") or 10000.0,
        end_tokens=_end_tokens(folder, config),
        parameters=sum(array.size for array in weights.values()),
    )


def _end_tokens(folder: Path, config: dict[str, Any]) -> tuple[int, ...]:
    """The generation config overrules the model config, as it does in transformers."""
    path = folder / "generation_config.json"
    generation = _read_json(path) if path.exists() else {}
    found = generation.get("eos_token_id", config.get("eos_token_id"))
    if found is None:
        return ()
    return tuple(found) if isinstance(found, list) else (found,)


def _read_safetensors(data: bytes) -> Weights:
    """The format is an 8-byte length, a JSON header of that length, and raw little-endian arrays."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    body = memoryview(data)[8 + length :]
    return {name: _array(entry, body) for name, entry in header.items() if name != "__metadata__"}


def _array(entry: dict[str, Any], body: memoryview) -> Floats:
    start, stop = entry["data_offsets"]
    raw = body[start:stop]
    kinds = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
    if entry["dtype"] == "BF16":
        array = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif entry["dtype"] in kinds:
        array = np.frombuffer(raw, kinds[entry["dtype"]]).astype(np.float32)
    else:
        raise ParameterError(f"cannot export weights of type {entry['dtype']}")
    return array.reshape(entry["shape"])
