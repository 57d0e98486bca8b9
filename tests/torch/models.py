"""Small reward models with random weights, written as the real ones are: safetensors, configuration, tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

if TYPE_CHECKING:
    from pathlib import Path

WIDE = 64
SIZES = {
    "vocab_size": 288, "hidden_size": WIDE, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 512, "initializer_range": 0.4,
}  # fmt: skip
SPECIAL = ("<s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<extra_0>")
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizer cuts text; transformers has every Qwen2 folder cut so, whatever its tokenizer.json says."""
MERGES = (
    ("Ċ", "Ċ"), (":", "Ċ"), (".", "ĊĊ"), ("Ð", "º"), ("Ð", "¸"), ("Ðº", "Ð¸"), ("Ġ", "ÐºÐ¸"),
    ("Ġ", "Y"), ("ĠY", "e"), ("ĠYe", "s"), ("Ġ", "N"), ("ĠN", "o"),
)  # fmt: skip
"""What becomes one token: line breaks with what is before them, as Qwen has it, Math-Shepherd's mark, Yes and No."""
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer whose tokens are bytes, `MERGES` and a few special ones."""
    pieces = (*SPECIAL, *sorted(ByteLevel.alphabet()), *map("".join, MERGES))
    tokenizer = Tokenizer(BPE({piece: place for place, piece in enumerate(pieces)}, list(MERGES)))
    tokenizer.pre_tokenizer = Sequence(
        [Split(Regex(SPLIT), behavior="isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    whole = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", additional_special_tokens=list(SPECIAL[1:])
    )
    whole.chat_template = CHAT
    whole.save_pretrained(folder)


def write_model(folder: Path, kind: str, config: Any, dtype: str = "float32", **head: torch.Tensor) -> Path:
    """Write a model of one of transformers' classes with random weights, and the weights of a head beside them."""
    torch.manual_seed(7)
    model = getattr(transformers, kind)(config)
    for name, parameter in model.named_parameters():
        # Norms and biases are ones and zeros when new, which would hide that they are not loaded.
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.3)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    if head:
        path = folder / "model.safetensors"
        weights = load_file(path) | {name: weight.to(getattr(torch, dtype)) for name, weight in head.items()}
        save_file(weights, path, metadata={"format": "pt"})
    write_tokenizer(folder)
    return folder


def normal(*shape: int, seed: int) -> torch.Tensor:
    """Return random weights, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / shape[-1] ** 0.5


def qwen_prm(folder: Path, dtype: str = "float32") -> Path:
    """Qwen2 with the two-layer head of Qwen2.5-Math-PRM."""
    # The real one's configuration names code that comes with it; it is not run.
    code = {
        "AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel",
        "AutoConfig": "configuration_qwen2_rm.Qwen2RMConfig",
    }
    config = transformers.Qwen2Config(**SIZES, auto_map=code)
    head = {
        "score.0.weight": normal(WIDE, WIDE, seed=1), "score.0.bias": normal(WIDE, seed=2),
        "score.2.weight": 2 * normal(2, WIDE, seed=3), "score.2.bias": normal(2, seed=4),
    }  # fmt: skip
    return rename(write_model(folder, "Qwen2ForCausalLM", config, dtype, **head), "Qwen2ForProcessRewardModel")


def skywork_prm(folder: Path, dtype: str = "float32") -> Path:
    """Qwen2 with the value head of Skywork-o1-Open-PRM."""
    head = {"v_head.summary.weight": normal(1, WIDE, seed=1), "v_head.summary.bias": normal(1, seed=2)}
    folder = write_model(folder, "Qwen2ForCausalLM", transformers.Qwen2Config(**SIZES), dtype, **head)
    return rename(folder, "Qwen2ForPrmModel")


def mistral(folder: Path, dtype: str = "float32") -> Path:
    """A Mistral language model, as Math-Shepherd's."""
    return write_model(folder, "MistralForCausalLM", transformers.MistralConfig(**SIZES), dtype)


def llama(folder: Path, dtype: str = "float32") -> Path:
    """A Llama language model, as RLHFlow's."""
    return write_model(folder, "LlamaForCausalLM", transformers.LlamaConfig(**SIZES), dtype)


def token_classifier(folder: Path, dtype: str = "float32") -> Path:
    """A Llama that classifies tokens."""
    config = transformers.LlamaConfig(**SIZES, num_labels=2)
    return write_model(folder, "LlamaForTokenClassification", config, dtype)


def sequence_classifier(folder: Path, dtype: str = "float32", classes: int = 2) -> Path:
    """A Llama that classifies sequences."""
    config = transformers.LlamaConfig(**SIZES, num_labels=classes, pad_token_id=0)
    return write_model(folder, "LlamaForSequenceClassification", config, dtype)


def rename(folder: Path, architecture: str) -> Path:
    """Have a configuration name the architecture that the real model names."""
    path = folder / "config.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("Qwen2ForCausalLM", architecture), encoding="utf-8")
    return folder
