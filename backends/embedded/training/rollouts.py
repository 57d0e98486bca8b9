"""The reward model's data: the policy's own attempts on training problems, every step labelled exactly."""

from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaForCausalLM

from tts.backends.embedded.training import vocabulary
from tts.backends.embedded.training.rows import Rows
from tts.backends.embedded.training.sampling import LONGEST_ROLLOUT, prompts, sample
from tts.benchmarks.tasks.countdown import STEP_END, Instance, label_steps, training_instances

UNLABELLED = 2
_BATCH = 500
_FARTHEST_SLIP = 10


def build(
    policy: LlamaForCausalLM, count: int, *, steps: int | None, slip_share: float, temperature: float, seed: int
) -> Rows:
    """Return attempts; the mark at the end of each part is 1 for good and 0 for bad, and 2 everywhere else.

    Args:
        policy: the policy whose attempts are labelled.
        count: the number of problems, each attempted once.
        steps: the number of steps of an attempt; all of them when None.
        slip_share: the share of attempts in which one number of a step is changed, since the policy itself
            rarely calculates wrongly.
        temperature: of the policy.
        seed: of problems, attempts and slips.
    """
    rng = Random(seed)
    generator = torch.Generator().manual_seed(seed)
    instances = training_instances(rng)
    tokens, labels = [], []
    for size in _batch_sizes(count):
        batch = list(islice(instances, size))
        rows = sample(policy, prompts(batch), temperature=temperature, generator=generator, steps=steps).numpy()
        for row in rows:
            if rng.random() < slip_share:
                slip(row, rng)
        tokens.append(_widened(rows, vocabulary.PADDING_ID))
        labels.append(_widened(label_rows(batch, rows), UNLABELLED))
    return Rows(np.concatenate(tokens), np.concatenate(labels))


def slip(row: NDArray[np.int64], rng: Random) -> None:
    """Change one number of one step of an attempt, in place."""
    first = vocabulary.FIRST_NUMBER_ID
    is_number = (row >= first) & (row < first + vocabulary.NUMBER_LIMIT)
    question_length, *_ = np.flatnonzero(row == vocabulary.QUESTION_END_ID) + 1
    ends = np.flatnonzero(row == vocabulary.STEP_END_ID)
    positions = np.flatnonzero(is_number)
    positions = positions[(positions >= question_length) & (positions < ends.max(initial=0))]
    if len(positions) == 0:
        return
    position = rng.choice(positions.tolist())
    number = int(row[position]) - first + rng.choice([-1, 1]) * rng.randint(1, _FARTHEST_SLIP)
    row[position] = first + min(max(number, 1), vocabulary.NUMBER_LIMIT - 1)


def part_ends(row: NDArray[np.int64]) -> list[int]:
    """Return the positions of the last token of each part of an attempt; the end of sequence is no part of it."""
    written = np.flatnonzero((row != vocabulary.PADDING_ID) & (row != vocabulary.END_ID))
    ends = np.flatnonzero(row == vocabulary.STEP_END_ID).tolist()
    last = int(written[-1])
    return ends if ends and ends[-1] == last else [*ends, last]


def attempt_texts(rows: NDArray[np.int64]) -> list[str]:
    """Return the text that follows the question in each row."""
    texts = vocabulary.build_tokenizer().decode_batch(rows.tolist())
    return [text.partition("\n")[2] for text in texts]


def parts_of(text: str) -> list[str]:
    """Split an attempt into its steps and its answer."""
    parts = text.split(STEP_END)
    return parts[:-1] if parts[-1] == "" and len(parts) > 1 else parts


def label_rows(instances: Sequence[Instance], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the exact labels of each row, at the ends of its parts."""
    labels = np.full_like(rows, UNLABELLED)
    for row, instance, text, marks in zip(rows, instances, attempt_texts(rows), labels, strict=True):
        marks[part_ends(row)] = label_steps(instance, parts_of(text))
    return labels


def _batch_sizes(count: int) -> Iterator[int]:
    for start in range(0, count, _BATCH):
        yield min(_BATCH, count - start)


def _widened(rows: NDArray[np.int64], filler: int) -> NDArray[np.uint16]:
    widths = ((0, 0), (0, LONGEST_ROLLOUT - rows.shape[1]))
    return np.pad(rows, widths, constant_values=filler).astype(np.uint16)
