"""The policy: next-token prediction over the learned tokens of the corpus."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM

from tts.backends.embedded.training import vocabulary
from tts.backends.embedded.training.model import new_policy
from tts.backends.embedded.training.optimisation import Schedule, train

_IGNORED = -100


def train_policy(
    tokens: NDArray[np.uint16], learned: NDArray[np.uint16], schedule: Schedule, batch_size: int, seed: int
) -> LlamaForCausalLM:
    """Train a policy from scratch."""
    policy = new_policy(seed)

    def loss_of(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        inputs, targets = batch
        hidden = policy.model(input_ids=inputs[:, :-1], use_cache=False).last_hidden_state
        wanted = targets[:, 1:] != _IGNORED
        return cross_entropy(policy.lm_head(hidden[wanted]).float(), targets[:, 1:][wanted])

    train(policy, _batches(tokens, learned, batch_size, seed), loss_of, schedule)
    return policy


def _batches(
    tokens: NDArray[np.uint16], learned: NDArray[np.uint16], size: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield shuffled batches without end, each cut to its longest row."""
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(len(tokens))
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            longest = int((tokens[rows] != vocabulary.PADDING_ID).sum(1).max())
            inputs = torch.from_numpy(tokens[rows, :longest].astype(np.int64))
            wanted = torch.from_numpy(learned[rows, :longest].astype(bool))
            yield inputs, inputs.masked_fill(~wanted, _IGNORED)
