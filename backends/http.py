"""An HTTP server as backends see it: one pool of connections an event loop, and every fault a typed error.

The only file that imports httpx. With the extra `http` its transport is aiohttp's, which costs a fraction of the time
of httpx's own once many requests are in flight; under trio, and without the extra, httpx's own is used.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import httpx
from anyio.lowlevel import RunVar
from pydantic import Field
from pydantic_core import from_json, to_json

from tts.backends.http_errors import of_status, of_transport
from tts.errors import EngineDeadError, ParameterError, TransientError
from tts.types import Frozen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping

_endpoints = itertools.count()
KEEP_ALIVE = 3.0
"""Seconds an idle connection is kept; uvicorn, which vLLM runs on, closes its own after 5."""


class Timeouts(Frozen):
    """How long a server may take, in seconds."""

    connect: float = Field(default=10.0, gt=0, description="until a connection stands, and for a sign of life")
    first: float = Field(default=600.0, gt=0, description="until the first token; a busy server lets requests wait")
    between: float = Field(default=60.0, gt=0, description="between tokens; then a silent server is asked for life")
    total: float = Field(default=3600.0, gt=0, description="for a whole answer")


@dataclass(frozen=True, slots=True)
class _Session:
    client: httpx.AsyncClient
    guard: AsyncGenerator[None, None]


class Endpoint:
    """A server at a URL.

    It may be used from several event loops; connections are closed with the loop that they belong to.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str = "TTS_API_KEY",
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | Mapping[str, float] | None = None,
    ) -> None:
        """Name a server; nothing is sent yet.

        Args:
            url: Where it is, such as "http://localhost:8000"; a trailing /v1 is understood.
            key: Name of the environment variable that holds the key; if it is not set, no key is sent.
            headers: Sent with every request.
            timeouts: How long it may take.

        Raises:
            ParameterError: The URL is none.
        """
        self.url = _checked(url)
        self.timeouts = Timeouts.model_validate(timeouts or {})
        self._secret = os.environ.get(key, "")
        self._headers = {"content-type": "application/json", **(headers or {})}
        if self._secret:
            self._headers["authorization"] = f"Bearer {self._secret}"
        self._session: RunVar[_Session | None] = RunVar(f"tts.http.{next(_endpoints)}", None)

    @property
    def name(self) -> str:
        """Host and port, as results may show them."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    async def get(self, path: str) -> Any:
        """Return the JSON at a path.

        Raises:
            TTSError: See `post`; TransientError also where there is no answer within the connect timeout.
        """
        return self._decoded(await self._get(path), path)

    async def text(self, path: str) -> str:
        """Return the text at a path, such as metrics; raises as `get` does."""
        return (await self._get(path)).decode(errors="replace")

    async def post(self, path: str, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None) -> Any:
        """Send JSON and return the JSON of the answer.

        While the answer is awaited, a server that has been silent for `Timeouts.between` is asked whether it lives.

        Raises:
            ParameterError: The server refuses the request for what it says.
            TransientError: A fault that may pass.
            EngineDeadError: The server runs, its engine does not.
            BackendError: Anything else.
        """
        with self._limited(self.timeouts.total, f"no answer from {path}"):
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._watch)
                    content = await self._send("POST", path, body, headers)
                    tasks.cancel_scope.cancel()
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
        return self._decoded(content, path)

    async def stream(
        self,
        path: str,
        body: Mapping[str, Any],
        take: Callable[[Any], Awaitable[None]],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send JSON and hand each server-sent event's JSON to `take` as it comes; cancelling this disconnects.

        Raises:
            TransientError: Also where the stream ends without the mark of its end.
            TTSError: As `post` does.
        """
        await self.open()
        with self._limited(self.timeouts.total, f"no whole answer from {path}"), self._faults(path):
            async with self._client().stream(
                "POST", self.url + path, content=to_json(body), headers={**self._headers, **(headers or {})}
            ) as response:
                if response.is_error:
                    self._refuse(response, await response.aread(), path)
                await self._events(response, path, take)

    async def alive(self) -> bool:
        """Whether the server answers at all.

        Raises:
            EngineDeadError: It answers that its engine is dead.
        """
        await self.open()
        try:
            with anyio.fail_after(self.timeouts.connect):
                response = await self._client().get(self.url + "/health", headers=self._headers)
        except (httpx.HTTPError, TimeoutError):
            return False
        if response.status_code in (500, 503):
            raise EngineDeadError(f"{self.name}: the server runs, but its engine is dead (/health says so): restart it")
        return True

    async def aclose(self) -> None:
        """Close the connections of this event loop; another request opens new ones."""
        session = self._session.get()
        self._session.set(None)
        if session is not None:
            await session.guard.aclose()

    async def open(self) -> None:
        """Make the connections of this event loop, so that they are closed with it."""
        if self._session.get() is None:
            client = _make_client()
            guard = _close_at_end(client)
            await anext(guard)
            self._session.set(_Session(client, guard))

    def _client(self) -> httpx.AsyncClient:
        session = self._session.get()
        assert session is not None
        return session.client

    async def _get(self, path: str) -> bytes:
        with self._limited(self.timeouts.connect, f"no answer from {path}"):
            return await self._send("GET", path, None, None)

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str] | None
    ) -> bytes:
        await self.open()
        with self._faults(path):
            response = await self._client().request(
                method,
                self.url + path,
                content=None if body is None else to_json(body),
                headers={**self._headers, **(headers or {})},
            )
        if response.is_error:
            self._refuse(response, response.content, path)
        return response.content

    async def _watch(self) -> None:
        while True:
            await anyio.sleep(self.timeouts.between)
            if not await self.alive():
                raise TransientError(
                    f"{self.name}: silent for {self.timeouts.between:g} s, and does not answer /health"
                )

    async def _events(self, response: httpx.Response, path: str, take: Callable[[Any], Awaitable[None]]) -> None:
        chunks = aiter(response.aiter_raw())
        rest, patience, awaited = b"", self.timeouts.first, "no first token"
        while True:
            with self._limited(patience, awaited):
                chunk = await anext(chunks, None)
            if chunk is None:
                raise TransientError(f"{self.name}{path}: the stream was cut before its end")
            # Split by hand: a JSON text may hold characters that line readers take for the end of a line.
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.rstrip() == b"data: [DONE]":
                    return
                if line.startswith(b"data: "):
                    await take(self._event(line[6:], path))
            patience, awaited = self.timeouts.between, "no further token"

    def _event(self, line: bytes, path: str) -> Any:
        event = self._decoded(line, path)
        if isinstance(event, dict) and "error" in event:
            raise of_status(self.name, path, 500, event, self._secret)
        return event

    def _decoded(self, content: bytes, path: str) -> Any:
        try:
            return from_json(content)
        except ValueError as error:
            raise TransientError(f"{self.name}{path}: the answer is no JSON ({error})") from None

    def _refuse(self, response: httpx.Response, content: bytes, path: str) -> None:
        try:
            said = from_json(content)
        except ValueError:
            said = content.decode(errors="replace")[:500]
        asked = response.headers.get("retry-after")
        raise of_status(self.name, path, response.status_code, said, self._secret, asked)

    @contextmanager
    def _faults(self, path: str) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise of_transport(self.name, path, error) from error

    @contextmanager
    def _limited(self, seconds: float, awaited: str) -> Iterator[None]:
        with anyio.move_on_after(seconds) as scope:
            yield
        if scope.cancelled_caught:
            raise TransientError(f"{self.name}: {awaited} within {seconds:g} s")


async def _close_at_end(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    """Close a client when this generator is closed, which event loops do for those left over when they end."""
    try:
        yield
    finally:
        await client.aclose()


def _make_client() -> httpx.AsyncClient:
    try:
        asyncio.get_running_loop()
        from httpx_aiohttp import HttpxAiohttpClient
    except (RuntimeError, ImportError):
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEP_ALIVE)
        return httpx.AsyncClient(timeout=httpx.Timeout(None), limits=limits)
    # For aiohttp 0 means no limit; None would leave it at its own, 100.
    limits = httpx.Limits(max_connections=0, keepalive_expiry=KEEP_ALIVE)
    return HttpxAiohttpClient(timeout=httpx.Timeout(None), limits=limits)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ParameterError(f"{url!r} is no URL of a server: expected one such as http://localhost:8000")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")
