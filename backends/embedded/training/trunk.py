"""The network that both models start from: it learns to write attempts, and to tell where they go wrong.

What is right to write next is the same knowledge as whether there is anything right to write, so that each loss helps
the other; the policy is this network's language head, the reward model goes on from it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import LlamaForCausalLM, LlamaForTokenClassification

from tts.backends.embedded.training.model import new_policy, new_reward_model
from tts.backends.embedded.training.optimisation import Schedule, train, worker, workers
from tts.backends.embedded.training.rows import Rows

Corpora = Sequence[tuple[Rows, int]]
"""Attempts of several kinds, and how many of each a training step takes; kinds take turns."""
CHOICE_WEIGHT = 3.0
"""Of a choice among right continuations: few tokens of an attempt, and all that is hard about it."""


class Batch(NamedTuple):
    """Some rows as tensors; see `tts.backends.embedded.training.rows.Batch`."""

    tokens: Tensor
    learned: Tensor
    labels: Tensor
    places: Tensor
    ids: Tensor
    shares: Tensor


def new_trunk(seed: int) -> tuple[LlamaForCausalLM, LlamaForTokenClassification]:
    """Return an untrained network with both heads."""
    policy = new_policy(seed)
    return joined(policy, new_reward_model(policy, seed))


def joined(
    policy: LlamaForCausalLM, judge: LlamaForTokenClassification
) -> tuple[LlamaForCausalLM, LlamaForTokenClassification]:
    """Return both heads on one network, the policy's."""
    judge.model = policy.model
    return policy, judge


def train_trunk(
    policy: LlamaForCausalLM,
    judge: LlamaForTokenClassification,
    corpora: Corpora,
    schedule: Schedule,
    seed: int,
) -> None:
    """Train both heads and the network that they share, in place.

    Args:
        policy: writes attempts.
        judge: says whether they can still succeed.
        corpora: labelled attempts.
        schedule: how long and how fast to learn.
        seed: of the order of the data.
    """

    def loss_of(batch: Batch) -> Tensor:
        hidden = policy.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
        return judging_loss(judge, hidden, batch) + writing_loss(hidden[:, :-1], policy.lm_head.weight, batch)

    train(judge, in_turns(corpora, seed), loss_of, schedule)
    policy.eval()


def in_turns(corpora: Corpora, seed: int) -> Iterator[Batch]:
    """Yield a batch of each kind in turn, without end; of each, the share of this worker."""
    streams = [rows.batches(size, seed) for rows, size in corpora]
    while True:
        for stream in streams:
            batch = next(stream)._asdict()
            places = batch.pop("places")
            shares = {name: torch.from_numpy(array[worker() :: workers()]) for name, array in batch.items()}
            yield Batch(places=torch.from_numpy(places), **shares)


def writing_loss(hidden: Tensor, embeddings: Tensor, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of what is to be written: tokens as they stand, and shares of right choices."""
    wanted = batch.learned[:, 1:]
    logits = (hidden[wanted] @ embeddings.T).float()
    total = cross_entropy(logits, batch.tokens[:, 1:][wanted], reduction="sum")
    if len(batch.places):
        chances = (hidden[:, batch.places - 1] @ embeddings.T).float().log_softmax(-1)
        options = chances.view(*batch.ids.shape[:3], -1).gather(-1, batch.ids)
        total = total - CHOICE_WEIGHT * (options * batch.shares).sum()
    return total / (wanted.sum() + CHOICE_WEIGHT * batch.shares.sum())


def judging_loss(model: LlamaForTokenClassification, hidden: Tensor, batch: Batch) -> Tensor:
    """Return the mean cross-entropy between what is said at the end of each part and its label, a share."""
    wanted = ~batch.labels.isnan()
    bad, good = model.score(hidden[wanted]).float().unbind(-1)
    return binary_cross_entropy_with_logits(good - bad, batch.labels[wanted])
