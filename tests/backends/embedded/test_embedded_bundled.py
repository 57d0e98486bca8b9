"""The bundled pair: that it is whole, and that its parts belong together."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import onnx
import pytest

from tts.backends.embedded import EmbeddedGenerator, EmbeddedScorer
from tts.backends.embedded.folder import BUNDLED
from tts.errors import ProblemError
from tts.protocols import Generator, Scorer
from tts.testing import check_generator, check_scorer
from tts.types import Finish, Message, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.backends.embedded.conftest import Recorder
    from tts.protocols import GenerationRequest

    Requests = Callable[..., GenerationRequest]

QUESTION = [Message(role="user", content="Use 18, 14, 25, 15 to make 42.")]


@pytest.mark.parametrize("name", ["arithmetic-policy", "arithmetic-prm"])
def test_the_network_was_exported_from_the_weights_beside_it(name: str) -> None:
    folder = BUNDLED / name
    metadata = {entry.key: entry.value for entry in onnx.load(folder / "model.onnx").metadata_props}
    assert metadata["checkpoint"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


async def test_the_pair_keeps_the_clauses_that_any_generator_and_scorer_keep() -> None:
    await check_generator(EmbeddedGenerator, QUESTION[0].content, max_tokens=60)
    await check_scorer(EmbeddedScorer, QUESTION[0].content, ("25 + 15 = 40 (left: 18, 14, 40)\n\n", "18 - 14 = 4 "))


async def test_the_policy_takes_steps(recorder: type[Recorder], request_of: Requests) -> None:
    policy = EmbeddedGenerator()
    assert isinstance(policy, Generator)
    found = policy.capabilities
    assert (found.context, found.max_tokens, found.step_tokens, found.task) == (128, 96, 32, "countdown")
    sink = recorder()
    prompt = await policy.encode(QUESTION)
    asked = request_of(prompt=prompt, count=32, max_tokens=32, delimiters=("\n\n",), sampling=Sampling())
    await policy.generate(asked, sink)
    steps = [child for child in sink.finished.values() if child.finish is Finish.DELIMITER]
    assert len(steps) > 16
    for child in steps:
        assert child.text.endswith("\n\n")
        assert list(child.token_ids or ()) == await policy.tokenize(child.text)
    await policy.aclose()


async def test_the_policy_says_what_it_reads() -> None:
    with pytest.raises(ProblemError, match=r"'Why'.*Use 3, 5, 7, 11 to make 24"):
        await EmbeddedGenerator().encode([Message(role="user", content="Why is 3 + 4?")])


async def test_the_judge_reads_what_the_policy_writes() -> None:
    judge, policy = EmbeddedScorer(), EmbeddedGenerator()
    assert isinstance(judge, Scorer)
    assert judge.capabilities.classes == 2
    ids = [*await judge.encode(QUESTION), *await judge.tokenize("25 + 15 = 40 (left: 18, 14, 40)\n\n")]
    assert ids[: len(ids) - 13] == list((await policy.encode(QUESTION)).token_ids)
    ((vector,),) = await judge.probabilities([ids], [[len(ids) - 1]])
    assert sum(vector) == pytest.approx(1)
    await judge.aclose()
