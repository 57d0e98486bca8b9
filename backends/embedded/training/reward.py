"""The process reward model: P(good) at the end of each part, trained on exact labels of the policy's attempts."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, LlamaForTokenClassification

from tts.backends.embedded.training import vocabulary
from tts.backends.embedded.training.model import new_reward_model
from tts.backends.embedded.training.optimisation import Schedule, train
from tts.backends.embedded.training.rollouts import UNLABELLED, part_ends

Arrays = dict[str, NDArray[np.uint16]]
Batch = tuple[torch.Tensor, torch.Tensor]
_SCORING_BATCH = 1000


def train_reward_model(
    policy: LlamaForCausalLM, pools: Sequence[tuple[Arrays, int]], schedule: Schedule, seed: int
) -> LlamaForTokenClassification:
    """Train a reward model on a copy of the policy's trunk.

    Args:
        policy: where the trunk starts from.
        pools: labelled attempts, and the number of rows that every training step takes from each pool.
        schedule: how long and how fast to learn.
        seed: of the head and the order of the data.
    """
    model = new_reward_model(policy, seed)

    def loss_of(batches: tuple[Batch, ...]) -> torch.Tensor:
        logits, labels = zip(*(_labelled(model, *batch) for batch in batches), strict=True)
        return cross_entropy(torch.cat(logits).float(), torch.cat(labels))

    streams = [_batches(arrays, size, seed) for arrays, size in pools]
    train(model, zip(*streams, strict=True), loss_of, schedule)
    return model


@torch.inference_mode()
def score(model: LlamaForTokenClassification, rows: NDArray[np.int64]) -> list[list[float]]:
    """Return P(good) at the end of each part of each row."""
    scores: list[list[float]] = []
    for start in range(0, len(rows), _SCORING_BATCH):
        batch = rows[start : start + _SCORING_BATCH]
        good = model(input_ids=torch.from_numpy(batch), use_cache=False).logits.softmax(-1)[..., 1]
        for row, line in zip(batch, good, strict=True):
            scores.append(line[part_ends(row)].tolist())
    return scores


def _labelled(
    model: LlamaForTokenClassification, inputs: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
    wanted = labels != UNLABELLED
    return model.score(hidden[wanted]), labels[wanted]


def _batches(arrays: Arrays, size: int, seed: int) -> Iterator[Batch]:
    """Yield shuffled batches without end, each cut to its longest row."""
    generator = np.random.default_rng(seed)
    tokens, labels = arrays["tokens"], arrays["labels"]
    while True:
        order = generator.permutation(len(tokens))
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            longest = int((tokens[rows] != vocabulary.PADDING_ID).sum(1).max())
            yield (
                torch.from_numpy(tokens[rows, :longest].astype(np.int64)),
                torch.from_numpy(labels[rows, :longest].astype(np.int64)),
            )
