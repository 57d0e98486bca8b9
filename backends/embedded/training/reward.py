"""The process reward model: how likely it is that a completion from here succeeds, read at the end of each part.

It goes on from the trunk, which can tell whether the answer is still to be reached, and learns what becomes of the
policy's own attempts.
"""

import torch
from transformers import LlamaForTokenClassification

from tts.backends.embedded.training.optimisation import Schedule, train
from tts.backends.embedded.training.trunk import Batch, Corpora, in_turns, judging_loss


def train_reward_model(
    model: LlamaForTokenClassification, rollouts: Corpora, schedule: Schedule, seed: int
) -> LlamaForTokenClassification:
    """Train a reward model on what became of the policy's own attempts.

    Args:
        model: where it starts from; trained in place.
        rollouts: attempts of the policy, labelled with the share of them that succeed from there.
        schedule: how long and how fast to learn.
        seed: of the order of the data.
    """

    def loss_of(batch: Batch) -> torch.Tensor:
        hidden = model.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
        return judging_loss(model, hidden, batch)

    train(model, in_turns(rollouts, seed), loss_of, schedule)
    return model
