"""Small random checkpoints, exported as a user would, and a sink that notes what it is told."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from tts.backends.embedded import EmbeddedGenerator
from tts.backends.embedded.export import export
from tts.protocols import GenerationRequest
from tts.types import Completion, Prompt, Sampling

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SPECIAL = ["<pad>", "<eos>", "<unk>"]
PIECES = [*map(str, range(40)), " + ", " = ", ", ", "\n", "Use ", " to make ", "."]
CONTEXT = 144
CONFIG: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "vocab_size": 50,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "eos_token_id": 1,
}
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "{{ m.content }}{% if m.role == 'user' %}{{ '\\n' }}{% endif %}{% endfor %}"
)


@dataclass
class Recorder:
    """A sink that keeps everything."""

    finished: dict[int, Completion] = field(default_factory=dict)
    told: dict[int, int] = field(default_factory=dict)
    read: tuple[int, int] | None = None

    def prompt(self, *, cached: int, computed: int) -> None:
        assert self.read is None
        self.read = cached, computed

    def progress(self, index: int, tokens: int) -> None:
        assert index not in self.finished
        assert tokens > self.told.get(index, 0)
        self.told[index] = tokens

    def finish(self, index: int, completion: Completion) -> None:
        assert index not in self.finished
        self.finished[index] = completion

    @property
    def sampled(self) -> int:
        """Tokens that this sink knows of."""
        rest = [count for index, count in self.told.items() if index not in self.finished]
        return sum(rest) + sum(completion.tokens for completion in self.finished.values())

    def words(self) -> list[tuple[object, ...]]:
        """What was delivered, in a form that compares bitwise."""
        return [
            (index, c.text, c.finish, bytes(c.token_ids or b""), bytes(c.logprobs or b""))
            for index, c in sorted(self.finished.items())
        ]


def random_weights(config: dict[str, Any], head: str, seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights that make the next token neither certain nor arbitrary."""
    rng = np.random.default_rng(seed)
    hidden, size = config["hidden_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.input_layernorm.weight": (hidden,),
            f"{prefix}.post_attention_layernorm.weight": (hidden,),
            f"{prefix}.self_attn.q_proj.weight": (queries, hidden),
            f"{prefix}.self_attn.k_proj.weight": (keys, hidden),
            f"{prefix}.self_attn.v_proj.weight": (keys, hidden),
            f"{prefix}.self_attn.o_proj.weight": (hidden, queries),
            f"{prefix}.mlp.gate_proj.weight": (config["intermediate_size"], hidden),
            f"{prefix}.mlp.up_proj.weight": (config["intermediate_size"], hidden),
            f"{prefix}.mlp.down_proj.weight": (hidden, config["intermediate_size"]),
        }
    if head:
        shapes[f"{head}.weight"] = (3 if head == "score" else config["vocab_size"], hidden)
    if head == "score":
        shapes["score.bias"] = (3,)
    return {name: rng.normal(0, 1.5 / shape[-1] ** 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def safetensors(weights: dict[str, NDArray[Any]], kind: str = "F32") -> bytes:
    header, begin = {}, 0
    for name, array in weights.items():
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [begin, begin + array.nbytes]}
        begin += array.nbytes
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in weights.values())


def write_folder(folder: Path, architecture: str, head: str, **changes: object) -> Path:
    """Write a checkpoint and its tokenizer as Hugging Face would, and export it."""
    config = CONFIG | {"architectures": [architecture], "rope_parameters": {"rope_theta": 500.0}} | changes
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(safetensors(random_weights(config, head, 7)))
    model = WordLevel({piece: index for index, piece in enumerate(SPECIAL + PIECES)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(SPECIAL)
    pattern = "|".join(["[0-9]+", *(piece.replace("+", "\\+").replace(".", "\\.") for piece in PIECES[40:])])
    tokenizer.pre_tokenizer = Split(Regex(pattern), "isolated")
    tokenizer.decoder = Fuse()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"unk_token": "<unk>", "eos_token": {"content": "<eos>"}, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "tts.json").write_text(json.dumps({"max_tokens": 30, "step_tokens": 9, "reads": "sums"}))
    export(folder)
    return folder


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model with grouped queries, its head tied to the embedding."""
    return write_folder(tmp_path_factory.mktemp("models") / "policy", "LlamaForCausalLM", "")


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with three classes."""
    return write_folder(tmp_path_factory.mktemp("models") / "judge", "LlamaForTokenClassification", "score")


@pytest.fixture
def generator(policy: Path) -> EmbeddedGenerator:
    return EmbeddedGenerator(policy)


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder


def make_request(**changes: Any) -> GenerationRequest:
    """Five children of a prompt of eight tokens, to their end, with everything asked for."""
    given: dict[str, Any] = {
        "prompt": Prompt((), "", (47, 21, 45, 17, 48, 28, 49, 46)),
        "text": "",
        "token_ids": (),
        "count": 5,
        "seed": 8192,
        "max_tokens": 40,
        "delimiters": (),
        "sampling": Sampling(temperature=1.0),
        "logprobs": True,
    }
    return GenerationRequest(**given | changes)


@pytest.fixture
def request_of() -> Any:
    """Return `make_request`, which takes what differs."""
    return make_request


@pytest.fixture
def checkpoint_writer() -> Any:
    """This module, for tests that write checkpoints of their own."""
    return sys.modules[__name__]
