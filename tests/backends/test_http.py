"""An HTTP server as backends see it: what each fault on the way to an answer becomes."""

from __future__ import annotations

import json
import threading
from email.utils import formatdate
from typing import Any

import pytest

from tests.backends.raw import Asked, RawServer, Wire, begin_stream, deaf, refusing, said
from tests.backends.talk import DONE, PATH, TRANSPORTS, always, ask, both, chosen, hang
from tts.backends.http import Endpoint
from tts.backends.http_errors import LONGEST_DELAY, of_status
from tts.errors import BackendError, EngineDeadError, ParameterError, TransientError


@pytest.fixture(params=TRANSPORTS)
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test once per event loop and transport."""
    return chosen(request.param, monkeypatch)


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
        await ask(server.url, streamed=streamed, between=0.05, connect=0.3)
    assert server.paths()[0] == PATH
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
    ("503 Service Unavailable", "retry-after: -3\r\n", TransientError, None, False),
    ("429 Too Many Requests", "retry-after: 86400000\r\n", TransientError, LONGEST_DELAY, False),
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


@pytest.mark.parametrize(
    "body",
    [
        b"upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        b"",
        b'{"message": "failure to get a peer from the balancer"}',
        b'{"error": "busy"}',
        b"[]",
    ],
)
async def test_a_gateway_that_is_not_available_may_have_passed_the_request_on(body: bytes) -> None:
    reply = said(body, "503 Service Unavailable", "retry-after: 2\r\n")
    with RawServer(always(reply)) as server, pytest.raises(TransientError) as raised:
        await ask(server.url)
    assert (raised.value.began, raised.value.delay) == (True, 2.0)


@pytest.mark.parametrize(
    ("status", "kind"), [(400, ParameterError), (404, BackendError), (429, TransientError), (503, EngineDeadError)]
)
def test_a_question_about_dead_engines_is_not_taken_for_one(status: int, kind: type[BackendError]) -> None:
    body = {"error": {"message": "not valid: 'Why does EngineDeadError occur?'", "code": status}}
    assert type(of_status("host", PATH, status, body)) is kind


async def test_a_server_that_sends_on_elsewhere() -> None:
    reply = said(b"", "307 Temporary Redirect", "location: https://elsewhere.example/v1\r\n")
    sent_on = pytest.raises(BackendError, match=r"sends on to https://elsewhere.example/v1")
    with RawServer(always(reply)) as server, sent_on as raised:
        await ask(server.url)
    assert not isinstance(raised.value, TransientError)
