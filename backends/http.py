"""An HTTP server as backends see it: one pool of connections an event loop, and every fault a typed error.

With the extra `http` requests go over aiohttp, which costs a fraction of the time of httpx's own transport once many
are in flight; under trio, and without the extra, httpx's own is used.
"""

from __future__ import annotations

import math
import os
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import anyio
from anyio.lowlevel import RunVar
from pydantic import Field
from pydantic_core import from_json, to_json

from tts.backends.address import bare_url, check_headers, secrets_in
from tts.backends.events import Events
from tts.backends.http_client import DRAIN, Body, chunks_of, close_at_end, make_client, run_out
from tts.backends.http_errors import of_event, of_status, of_transport, without
from tts.backends.per_loop import PerLoop
from tts.errors import EngineDeadError, TransientError
from tts.groups import Tasks
from tts.types import Frozen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping

    import httpx

T = TypeVar("T")


class Timeouts(Frozen):
    """How long a server may take, in seconds."""

    connect: float = Field(default=10.0, gt=0, description="until a connection stands, and for a sign of life")
    first: float = Field(default=600.0, gt=0, description="until the first token; a busy server lets requests wait")
    between: float = Field(default=60.0, gt=0, description="between tokens; then a silent server is asked for life")
    total: float = Field(default=3600.0, gt=0, description="for a whole answer")


@dataclass(slots=True)
class _Session:
    client: httpx.AsyncClient
    faults: tuple[type[Exception], ...]
    guard: AsyncGenerator[None, None]
    heard: float = -math.inf

    def hear(self) -> None:
        self.heard = anyio.current_time()


_sessions = PerLoop[_Session]("tts.http")
_open: RunVar[set[Any]] = RunVar("tts.http.open")
"""Guards of sessions that nobody has closed: they live as long as the loop, which then closes them."""


@dataclass(slots=True)
class _Patience:
    """How long what comes next is waited for."""

    seconds: float = 0.0
    awaited: str = ""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def renew(self, seconds: float, awaited: str) -> None:
        self.seconds, self.awaited = seconds, awaited
        self.scope.deadline = anyio.current_time() + seconds


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
            url: Where it is, such as "http://localhost:8000"; a trailing /v1 is understood, and so are a user and a
                password in it, which are never shown.
            key: Name of the environment variable that holds the key, which may have space around it; if it is not set,
                no key is sent.
            headers: Sent with every request.
            timeouts: How long it may take.

        Raises:
            ParameterError: The URL is none, or a header holds what headers cannot hold.
        """
        self.url, login = bare_url(url)
        self.timeouts = Timeouts.model_validate(timeouts or {})
        self._headers = {"content-type": "application/json"}
        if login:
            self._headers["authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        self._key = key
        if secret := os.environ.get(key, "").strip():
            self._headers["authorization"] = f"Bearer {secret}"
        self._headers |= {name.lower(): value for name, value in (headers or {}).items()}
        check_headers(self._headers)
        self._secrets = secrets_in(self._headers, login)

    @property
    def name(self) -> str:
        """Host and port, as results may show them."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    @property
    def last_heard(self) -> float:
        """When something last came from it in this event loop, by `anyio.current_time()`; -inf if nothing has.

        Anything counts: the head of an answer, a piece of a stream, what it says to `alive`.
        """
        session = _sessions.get(self)
        return -math.inf if session is None else session.heard

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

        While the answer is awaited, a server of which nothing has been heard for `Timeouts.between`, on any connection,
        is asked whether it lives; one that says so is waited for up to `Timeouts.total`.

        Raises:
            ParameterError: The server refuses the request for what it says.
            TransientError: A fault that may pass.
            EngineDeadError: The server runs, its engine does not.
            BackendError: Anything else.
        """
        with self._limited(self.timeouts.total, f"no answer from {path}"):
            content = await self._watched(lambda: self._send("POST", path, body, headers))
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
        with self._limited(self.timeouts.total, f"no whole answer from {path}"):
            await self._watched(lambda: self._stream(path, body, take, headers))

    async def alive(self) -> bool:
        """Whether the server answers at all.

        Raises:
            EngineDeadError: It answers that its engine is dead.
        """
        await self.open()
        session = self._opened()
        try:
            with anyio.fail_after(self.timeouts.connect):
                response = await session.client.get(self.url + "/health", headers=self._headers)
        except session.faults:  # a TimeoutError is one of them, as an OSError
            return False
        session.hear()
        # vLLM says no more than that; what stands before it, and is overloaded, says why.
        if response.status_code in (500, 503) and not response.content:
            raise EngineDeadError(f"{self.name}: the server runs, but its engine is dead (/health says so): restart it")
        return True

    async def aclose(self) -> None:
        """Close the connections of this event loop; another request opens new ones."""
        session = _sessions.pop(self)
        if session is not None:
            _open.set(_open.get(set()) - {session.guard})
            await session.guard.aclose()

    async def open(self) -> None:
        """Make the connections of this event loop, so that they are closed with it."""
        if _sessions.get(self) is None:
            client, faults = make_client(self.timeouts.connect, secure=self.url.startswith("https:"))
            guard = close_at_end(client)
            await anext(guard)
            _sessions.set(self, _Session(client, faults, guard))
            _open.set(_open.get(set()) | {guard})

    def _opened(self) -> _Session:
        session = _sessions.get(self)
        assert session is not None
        return session

    async def _get(self, path: str) -> bytes:
        with self._limited(self.timeouts.connect, f"no answer from {path}"):
            return await self._send("GET", path, None, None)

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str] | None
    ) -> bytes:
        request = await self._request(method, path, body, headers)
        session = self._opened()
        with self._faults(path):
            response = await session.client.send(request)
        session.hear()
        if not response.is_success:
            self._refuse(response, path)
        return response.content

    async def _stream(
        self,
        path: str,
        body: Mapping[str, Any],
        take: Callable[[Any], Awaitable[None]],
        headers: Mapping[str, str] | None,
    ) -> None:
        request = await self._request("POST", path, body, headers)
        session = self._opened()
        with self._faults(path), self._limited(self.timeouts.first, "no first token") as patience:
            response = await session.client.send(request, stream=True)
            session.hear()
            async with chunks_of(response, session.faults) as chunks:
                if not response.is_success:
                    await response.aread()
                    self._refuse(response, path)
                await self._events(chunks, path, take, patience, session)

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str] | None
    ) -> httpx.Request:
        await self.open()
        content = None if body is None else to_json(body)
        sent = {**self._headers, **(headers or {})}
        request = self._opened().client.build_request(method, self.url + path, content=content, headers=sent)
        if content is not None:
            request.stream = Body(content)
        return request

    async def _watched(self, work: Callable[[], Awaitable[T]]) -> T:
        async with Tasks() as tasks:
            tasks.start_soon(self._watch)
            result = await work()
            tasks.cancel()
        return result

    async def _watch(self) -> None:
        begun, between = anyio.current_time(), self.timeouts.between
        while True:
            last = max(begun, self.last_heard)
            await anyio.sleep_until(last + between)
            if max(begun, self.last_heard) > last:
                continue
            if not await self.alive() and self.last_heard <= last:
                raise TransientError(f"{self.name}: silent for {between:g} s, and does not answer /health")

    async def _events(
        self,
        chunks: AsyncIterator[bytes],
        path: str,
        take: Callable[[Any], Awaitable[None]],
        patience: _Patience,
        session: _Session,
    ) -> None:
        events, begun = Events(), False
        async for chunk in chunks:
            session.hear()
            for data in events.feed(chunk):
                event = self._decoded(data, path)
                if isinstance(event, dict) and event.get("error"):
                    raise of_event(self.name, path, event, begun=begun, secrets=self._secrets)
                begun = True
                await take(event)
                patience.renew(self.timeouts.between, "no further token")
            if events.ended:
                break
        else:
            raise TransientError(f"{self.name}{path}: the stream was cut before its end")
        # A connection whose answer is read to its end serves another request.
        with anyio.move_on_after(DRAIN):
            await run_out(chunks)

    def _decoded(self, content: bytes, path: str) -> Any:
        try:
            return from_json(content)
        except ValueError as error:
            raise TransientError(f"{self.name}{path}: the answer is no JSON ({error})") from None

    def _refuse(self, response: httpx.Response, path: str) -> None:
        try:
            said = from_json(response.content)
        except ValueError:
            said = response.content.decode(errors="replace")[:500]
        raise of_status(self.name, path, response.status_code, said, response.headers, self._secrets, self._key)

    @contextmanager
    def _faults(self, path: str) -> Iterator[None]:
        faults = self._opened().faults
        try:
            yield
        except faults as error:
            clean = without(self._secrets, str(error)) == str(error)
            raise of_transport(self.name, path, error, self._secrets) from (error if clean else None)

    @contextmanager
    def _limited(self, seconds: float, awaited: str) -> Iterator[_Patience]:
        patience = _Patience()
        patience.renew(seconds, awaited)
        with patience.scope:
            yield patience
        if patience.scope.cancelled_caught:
            raise TransientError(f"{self.name}: {patience.awaited} within {patience.seconds:g} s")
