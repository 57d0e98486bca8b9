"""Adapters of process reward models over real servers, each step against plain transformers on random weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.torch import models, plain
from tts.backends.vllm_scorer import VLLMScorer
from tts.errors import ParameterError
from tts.protocols import Path
from tts.types import Message
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path as Folder

    from tests.vllm.served import Server

QUESTION = "What is 2+2, and why?"
STEPS = ("It is 2 more than 2.\n\n", "So 3, then 4:\n 2+2=4.\n\n", "The answer is 4")
MESSAGES = (Message(role="user", content=QUESTION),)
CLOSE = 1e-3
"""How far two engines may lie apart in single precision."""
SERVED = {
    "qwen2.5-math-prm": ("qwen", "<extra_0>", None, plain.qwen_prm),
    "rlhflow": ("mistral", None, ("+", "-"), plain.rlhflow),
    "math-shepherd": ("mistral", None, ("+", "-"), plain.math_shepherd),
}
"""Adapters, with the model that serves, its step tag, its labels and the plain computation."""
LONG = ("--max-model-len", "512")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Folder]:
    """Random weights: Qwen's process reward model, and a language model."""
    made = {"qwen": models.qwen_prm, "mistral": models.mistral}
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in made.items()}


@pytest.fixture(scope="module")
def servers(start: Callable[..., Server], folders: dict[str, Folder]) -> Iterator[dict[str, Server]]:
    """Both served, as the adapters say; the step tag is the random model's own."""
    (tag,) = plain.tokenizer_of(folders["qwen"])("<extra_0>", add_special_tokens=False)["input_ids"]
    flags = {"qwen": ("--runner", "pooling", "--pooler-config", json.dumps({"step_tag_id": tag})), "mistral": ()}
    found = {name: start(name, str(folders[name]), (*LONG, *flags[name])) for name in folders}
    for server in found.values():
        server.wait()
    yield found
    for server in found.values():
        server.kill()


@pytest.mark.parametrize("adapter", SERVED)
async def test_each_step_has_the_score_of_a_plain_computation(
    adapter: str, servers: dict[str, Server], folders: dict[str, Folder]
) -> None:
    name, tag, labels, compute = SERVED[adapter]
    scorer = VLLMScorer(servers[name].url, step_tag=tag)
    verifier = ProcessReward(scorer, adapter=adapter, labels=labels)
    await verifier.connect()
    expected = compute(folders[name], QUESTION, STEPS)
    for count in range(1, len(STEPS) + 1):
        (reply,) = await verifier.score([Path(MESSAGES, STEPS[:count], count == len(STEPS))])
        assert list(reply.values) == pytest.approx(expected[:count], abs=CLOSE)
    await verifier.aclose()
    assert scorer.sent == len(STEPS) and max(expected) - min(expected) > 2 * CLOSE


async def test_a_server_with_another_step_tag_is_refused(servers: dict[str, Server]) -> None:
    verifier = ProcessReward(VLLMScorer(servers["qwen"].url, step_tag="4"), adapter="qwen2.5-math-prm")
    with pytest.raises(ParameterError, match="step_tag='4' is not the step_tag_id of"):
        await verifier.connect()
    await verifier.aclose()
