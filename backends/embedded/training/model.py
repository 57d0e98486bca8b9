"""The two small Llama models: their shapes, first weights and files."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification, PreTrainedModel

from tts.backends.embedded.training import vocabulary

WIDTH = 128
# The backward pass of the fused attention is slower than the plain one on a CPU at this size.
_ATTENTION = "eager"
_PERIODS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 16, 20, 25, 32, 50, 64, 100, 128, 200, 256, 400, 512, 700, 1000, 2000)
_EMBEDDING_SCALE = 0.08
_GENERATION = {
    "do_sample": True,
    "temperature": 0.8,
    "eos_token_id": vocabulary.END_ID,
    "pad_token_id": vocabulary.PADDING_ID,
}


def configuration(**extra: Any) -> LlamaConfig:
    """Return the shape that both models share."""
    return LlamaConfig(
        vocab_size=vocabulary.SIZE,
        hidden_size=WIDTH,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=vocabulary.LONGEST_SEQUENCE,
        pad_token_id=vocabulary.PADDING_ID,
        bos_token_id=None,
        eos_token_id=vocabulary.END_ID,
        **extra,
    )


def new_policy(seed: int) -> LlamaForCausalLM:
    """Return an untrained policy whose number embeddings start from arithmetic features."""
    torch.manual_seed(seed)
    policy = LlamaForCausalLM(configuration(tie_word_embeddings=True))
    policy.set_attn_implementation(_ATTENTION)
    start = vocabulary.FIRST_NUMBER_ID
    with torch.no_grad():
        policy.model.embed_tokens.weight[start : start + vocabulary.NUMBER_LIMIT] = _number_features()
    return policy


def new_reward_model(policy: LlamaForCausalLM, seed: int) -> LlamaForTokenClassification:
    """Return a two-class token classifier on a copy of the policy's trunk."""
    torch.manual_seed(seed)
    classifier = LlamaForTokenClassification(
        configuration(
            num_labels=2,
            id2label={0: "bad", 1: "good"},
            label2id={"bad": 0, "good": 1},
            tie_word_embeddings=False,
            classifier_dropout=0.0,
        )
    )
    classifier.set_attn_implementation(_ATTENTION)
    classifier.model.load_state_dict(policy.model.state_dict())
    return classifier


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write weights, configuration and tokenizer in the layout of Hugging Face."""
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    vocabulary.save_tokenizer(folder)
    if isinstance(model, LlamaForCausalLM):
        (folder / "generation_config.json").write_text(json.dumps(_GENERATION, indent=2) + "\n")


def load_policy(folder: Path) -> LlamaForCausalLM:
    """Read a policy back."""
    return LlamaForCausalLM.from_pretrained(folder, attn_implementation=_ATTENTION)


def load_reward_model(folder: Path) -> LlamaForTokenClassification:
    """Read a reward model back."""
    return LlamaForTokenClassification.from_pretrained(folder, attn_implementation=_ATTENTION)


def _number_features() -> torch.Tensor:
    """Return one row per number: its phase in several periods, its logarithm, and noise to tell the rest apart."""
    numbers = torch.arange(vocabulary.NUMBER_LIMIT, dtype=torch.float32)
    phases = [2 * math.pi * numbers / period for period in _PERIODS]
    columns = [wave(phase) for phase in phases for wave in (torch.cos, torch.sin)]
    logarithm = torch.log1p(numbers) / math.log(vocabulary.NUMBER_LIMIT) * 2 - 1
    features = torch.stack([*columns, logarithm, numbers / 500 - 1], dim=1)
    noise = torch.randn(vocabulary.NUMBER_LIMIT, WIDTH - features.shape[1]) * 0.5
    rotation, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH))
    rotated: torch.Tensor = torch.cat([features, noise], dim=1) @ rotation
    return rotated * _EMBEDDING_SCALE
