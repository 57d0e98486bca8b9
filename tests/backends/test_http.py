"""An HTTP server as backends see it: what each of its faults becomes, and that nothing is left open."""

from __future__ import annotations

import json
import math
import sys
import threading
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.backends.raw import Asked, RawServer, Wire, begin_stream, deaf, refusing, said
from tts.backends.address import bare_url
from tts.backends.events import Events
from tts.backends.http import Endpoint, Timeouts
from tts.backends.http_errors import of_status
from tts.errors import BackendError, EngineDeadError, ParameterError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "sk-very-secret"
DONE = b"data: [DONE]\n\n"
PATH = "/v1/completions"


@pytest.fixture(params=("asyncio", "asyncio with httpx's own transport", "trio"))
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test once per event loop and transport."""
    if "own" in request.param:
        monkeypatch.setitem(sys.modules, "httpx_aiohttp", None)
    return str(request.param).split()[0]


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


async def test_json_goes_and_json_comes_back() -> None:
    with RawServer(always(said('{"is": "größer\u2028"}'.encode()))) as server:
        endpoint = Endpoint(server.url + "/v1/", headers={"X-Who": "me"})
        assert await endpoint.post("/a", {"b": ["ü", 1]}, headers={"x-session-id": "7"}) == {"is": "größer\u2028"}
        assert await endpoint.get("/c") == {"is": "größer\u2028"}
        assert await endpoint.text("/d") == '{"is": "größer\u2028"}'
        await endpoint.aclose()
    first = server.asked[0]
    assert json.loads(first.body) == {"b": ["ü", 1]}
    assert (first.headers["x-who"], first.headers["x-session-id"]) == ("me", "7")
    assert first.headers["content-type"] == "application/json"
    assert server.paths() == ["/a", "/c", "/d"]
    assert server.connections == 1


@both
async def test_nobody_there(streamed: bool) -> None:
    with pytest.raises(TransientError, match=r"cannot connect to 127.0.0.1:.*is the server running") as raised:
        await ask(refusing(), streamed=streamed)
    assert not raised.value.began


@both
async def test_a_port_that_does_not_answer(streamed: bool) -> None:
    with deaf() as url, pytest.raises(TransientError, match=r"cannot connect") as raised:
        await ask(url, streamed=streamed, connect=0.1)
    assert not raised.value.began


async def test_no_answer_within_the_time() -> None:
    with RawServer(hang) as server:
        with pytest.raises(TransientError, match=r"no answer from /v1/completions within 0.1 s") as raised:
            await ask(server.url, total=0.1)
        assert server.wait_for(lambda: server.left >= 1)
    assert raised.value.began


@pytest.mark.parametrize("begun", [b"", begin_stream(), begin_stream() + b": be patient\n\n"])
async def test_no_first_token_within_the_time(begun: bytes) -> None:
    def answer(wire: Wire, asked: Asked) -> None:
        wire.say(begun)
        hang(wire, asked)

    with RawServer(answer) as server, pytest.raises(TransientError, match=r"no first token within 0.1 s") as raised:
        await ask(server.url, streamed=True, first=0.1)
    assert raised.value.began


async def test_no_further_token_within_the_time() -> None:
    def answer(wire: Wire, asked: Asked) -> None:
        wire.say(begin_stream() + b'data: {"a": 1}\n\n')
        hang(wire, asked)

    with RawServer(answer) as server:
        with pytest.raises(TransientError, match=r"no further token within 0.1 s"):
            await ask(server.url, streamed=True, between=0.1, first=60)
        assert server.wait_for(lambda: server.left >= 1)


async def test_a_stream_that_never_ends() -> None:
    def answer(wire: Wire, asked: Asked) -> None:
        wire.say(begin_stream())
        while True:
            wire.say(b'data: {"a": 1}\n\n')

    with RawServer(answer) as server, pytest.raises(TransientError, match=r"no whole answer from .* within 0.1 s"):
        await ask(server.url, streamed=True, total=0.1)


@both
async def test_a_server_that_hangs_is_found_out(streamed: bool) -> None:
    silent = pytest.raises(TransientError, match=r"silent for 0.05 s, and does not answer /health")
    with RawServer(lambda wire, asked: wire.wait_until_left()) as server, silent as raised:
        await ask(server.url, streamed=streamed, between=0.05, connect=0.05)
    assert sorted(server.paths()) == ["/health", PATH]
    assert raised.value.began


@both
async def test_a_server_that_works_long_is_waited_for(streamed: bool) -> None:
    asked_for_life = threading.Event()

    def answer(wire: Wire, asked: Asked) -> bool:
        if asked.path == "/health":
            asked_for_life.set()
            wire.say(said(b"", "404 Not Found"))
        else:
            assert asked_for_life.wait(20)
            wire.say(begin_stream() + b'data: {"a": 1}\n\n' + DONE if streamed else said(b'{"a": 1}'))
        return not streamed

    with RawServer(answer) as server:
        assert await ask(server.url, streamed=streamed, between=0.05) == [{"a": 1}]


@both
@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable"])
async def test_an_engine_that_died_behind_a_server_that_waits_for_it(streamed: bool, status: str) -> None:
    def answer(wire: Wire, asked: Asked) -> None:
        if asked.path == "/health":
            wire.say(said(b"", status))
        wire.wait_until_left()

    with RawServer(answer) as server, pytest.raises(EngineDeadError, match=r"restart it"):
        await ask(server.url, streamed=streamed, between=0.05)


async def test_what_stands_before_an_engine_and_is_overloaded_is_not_dead() -> None:
    with RawServer(always(said(b"<html>busy</html>", "503 Service Unavailable"))) as server:
        endpoint = Endpoint(server.url)
        assert await endpoint.alive()
        await endpoint.aclose()


REFUSALS = [
    ("429 Too Many Requests", "", TransientError, None, False),
    ("429 Too Many Requests", "retry-after: 7\r\n", TransientError, 7.0, False),
    ("503 Service Unavailable", "retry-after: 1.5\r\n", TransientError, 1.5, False),
    ("503 Service Unavailable", "retry-after: soon\r\n", TransientError, None, False),
    ("503 Service Unavailable", "retry-after: -3\r\n", TransientError, 0.0, False),
    ("503 Service Unavailable", "retry-after: inf\r\n", TransientError, None, False),
    ("503 Service Unavailable", "retry-after: nan\r\n", TransientError, None, False),
    (
        "429 Too Many Requests",
        f"date: {formatdate(1e9, usegmt=True)}\r\nretry-after: {formatdate(1e9 + 30, usegmt=True)}\r\n",
        TransientError,
        30.0,
        False,
    ),
    ("429 Too Many Requests", f"retry-after: {formatdate(1e9, usegmt=True)}\r\n", TransientError, None, False),
    ("502 Bad Gateway", "retry-after: 0\r\n", TransientError, 0.0, True),
    ("504 Gateway Timeout", "", TransientError, None, True),
    ("408 Request Timeout", "", TransientError, None, True),
    ("500 Internal Server Error", "", TransientError, None, True),
    ("529 Overloaded", "", TransientError, None, False),
    ("400 Bad Request", "", ParameterError, None, None),
    ("422 Unprocessable Entity", "", ParameterError, None, None),
    ("404 Not Found", "", BackendError, None, None),
    ("401 Unauthorized", "", BackendError, None, None),
]


@both
@pytest.mark.parametrize(("status", "headers", "kind", "delay", "began"), REFUSALS)
async def test_refusals(
    streamed: bool, status: str, headers: str, kind: type[BackendError], delay: float | None, began: bool | None
) -> None:
    body = b'{"error": {"message": "No,\\n not  now.", "code": 1}}'
    refused = pytest.raises(kind, match=f"{PATH}: status {status[:3]}: No, not now.")
    with RawServer(always(said(body, status, headers))) as server, refused as raised:
        await ask(server.url, streamed=streamed)
    assert type(raised.value) is kind
    if isinstance(raised.value, TransientError):
        assert (raised.value.delay, raised.value.began) == (delay, began)


@both
@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "EngineCore encountered an issue. See stack trace above.", "code": 500}}',
        b'{"error": "vllm.v1.engine.exceptions.EngineDeadError"}',
        b"EngineDeadError",
    ],
)
async def test_a_dead_engine_is_no_passing_fault(streamed: bool, body: bytes) -> None:
    reply = said(body, "500 Internal Server Error")
    with RawServer(always(reply)) as server, pytest.raises(EngineDeadError, match=r"restart it"):
        await ask(server.url, streamed=streamed)


@pytest.mark.parametrize(
    "body",
    [{}, {"detail": [{"msg": "bad"}]}, {"error": {"message": None}}, {"error": {}}, [], None, "", 3, {"error": 1}],
)
def test_whatever_is_said_with_a_refusal_is_a_message(body: Any) -> None:
    assert "status 400" in str(of_status("host", PATH, 400, body))


async def test_a_server_that_sends_on_elsewhere() -> None:
    reply = said(b"", "307 Temporary Redirect", "location: https://elsewhere.example/v1\r\n")
    sent_on = pytest.raises(BackendError, match=r"sends on to https://elsewhere.example/v1")
    with RawServer(always(reply)) as server, sent_on as raised:
        await ask(server.url)
    assert not isinstance(raised.value, TransientError)


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
    ("event", "kind"),
    [
        ({"error": {"message": "out of memory"}}, TransientError),
        ({"error": {"message": "EngineCore encountered an issue."}}, EngineDeadError),
    ],
)
async def test_an_error_within_a_stream(event: object, kind: type[BackendError]) -> None:
    data = begin_stream() + b'data: {"a": 1}\n\ndata: ' + json.dumps(event).encode() + b"\n\n" + DONE
    with RawServer(lambda wire, asked: wire.say(data)) as server, pytest.raises(kind):
        await ask(server.url, streamed=True)


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


async def test_a_key_goes_out_and_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)

    def tell(wire: Wire, asked: Asked) -> None:
        wire.say(said(json.dumps({"error": {"message": f"bad key {KEY}"}}).encode(), "401 Unauthorized"))

    with RawServer(tell) as server:
        endpoint = Endpoint(server.url, key="MY_KEY")
        with pytest.raises(BackendError, match=r"bad key \*\*\*; set the environment variable") as raised:
            await endpoint.post(PATH, {})
        await endpoint.aclose()
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in f"{raised.value!r} {endpoint!r} {endpoint.name} {endpoint.url}"


async def test_a_key_among_the_headers_takes_the_place_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTS_API_KEY", "other")
    with RawServer(lambda wire, asked: wire.say(said(f"no {KEY}".encode(), "401 Unauthorized"))) as server:
        endpoint = Endpoint(server.url, headers={"Authorization": f"Bearer {KEY}"})
        with pytest.raises(BackendError, match=r"no \*\*\*"):
            await endpoint.post(PATH, {})
        await endpoint.aclose()
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


async def test_a_user_and_password_in_the_url_go_out_and_never_show() -> None:
    with RawServer(lambda wire, asked: wire.say(said(b"what is p:w d?", "404 Not Found"))) as server:
        endpoint = Endpoint(server.url.replace("//", "//me:p%3Aw%20d@"))
        with pytest.raises(BackendError) as raised:
            await endpoint.post(PATH, {})
        await endpoint.aclose()
    assert server.asked[0].headers["authorization"] == "Basic bWU6cDp3IGQ="
    shown = f"{raised.value} {raised.value.__cause__} {endpoint!r} {endpoint.name} {endpoint.url}"
    assert "p%3Aw" not in shown
    assert "p:w d" not in shown


async def test_a_password_does_not_show_where_nobody_is_there() -> None:
    endpoint = Endpoint(refusing().replace("//", "//me:password@"))
    with pytest.raises(TransientError) as raised:
        await endpoint.get("/v1/models")
    await endpoint.aclose()
    assert "password" not in f"{raised.value} {raised.value.__cause__!r}"


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://me:password@host", "http://", "http://me:password@host:99999", "http://h:x"]
)
def test_what_is_no_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ParameterError, match=r"is no URL of a server") as raised:
        Endpoint(url)
    assert "password" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", "http://u:p@h:1/v1"])
def test_urls_may_be_given_in_several_ways(url: str) -> None:
    assert bare_url(url)[0] == "http://h:1"
    assert Endpoint(url).name == "h:1"


@pytest.mark.parametrize("timeouts", [{"connect": 0}, {"first": -1}, {"total": math.nan}, {"last": 1}])
def test_what_is_no_patience_is_refused(timeouts: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Timeouts(**timeouts)


@both
async def test_cancelling_closes_the_connection(streamed: bool) -> None:
    with RawServer(hang) as server:
        endpoint = Endpoint(server.url)

        async def take(event: Any) -> None:
            """Nothing comes."""

        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                if streamed:
                    tasks.start_soon(endpoint.stream, PATH, {}, take)
                else:
                    tasks.start_soon(endpoint.post, PATH, {})
            await anyio.to_thread.run_sync(server.wait_for, lambda: len(server.asked) == 200)
            tasks.cancel_scope.cancel()
        assert server.wait_for(lambda: server.left == 200)
        assert len(server.asked) == 200
        await endpoint.aclose()


@both
async def test_a_cancellation_is_not_taken_for_a_timeout(streamed: bool) -> None:
    with RawServer(hang) as server:
        with anyio.move_on_after(0.05) as scope:
            await ask(server.url, streamed=streamed, total=0.05, first=0.05, between=0.05)
        assert scope.cancelled_caught


def test_one_endpoint_serves_event_loops_one_after_another_and_at_once(anyio_backend: str) -> None:
    with RawServer(always(said(b"{}"))) as server:
        endpoint, together = Endpoint(server.url), threading.Barrier(2)

        async def use() -> None:
            await endpoint.post(PATH, {})
            together.wait(20)
            await endpoint.post(PATH, {})

        def loop() -> None:
            anyio.run(use, backend=anyio_backend)

        for _ in range(2):
            threads = [threading.Thread(target=loop) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        # No loop has closed anything, and nothing is left: an unclosed connection would be a ResourceWarning.
        assert server.wait_for(lambda: server.left == 4)
    assert len(server.asked) == 8
    assert server.connections == 4


async def test_what_was_closed_opens_again() -> None:
    with RawServer(always(said(b"{}"))) as server:
        endpoint = Endpoint(server.url)
        for _ in range(2):
            assert await endpoint.post(PATH, {}) == {}
            await endpoint.aclose()
            await endpoint.aclose()
        assert server.wait_for(lambda: server.left == 2)
