"""Sampling from the policy in large batches of prompts of one length."""

from collections.abc import Sequence

import torch
from transformers import DynamicCache, LlamaForCausalLM

from tts.backends.embedded.training import vocabulary
from tts.benchmarks.tasks.countdown import Instance, question

LONGEST_ROLLOUT = 72


def prompts(instances: Sequence[Instance]) -> torch.Tensor:
    """Return one row of token ids per instance; every question has the same length."""
    encoded = vocabulary.build_tokenizer().encode_batch([question(instance) + "\n" for instance in instances])
    return torch.tensor([row.ids for row in encoded])


@torch.inference_mode()
def sample(
    policy: LlamaForCausalLM,
    rows: torch.Tensor,
    *,
    temperature: float,
    generator: torch.Generator,
    steps: int | None = None,
) -> torch.Tensor:
    """Continue each row to its end, or to the end of `steps` steps; padding follows the end.

    A temperature of zero takes the likeliest token.
    """
    cache, inputs = DynamicCache(), rows
    remaining = torch.full((len(rows),), vocabulary.LONGEST_SEQUENCE if steps is None else steps)
    while rows.shape[1] < LONGEST_ROLLOUT and bool((remaining > 0).any()):
        hidden = policy.model(input_ids=inputs, past_key_values=cache, use_cache=True).last_hidden_state[:, -1]
        chosen = _choose(policy.lm_head(hidden), temperature, generator)
        inputs = chosen.masked_fill(remaining <= 0, vocabulary.PADDING_ID)[:, None]
        rows = torch.cat([rows, inputs], dim=1)
        remaining -= (chosen == vocabulary.STEP_END_ID).long()
        remaining.masked_fill_(chosen == vocabulary.END_ID, 0)
    return rows


def _choose(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits / temperature, dim=-1)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
