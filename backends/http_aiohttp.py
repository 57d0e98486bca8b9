"""httpx over aiohttp, with the extra `http`: import this where that extra may be missing, and only on asyncio."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import ClientPayloadError, ClientResponse, ClientSession
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient

if TYPE_CHECKING:
    from asyncio import Future

    import httpx
    from aiohttp import StreamReader
    from aiohttp.connector import Connection


class Client(HttpxAiohttpClient):
    """A client whose answers end when their connection does."""

    def _init_transport(self, *_: object, **settings: Any) -> httpx.AsyncBaseTransport:
        return _Transport(**settings)

    def _init_proxy_transport(self, proxy: httpx.Proxy, *_: object, **settings: Any) -> httpx.AsyncBaseTransport:
        return _Transport(proxy=proxy, **settings)


class _Transport(AiohttpTransport):
    def get_client(self) -> ClientSession:
        made = super().get_client()
        session = ClientSession(connector=made.connector, response_class=_Response)
        made.detach()
        return session


class _Response(ClientResponse):
    """Whoever reads it learns that the connection is lost.

    aiohttp's parser in C forgets the answer when what comes of it is no HTTP, such as a chunk without a length: the
    connection is closed, but those who wait for the rest are not told and would wait for ever.
    """

    async def start(self, connection: Connection) -> ClientResponse:
        protocol = connection.protocol
        lost = protocol.closed if protocol is not None else None
        if lost is not None:
            # One connection serves many requests; asyncio complains where nobody looks at how it ended.
            lost.remove_done_callback(_look)
            lost.add_done_callback(_look)
        await super().start(connection)
        body = self.content
        if body.is_eof():
            return self
        if lost is None:
            _break_off(body)
            return self
        end = partial(_break_off, body)

        def finish() -> None:
            lost.remove_done_callback(end)

        lost.add_done_callback(end)
        body.on_eof(finish)
        return self


def _break_off(body: StreamReader, _: Future[None] | None = None) -> None:
    if not body.is_eof() and body.exception() is None:
        body.set_exception(ClientPayloadError("the connection was closed within an answer that is no HTTP"))


def _look(lost: Future[None]) -> None:
    if not lost.cancelled():
        lost.exception()
