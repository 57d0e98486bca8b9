"""How tests ask a scripted vLLM server for children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.backends.fake_vllm import Response
from tts.checks import Received
from tts.protocols import GenerationRequest
from tts.types import Message, Prompt, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.backends.fake_vllm import Call
    from tts.backends.vllm_server import VLLMServer

ASKED = (Message(role="user", content="hi"),)


def instead(path: str, body: Any, status: int = 200) -> Callable[[Call], Response | None]:
    return lambda call: Response(status, body) if call.path == path else None


def request(prompt: Prompt, **changes: Any) -> GenerationRequest:
    values: dict[str, Any] = {
        "prompt": prompt, "text": "", "token_ids": (), "count": 2, "seed": 4096, "max_tokens": 60,
        "delimiters": ("\n\n",), "sampling": Sampling(temperature=0.7), **changes,
    }  # fmt: skip
    return GenerationRequest(**values)


async def draw(backend: VLLMServer, **changes: Any) -> Received:
    await backend.connect()
    prompt = await backend.encode(ASKED)
    received = Received(changes.get("count", 2))
    try:
        await backend.generate(request(prompt, **changes), received)
    finally:
        await backend.aclose()
    return received
