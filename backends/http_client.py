"""httpx's client as `Endpoint` uses it: which transport, what it raises, and that nothing is left behind unfinished."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

KEEP_ALIVE = 3.0
"""Seconds an idle connection is kept; uvicorn, which vLLM runs on, closes its own after 5."""
DRAIN = 0.2
"""Seconds that the end of an answer is waited for whose last event has come."""


class Body(httpx.AsyncByteStream):
    """What is sent; httpx's own is a generator, and trio warns of those that a broken connection leaves unfinished."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._rest: list[bytes] = []

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._rest = [self._content]
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        return self._rest.pop()


@asynccontextmanager
async def chunks_of(
    response: httpx.Response, faults: tuple[type[Exception], ...]
) -> AsyncGenerator[AsyncIterator[bytes], None]:
    """Give a response's body piece by piece; it is closed at the end, and `faults` that come of that are none."""
    chunks = response.aiter_bytes()
    try:
        yield chunks
    finally:
        await response.aclose()
        # The transports' generators lie one in another; trio warns of those that the garbage collector has to end.
        with anyio.move_on_after(DRAIN, shield=True), suppress(*faults):
            await run_out(chunks)


async def run_out(chunks: AsyncIterator[bytes]) -> None:
    """Read to the end."""
    async for _ in chunks:
        pass


async def close_at_end(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    """Close a client when this generator is closed, which event loops do for those left over when they end."""
    try:
        yield
    finally:
        await client.aclose()


def make_client(connect: float, *, secure: bool) -> tuple[httpx.AsyncClient, tuple[type[Exception], ...]]:
    """Return a client and what it raises: the transports let some faults of what lies beneath through as they are."""
    timeout, faults = httpx.Timeout(None, connect=connect), (httpx.HTTPError, httpx.StreamError, OSError)
    try:
        asyncio.get_running_loop()
        from aiohttp import ClientError

        from tts.backends.http_aiohttp import Client
    except (RuntimeError, ImportError):
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEP_ALIVE)
        return httpx.AsyncClient(timeout=timeout, limits=limits, verify=secure), faults
    # For aiohttp 0 means no limit; None would leave it at its own, 100.
    limits = httpx.Limits(max_connections=0, keepalive_expiry=KEEP_ALIVE)
    return Client(timeout=timeout, limits=limits, verify=secure), (*faults, ClientError)
