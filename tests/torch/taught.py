"""A small language model that has learnt by heart what to answer to a few questions, so that it can be a judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tests.torch import models, plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

END = "<|im_end|>"
ROUNDS, RATE = 100, 6e-3
"""Enough for `SURE`."""
SURE = 0.95
"""The least probability of each token of an answer that is a question's only one."""
IGNORED = -100
"""What transformers takes no loss of."""


def write(folder: Path, lessons: Sequence[tuple[str, str]]) -> Path:
    """Write a Llama with random weights, trained until it gives to each question its answer, and ends there.

    Where a question is there with several answers, it gives each as often as it is there.
    """
    models.llama(folder)
    tokenizer, model = plain.tokenizer_of(folder), plain.model_of(folder, "AutoModelForCausalLM")
    tokenizer.eos_token = END
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    pairs = [
        (plain.ids_of(folder, plain.conversation(folder, [("user", question)], asks=True))[0],
         plain.ids_of(folder, answer + END)[0])
        for question, answer in lessons
    ]  # fmt: skip
    _learn(model, *_batch(pairs))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.inference_mode()
def least_sure(folder: Path, question: str, answer: str) -> float:
    """Return the least probability that the model gives to a token of an answer."""
    start = plain.ids_of(folder, plain.conversation(folder, [("user", question)], asks=True))
    told = plain.ids_of(folder, answer + END)
    logits = plain.model_of(folder, "AutoModelForCausalLM")(input_ids=torch.cat([start, told], 1)).logits[0]
    chances = logits[start.shape[1] - 1 : -1].softmax(-1).gather(1, told.T)
    return float(chances.min())


def _batch(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids, a row each, and what is to be learnt of them: the answers."""
    wide = max(len(asked) + len(told) for asked, told in pairs)
    ids = torch.zeros(len(pairs), wide, dtype=torch.long)
    wanted = torch.full_like(ids, IGNORED)
    for row, (asked, told) in enumerate(pairs):
        ids[row, : len(asked) + len(told)] = torch.cat([asked, told])
        wanted[row, len(asked) : len(asked) + len(told)] = told
    return ids, wanted


def _learn(model: Any, ids: torch.Tensor, wanted: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for _ in range(ROUNDS):
        optimizer.zero_grad()
        model(input_ids=ids, labels=wanted).loss.backward()
        optimizer.step()
