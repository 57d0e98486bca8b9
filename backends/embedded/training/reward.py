"""The process reward model: P(good) at the end of each part, trained on exact labels of the policy's attempts."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, LlamaForTokenClassification

from tts.backends.embedded.training.model import new_reward_model
from tts.backends.embedded.training.optimisation import Schedule, train
from tts.backends.embedded.training.rollouts import UNLABELLED, part_ends
from tts.backends.embedded.training.rows import Batch, Rows

_SCORING_BATCH = 1000


def train_reward_model(
    policy: LlamaForCausalLM, pools: Sequence[tuple[Rows, int]], schedule: Schedule, seed: int
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

    streams = [rows.batches(size, seed) for rows, size in pools]
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
