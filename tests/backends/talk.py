"""How tests talk to a raw server through an endpoint."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.backends.raw import said
from tts.backends.http import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.backends.raw import Asked, Wire

DONE = b"data: [DONE]\n\n"
PATH = "/v1/completions"
TRANSPORTS = ("asyncio", "asyncio with httpx's own transport", "trio")
"""What tests of an endpoint run on: event loops and transports."""


def chosen(transport: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let endpoints use a transport; return its event loop."""
    if "own" in transport:
        monkeypatch.setitem(sys.modules, "tts.backends.http_aiohttp", None)
    return transport.split()[0]


def always(*parts: bytes) -> Callable[[Wire, Asked], bool]:
    def answer(wire: Wire, asked: Asked) -> bool:
        wire.say(*parts)
        return True

    return answer


def hang(wire: Wire, asked: Asked) -> None:
    if asked.path == PATH:
        wire.wait_until_left()
    else:
        wire.say(said(b"{}"))


async def ask(url: str, *, streamed: bool = False, **timeouts: float) -> list[Any]:
    """Return what an endpoint says, in a list."""
    endpoint, events = Endpoint(url, timeouts=timeouts), list[Any]()

    async def take(event: Any) -> None:
        events.append(event)

    await endpoint.open()
    try:
        if streamed:
            await endpoint.stream(PATH, {"ask": 1}, take)
        else:
            events.append(await endpoint.post(PATH, {"ask": 1}))
    finally:
        await endpoint.aclose()
    return events


both = pytest.mark.parametrize("streamed", [False, True])
