"""Each adapter, step by step, against a plain transformers computation on a random model of the same architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.torch import models, plain
from tts.backends.torch_scorer import TorchScorer
from tts.protocols import Path
from tts.testing import check_verifier
from tts.types import Message
from tts.verifiers.adapters import ADAPTERS
from tts.verifiers.outcome_reward import OutcomeReward
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path as Folder

QUESTION = "What is 2+2, and why?"
STEPS = ("It is 2 more than 2.\n\n", "So 3, then 4:\n 2+2=4.\n\n", "The answer is 4")
MESSAGES = (Message(role="user", content=QUESTION),)
KINDS: dict[str, tuple[Callable[..., Folder], Callable[..., list[float]], dict[str, Any]]] = {
    "qwen2.5-math-prm": (models.qwen_prm, plain.qwen_prm, {}),
    "skywork-o1-open-prm": (models.skywork_prm, plain.skywork_prm, {}),
    "rlhflow": (models.llama, plain.rlhflow, {}),
    "math-shepherd": (models.mistral, plain.math_shepherd, {"labels": ("+", "-")}),
    "token-classification": (models.token_classifier, plain.token_classes, {}),
    "last-token-classification": (models.sequence_classifier, plain.last_token_classes, {}),
}
DTYPES = {"float32": 1e-3, "bfloat16": 1e-2}
"""How far scores may lie from the plain computation."""


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Folder]:
    name, dtype = request.param
    return name, dtype, KINDS[name][0](tmp_path_factory.mktemp(name), dtype)


every = pytest.mark.parametrize("folder", [(name, dtype) for name in KINDS for dtype in DTYPES], indirect=True)
single = pytest.mark.parametrize("folder", [(name, "float32") for name in KINDS], indirect=True)


def test_every_adapter_is_proved_here() -> None:
    assert set(KINDS) == set(ADAPTERS)


@every
async def test_each_step_has_the_score_of_a_plain_computation(folder: tuple[str, str, Folder]) -> None:
    name, dtype, where = folder
    verifier = ProcessReward(TorchScorer(where), adapter=name, **KINDS[name][2])
    await verifier.connect()
    # Beside a shorter and a longer path, so that rows are padded.
    paths = [Path(MESSAGES, STEPS[:1], False), Path(MESSAGES, STEPS, True), Path(MESSAGES, (*STEPS, *STEPS), False)]
    replies = await verifier.score(paths)
    await verifier.aclose()
    expected = KINDS[name][1](where, QUESTION, STEPS)
    assert len(expected) == len(STEPS) and max(expected) - min(expected) > 2 * DTYPES[dtype]
    assert list(replies[1].values) == pytest.approx(expected, abs=DTYPES[dtype])
    assert list(replies[2].values[:3]) == pytest.approx(expected, abs=DTYPES[dtype])
    assert list(replies[0].values) == pytest.approx(expected[:1], abs=DTYPES[dtype])


@single
async def test_the_clauses_are_kept(folder: tuple[str, str, Folder]) -> None:
    name, _, where = folder

    def make() -> ProcessReward:
        return ProcessReward(TorchScorer(where, remembered=0), adapter=name, **KINDS[name][2])

    await check_verifier(make, QUESTION, STEPS)


@single
async def test_a_growing_path_is_read_once_a_step(folder: tuple[str, str, Folder]) -> None:
    name, _, where = folder
    scorer = TorchScorer(where)
    verifier = ProcessReward(scorer, adapter=name, **KINDS[name][2])
    for _ in range(2):
        for count in range(1, len(STEPS) + 1):
            await verifier.score([Path(MESSAGES, STEPS[:count], False)])
    await verifier.aclose()
    assert scorer.read == len(STEPS)


@pytest.mark.parametrize("dtype", DTYPES)
async def test_an_outcome_s_reward_is_that_of_a_plain_computation(tmp_path: Folder, dtype: str) -> None:
    where = models.sequence_classifier(tmp_path, dtype, classes=1)
    scorer = TorchScorer(where, activation="none")
    path = Path(MESSAGES, STEPS, True)
    reward = plain.sequence_logits(where, QUESTION, "".join(STEPS) + "<|im_end|>")
    (soft,) = await OutcomeReward(scorer, map="sigmoid", ending="<|im_end|>").score([path])
    (linear,) = await OutcomeReward(scorer, map=(-20.0, 20.0), ending="<|im_end|>").score([path])
    await scorer.aclose()
    assert list(soft.values) == pytest.approx([float(reward.sigmoid())], abs=DTYPES[dtype])
    assert list(linear.values) == pytest.approx([(float(reward) + 20) / 40], abs=DTYPES[dtype])
    activated = TorchScorer(where)
    (same,) = await OutcomeReward(activated, map="sigmoid", ending="<|im_end|>").score([path])
    await activated.aclose()
    assert list(same.values) == pytest.approx(list(soft.values), abs=1e-6)


async def test_an_outcome_s_class_is_that_of_a_plain_computation(tmp_path: Folder) -> None:
    where = models.sequence_classifier(tmp_path, classes=3)
    verifier = OutcomeReward(TorchScorer(where), good=2)
    (reply,) = await verifier.score([Path(MESSAGES, STEPS, True)])
    await verifier.aclose()
    expected = plain.sequence_logits(where, QUESTION, "".join(STEPS)).softmax(-1)[2]
    assert list(reply.values) == pytest.approx([float(expected)], abs=1e-3)
