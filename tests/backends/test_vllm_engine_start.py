"""An in-process vLLM engine that has started and cannot be used."""

from __future__ import annotations

import pytest

from tests.backends.test_vllm_engine import Install, Tokenizer, started
from tts.backends.vllm_engine import VLLMEngine
from tts.errors import ParameterError


async def test_an_engine_that_cannot_be_described_is_ended_and_does_not_pass_for_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vllm = Install(monkeypatch)
    monkeypatch.setattr(Tokenizer, "chat_template", None)
    engine = VLLMEngine("here/model", single_process=True)
    for _ in range(2):
        with pytest.raises(ParameterError, match="no chat template: give one as template="):
            await engine.connect()
        assert vllm.engines[-1].shut
    assert len(vllm.engines) == 2
    await engine.aclose()
    async with started(template="{{ messages }}") as other:
        assert other.capabilities.context == 64
