"""Answers that break off, are no JSON, or come in pieces; connections that do not last."""

from __future__ import annotations

import gc
import json
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backends.raw import Asked, RawServer, Wire, begin_stream, said
from tests.backends.talk import DONE, PATH, TRANSPORTS, always, ask, both, chosen
from tts.backends.events import Events
from tts.backends.http import Endpoint
from tts.errors import BackendError, EngineDeadError, ParameterError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(params=TRANSPORTS)
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test once per event loop and transport."""
    return chosen(request.param, monkeypatch)


def reset(wire: Wire, asked: Asked) -> None:
    wire.reset()


def close(wire: Wire, asked: Asked) -> None:
    """Say nothing and go."""


def midway(whole: bytes, end: Callable[[Wire, Asked], None]) -> Callable[[Wire, Asked], None]:
    def answer(wire: Wire, asked: Asked) -> None:
        wire.say(whole[: len(whole) * 2 // 3])
        end(wire, asked)

    return answer


BROKEN: dict[str, Callable[[Wire, Asked], Any]] = {
    "reset before any byte": reset,
    "closed before any byte": close,
    "reset within the head": midway(b"HTTP/1.1 200 OK\r\ncontent-le", reset),
    "closed within the head": midway(b"HTTP/1.1 200 OK\r\ncontent-le", close),
    "no HTTP": always(b"SSH-2.0-OpenSSH_9.6\r\n\r\n\r\n"),
    "a length that is none": always(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{}"),
}
WHOLE = said(b'{"a": "' + b"x" * 3000 + b'"}')
STREAM = begin_stream() + b'data: {"a": "' + b"x" * 3000 + b'"}\n\n'
CHUNKED = begin_stream("transfer-encoding: chunked\r\n") + b"8\r\ndata: 1\n\r\n"


@both
@pytest.mark.parametrize("how", BROKEN)
async def test_a_connection_that_breaks_before_an_answer(streamed: bool, how: str) -> None:
    with RawServer(BROKEN[how]) as server, pytest.raises(TransientError, match=r"the connection broke") as raised:
        await ask(server.url, streamed=streamed)
    assert raised.value.began
    assert raised.value.at_once
    assert server.paths() == [PATH]
    del raised
    gc.collect()
    await anyio.lowlevel.checkpoint()  # asyncio complains here of errors that nobody has looked at


@pytest.mark.parametrize(
    ("streamed", "answer"),
    [
        (False, midway(WHOLE, reset)),
        (False, midway(WHOLE, close)),
        (True, midway(STREAM, reset)),
        (True, midway(STREAM, close)),
        (True, midway(STREAM + STREAM[len(begin_stream()) :], close)),
        (True, lambda wire, asked: wire.say(STREAM)),
        (True, lambda wire, asked: wire.say(CHUNKED)),
        (True, lambda wire, asked: wire.say(CHUNKED, b"0\r\n\r\n")),
        (True, lambda wire, asked: wire.say(CHUNKED, b"zz\r\n\r\n")),
    ],
)
async def test_an_answer_that_breaks_off(streamed: bool, answer: Callable[[Wire, Asked], None]) -> None:
    with RawServer(answer) as server, pytest.raises(TransientError, match=r"broke|cut before its end") as raised:
        await ask(server.url, streamed=streamed)
    assert raised.value.began


async def test_a_stream_that_is_no_http_any_more_after_its_first_event() -> None:
    read = threading.Event()

    def answer(wire: Wire, asked: Asked) -> None:
        if asked.path == PATH:
            wire.say(CHUNKED)
            assert read.wait(20)
            wire.say(b"zz\r\n\r\n")
            wire.wait_until_left()
        else:
            wire.say(said(b"{}"))

    async def take(event: Any) -> None:
        read.set()

    with RawServer(answer) as server:
        endpoint = Endpoint(server.url, timeouts={"between": 2})
        with pytest.raises(TransientError, match=r"the connection broke") as raised:
            await endpoint.stream(PATH, {}, take)
        await endpoint.aclose()
    assert raised.value.began


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": 1', b"<html>", b'{"a": "\xff"}', b"{} {}"])
async def test_what_is_no_json(body: bytes) -> None:
    with RawServer(always(said(body))) as server, pytest.raises(TransientError, match=r"no JSON") as raised:
        await ask(server.url)
    assert raised.value.began


async def test_an_event_that_is_no_json() -> None:
    data = begin_stream() + b"data: {\n\n" + DONE
    with RawServer(lambda wire, asked: wire.say(data)) as server, pytest.raises(TransientError, match=r"no JSON"):
        await ask(server.url, streamed=True)


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"message": "out of memory"}, TransientError, 500),
        ("out of memory", TransientError, 500),
        ({"message": "out of memory", "code": "400"}, TransientError, 500),
        ({"message": "out of memory", "code": True}, TransientError, 500),
        ({"message": "out of memory", "code": 1}, TransientError, 500),
        ({"message": "EngineCore encountered an issue."}, EngineDeadError, 500),
        ({"message": "priority scheduling is not enabled", "code": 400}, ParameterError, 400),
        ({"message": "no such model", "code": 404}, BackendError, 404),
        ({"message": "overloaded", "code": 503}, TransientError, 503),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
async def test_an_error_within_a_stream(error: object, kind: type[BackendError], status: int, begun: bool) -> None:
    data = begin_stream() + begun * b'data: {"a": 1}\n\n'
    data += b"data: " + json.dumps({"error": error}).encode() + b"\n\n" + DONE
    refused = pytest.raises(kind, match=f"status {status}")
    with RawServer(lambda wire, asked: wire.say(data)) as server, refused as raised:
        await ask(server.url, streamed=True)
    assert type(raised.value) is kind
    if isinstance(raised.value, TransientError):
        assert raised.value.began == (begun or status == 500), "what has said something has begun"


async def test_a_reader_of_events_that_fails_ends_the_stream() -> None:
    def answer(wire: Wire, asked: Asked) -> None:
        wire.say(begin_stream() + b"data: 1\n\n" * 3)
        wire.wait_until_left()

    async def refuse(event: Any) -> None:
        raise BackendError("not what was asked for")

    with RawServer(answer) as server:
        endpoint = Endpoint(server.url)
        with pytest.raises(BackendError, match=r"not what was asked for"):
            await endpoint.stream(PATH, {}, refuse)
        assert server.wait_for(lambda: server.left >= 1)
        await endpoint.aclose()


LINES = [
    "data: {}\n\n",
    "data:{}\n",
    "data: {}\r\n\r\n",
    ": keep alive\n\n",
    "event: x\nid: 3\ndata: {}\n\n",
    "\n",
    "retry: 9\n",
]
VALUES = st.recursive(
    st.text(st.characters(codec="utf-8")) | st.integers(-9, 9), lambda inner: st.lists(inner, max_size=3), max_leaves=6
)


@given(st.lists(st.tuples(st.sampled_from(LINES), VALUES), max_size=8), st.data())
def test_events_are_read_however_they_are_cut(lines: list[tuple[str, Any]], data: st.DataObject) -> None:
    text = "".join(line.replace("{}", json.dumps(value, ensure_ascii=False)) for line, value in lines)
    sent = text.encode() + DONE + b'data: "late"\n\n'
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=20)))
    events, read = Events(), list[bytes]()
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        read += events.feed(sent[start:end])
    assert [json.loads(one) for one in read] == [value for line, value in lines if "{}" in line]
    assert events.ended


@pytest.mark.parametrize("mark", ["\u2028", "\u0085", "\u001e", "\x0b", "🙂", "ü"])
async def test_events_cut_anywhere_on_the_wire(mark: str) -> None:
    event = {"text": f"a{mark}\n{mark}"}
    bare = json.dumps(event, ensure_ascii=mark < " ").encode()
    sent = b": hello\r\n\r\ndata:" + bare + b"\r\n\r\ndata: " + bare + b"\n\n" + DONE
    parts = [sent[at : at + 1] for at in range(len(sent))]
    with RawServer(lambda wire, asked: wire.say(begin_stream(), *parts)) as server:
        assert await ask(server.url, streamed=True) == [event, event]


async def test_a_stream_read_to_its_end_leaves_its_connection_for_the_next() -> None:
    with RawServer(always(CHUNKED, b"e\r\ndata: [DONE]\n\n\r\n", b"0\r\n\r\n")) as server:
        endpoint = Endpoint(server.url)

        async def take(event: Any) -> None:
            assert event == 1

        for _ in range(3):
            await endpoint.stream(PATH, {}, take)
        await endpoint.aclose()
    assert server.connections == 1


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_large_bodies_go_both_ways() -> None:
    def echo(wire: Wire, asked: Asked) -> None:
        wire.say(said(asked.body))

    body = {"prompt": list(range(500_000))}
    with RawServer(echo) as server:
        endpoint = Endpoint(server.url)
        assert await endpoint.post(PATH, body) == body
        await endpoint.aclose()


async def test_a_server_that_closes_connections_without_saying_so() -> None:
    def once(wire: Wire, asked: Asked) -> None:
        wire.say(said(b"{}"))

    with RawServer(once) as server:
        endpoint, faults = Endpoint(server.url), 0
        for round_ in range(20):
            try:
                await endpoint.post(PATH, {})
            except TransientError as error:
                assert error.at_once
                faults += 1
                await endpoint.post(PATH, {})
            assert server.wait_for(lambda: server.left > round_)  # noqa: B023
        await endpoint.aclose()
    assert server.connections >= 20


async def test_a_connection_closed_while_a_request_is_on_its_way_is_opened_anew_at_once() -> None:
    def second_fails(wire: Wire, asked: Asked) -> bool:
        if asked.place == 1:
            return False
        wire.say(said(b"{}"))
        return True

    with RawServer(second_fails) as server:
        endpoint = Endpoint(server.url)
        await endpoint.post(PATH, {})
        with pytest.raises(TransientError, match=r"the connection broke") as raised:
            await endpoint.post(PATH, {})
        assert raised.value.at_once
        assert await endpoint.post(PATH, {}) == {}
        await endpoint.aclose()
    assert server.connections == 2
