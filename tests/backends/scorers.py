"""Scorers of a scripted vLLM server, and what they sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.backends.fake_scores import TAG, text_of
from tts.backends.vllm_scorer import VLLMScorer

if TYPE_CHECKING:
    from tests.backends.fake_vllm import FakeVLLM


async def ready(server: FakeVLLM, task: str = "classify", *, in_flight: int = 4) -> VLLMScorer:
    """Let the server be one of a task, and connect with it."""
    server.task = task
    scorer = VLLMScorer(server.url, step_tag=TAG if task == "step" else None, in_flight=in_flight)
    await scorer.connect()
    return scorer


def sent(server: FakeVLLM, path: str = "/classify") -> list[list[str]]:
    """The sequences of each request to a path, but for the first, which asks whether it is there."""
    lists = [call.body["input"] for call in server.calls if call.path == path]
    return [[text_of(ids) for ids in several] for several in lists][1:]
