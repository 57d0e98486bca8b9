"""The policy: next-token prediction over the learned tokens of the corpus."""

from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM

from tts.backends.embedded.training.model import new_policy
from tts.backends.embedded.training.optimisation import Schedule, train
from tts.backends.embedded.training.rows import Batch, Rows


def train_policy(corpus: Rows, schedule: Schedule, batch_size: int, seed: int) -> LlamaForCausalLM:
    """Train a policy from scratch."""
    policy = new_policy(seed)

    def loss_of(batch: Batch) -> Tensor:
        tokens, learned = batch
        hidden = policy.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
        wanted = learned[:, 1:] == 1
        return cross_entropy(policy.lm_head(hidden[wanted]).float(), tokens[:, 1:][wanted])

    train(policy, corpus.batches(batch_size, seed), loss_of, schedule)
    return policy
