"""Examinations of servers that score, and of servers that show no token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.backends.fake_openai import CHAT, COMPLETIONS, FakeOpenAI, Manners
from tests.backends.lying_servers import LyingVLLM
from tts.backends.doctor import Bounds, examine, scoring
from tts.backends.doctor.findings import Verdict

if TYPE_CHECKING:
    from tts.backends.doctor.findings import Examination

YES, NO, UNKNOWN = Verdict.YES, Verdict.NO, Verdict.UNKNOWN


async def look(url: str) -> Examination:
    return await examine(url, nonce="nonce", bounds=Bounds(total=30, probe=10, patience=0.3))


async def test_a_reward_model_that_reads_its_cache() -> None:
    with LyingVLLM("reads its cache", task="classify") as server:
        found = await look(server.url)
    assert found.pooling and found.spec == f"vllm:{server.url}" and found.capabilities is None
    assert found.finding("score of the last token").verdict is YES
    assert found.finding("prefix cache").verdict is YES
    assert found.finding("independent scores").verdict is YES


async def test_a_reward_model_of_every_token() -> None:
    with LyingVLLM(task="token_classify") as server:
        found = await look(server.url)
    assert found.finding("scores of every token").verdict is YES
    assert found.finding("scores of beginnings").verdict is YES
    assert found.finding("score of the last token").verdict is NO
    assert found.finding("prefix cache").verdict is NO
    assert "classify" in found.finding("prefix cache").advice


@pytest.mark.parametrize(
    ("lie", "ability", "evidence"),
    [
        ("logits", "probabilities", "these are no probabilities"),
        ("hangs on others", "independent scores", "a score moves by"),
        ("looks ahead", "scores of beginnings", "what comes after"),
        ("cuts prompts", "context", "scored 129"),
        ("", "prefix cache", "0 of"),
    ],
)
async def test_a_reward_model_that_lies(lie: str, ability: str, evidence: str) -> None:
    with LyingVLLM(lie, task="token_classify") as server:
        finding = (await look(server.url)).finding(ability)
    assert finding.verdict is NO and evidence in finding.evidence, finding


async def test_a_reward_model_with_a_step_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "TAGS", ("two letters", "#"))
    with LyingVLLM(task="step") as server:
        found = await look(server.url)
    tag = found.finding("scores at step tags")
    assert found.pooling and tag.verdict is YES and tag.number == ord("#")
    assert found.finding("scores of every token").verdict is NO
    assert found.finding("independent scores").verdict is YES and found.finding("probabilities").verdict is YES


async def test_a_reward_model_with_a_step_tag_that_nobody_knows() -> None:
    with LyingVLLM(task="step") as server:
        found = await look(server.url)
    assert found.pooling and found.finding("scores at step tags").verdict is UNKNOWN
    assert found.finding("probabilities").verdict is UNKNOWN


async def test_a_reward_model_that_drops_a_sequence() -> None:
    with LyingVLLM("drops one", task="classify") as server:
        finding = (await look(server.url)).finding("independent scores")
    assert finding.verdict is UNKNOWN and "17 sequences were sent, 16 were scored" in finding.evidence


async def test_a_server_that_is_no_vllm_is_asked_as_others_are() -> None:
    with LyingVLLM("no ids") as server:
        found = await look(server.url)
    assert found.spec == f"openai:{server.url}"
    assert found.capabilities is not None and not found.capabilities.token_ids
    assert found.capabilities.continuation and found.capabilities.logprobs and found.capabilities.seeds
    assert found.finding("token ids").verdict is NO
    assert found.finding("cancellation").verdict in (YES, UNKNOWN)


async def test_a_chat_is_asked_through_its_own_backend() -> None:
    with FakeOpenAI(manners=Manners(paths=frozenset({CHAT}))) as server:
        found = await look(server.url)
    assert found.spec == f"openai:{server.url}" and not found.template
    assert found.capabilities is not None and found.capabilities.continuation and found.capabilities.seeds
    assert found.finding("tokenizer").verdict is NO
    assert "continue_final_message" in found.finding("prefix continuation").evidence


async def test_a_chat_that_always_begins_a_new_turn() -> None:
    with FakeOpenAI(manners=Manners(paths=frozenset({CHAT}), dialect=None, seeds="ignored")) as server:
        found = await look(server.url)
    assert found.finding("prefix continuation").verdict is NO and found.finding("seeds").verdict is NO
    assert found.capabilities is not None and not found.capabilities.continuation
    assert found.finding("batch invariance").verdict is UNKNOWN


async def test_text_without_a_chat_needs_a_template() -> None:
    with FakeOpenAI(manners=Manners(paths=frozenset({COMPLETIONS}))) as server:
        found = await look(server.url)
    assert found.spec == f"openai:{server.url}" and found.template


async def test_a_server_that_does_not_keep_to_a_cap_is_of_no_use() -> None:
    with FakeOpenAI(manners=Manners(paths=frozenset({CHAT}), counts=False)) as server:
        found = await look(server.url)
    assert found.spec is None and "cannot be kept within a budget" in found.unfit
