"""What an examination finds on the real engine, whose flags are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.vllm.served import BLOCK, CONTEXT, NAME, Counters
from tts.backends.doctor import examine
from tts.backends.doctor.findings import Verdict

if TYPE_CHECKING:
    from tests.vllm.served import Server

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""What differs between event loops lies below what is looked at here."""
ALWAYS = (
    "chat template", "context", "token ids", "prefix continuation", "continuation by text", "log-probabilities",
    "top log-probabilities", "log-probabilities of chosen tokens", "seeds", "several samples",
    "seeds of several samples", "stop texts", "stop reasons", "max_tokens", "streaming", "cancellation",
    "prefix cache", "cached-token counts", "health",
)  # fmt: skip


async def test_a_policy_server(policy: Server) -> None:
    before = Counters(policy.url).generated
    found = await examine(policy.url)
    sampled = Counters(policy.url).generated - before
    missing = [
        finding for finding in found.findings if finding.ability in ALWAYS and finding.verdict is not Verdict.YES
    ]
    assert missing == []
    assert found.spec == f"vllm:{policy.url}" and found.unfit == "" and found.model == NAME
    assert found.finding("context").number == CONTEXT
    assert found.finding("prefix cache").number == BLOCK
    # vLLM has neither: it samples fewer tokens than asked for, and takes misspelt fields, without a word.
    assert found.finding("refusal of what does not fit").verdict is Verdict.NO
    assert found.finding("refusal of unknown fields").verdict is Verdict.NO
    # What it sampled beyond what was seen, of streams that were left.
    assert found.sampled <= sampled <= found.sampled + 3 * 4 * CONTEXT


async def test_a_server_of_last_token_scores(prm: Server) -> None:
    found = await examine(prm.url)
    assert found.pooling and found.spec == f"vllm:{prm.url}"
    for ability in ("score of the last token", "probabilities", "independent scores", "prefix cache", "context"):
        assert found.finding(ability).verdict is Verdict.YES, found.finding(ability)


async def test_a_server_of_every_tokens_scores(prm_of_every_token: Server) -> None:
    found = await examine(prm_of_every_token.url)
    assert found.pooling
    for ability in ("scores of every token", "scores of beginnings", "probabilities", "independent scores"):
        assert found.finding(ability).verdict is Verdict.YES, found.finding(ability)
    assert found.finding("prefix cache").verdict is Verdict.NO
    assert "classify" in found.finding("prefix cache").advice
