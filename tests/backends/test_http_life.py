"""Keys, cancellation, event loops: nothing shows that must not, and nothing is left open."""

from __future__ import annotations

import gc
import json
import math
import threading
import time
import traceback
import weakref
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from pydantic import ValidationError

from tests.backends.raw import Asked, RawServer, Wire, begin_stream, refusing, said
from tests.backends.talk import DONE, PATH, TRANSPORTS, always, ask, both, chosen, hang
from tts.backends.address import bare_url
from tts.backends.http import Endpoint, Timeouts
from tts.errors import BackendError, ParameterError, TransientError

KEY = "sk-very-secret"


@pytest.fixture(params=TRANSPORTS)
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test once per event loop and transport."""
    return chosen(request.param, monkeypatch)


async def test_a_key_goes_out_and_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)

    def tell(wire: Wire, asked: Asked) -> None:
        wire.say(said(json.dumps({"error": {"message": f"bad key {KEY}"}}).encode(), "401 Unauthorized"))

    with RawServer(tell) as server:
        endpoint = Endpoint(server.url, key="MY_KEY")
        with pytest.raises(BackendError, match=r"bad key \*\*\*; .* from MY_KEY") as raised:
            await endpoint.post(PATH, {})
        await endpoint.aclose()
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in f"{raised.value!r} {endpoint!r} {endpoint.name} {endpoint.url}"


async def test_space_around_a_key_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f" {KEY}\r\n")
    with RawServer(always(said(b"{}"))) as server:
        endpoint = Endpoint(server.url, key="MY_KEY")
        await endpoint.post(PATH, {})
        await endpoint.aclose()
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("mark", ["\n", "\t", "\x1b", "\x7f", "ü"])
def test_what_headers_cannot_hold_is_refused_and_does_not_show(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for headers in ({}, {"X-Api-Key": f"{KEY}{mark}{KEY}"}):
        monkeypatch.setenv("TTS_API_KEY", KEY if headers else f"{KEY}{mark}{KEY}")
        with pytest.raises(ParameterError, match=r"the header '(authorization|x-api-key)' holds") as raised:
            Endpoint("http://host", headers=headers)
        assert KEY not in str(raised.value)


@both
async def test_a_key_does_not_show_in_what_a_transport_says(streamed: bool) -> None:
    with RawServer(always(f"HTTP/1.1 200 OK\r\ncontent-length: {KEY}\r\n\r\n".encode())) as server:
        endpoint = Endpoint(server.url, headers={"Authorization": f"Bearer {KEY}"})

        async def take(event: Any) -> None:
            """Nothing comes."""

        with pytest.raises(TransientError, match=r"the connection broke") as raised:
            await (endpoint.stream(PATH, {}, take) if streamed else endpoint.post(PATH, {}))
        await endpoint.aclose()
    assert KEY not in "".join(traceback.format_exception(raised.value))


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
    "url",
    [
        "", "localhost:8000", "ftp://me:password@host", "http://", "http://me:password@host:99999", "http://h:x",
        "me:password@host:8000", "http:/me:password@host:8000", "http://me:pass/password@host:8000",
        "http://me:8/password@host:8000", "http://me:p?password@host", "http://me:p#password@host", "http://[::1",
        "http://me:password@h\u2100st",
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ParameterError, match=r"is no URL of a server") as raised:
        Endpoint(url)
    assert "pass" not in f"{raised.value} {raised.value.__cause__}"
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


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


async def test_a_server_that_sends_is_not_given_up_for_what_it_does_not_say_of_its_health() -> None:
    asked_for_life = threading.Event()

    def answer(wire: Wire, asked: Asked) -> None:
        if asked.path == "/health":
            asked_for_life.set()
            wire.wait_until_left()
            return
        wire.say(begin_stream())
        while not asked_for_life.wait(0.01) or server.left == 0:
            wire.say(b": still here\n\n" if asked_for_life.is_set() else b"")
        wire.say(DONE)

    with RawServer(answer) as server:
        assert await ask(server.url, streamed=True, between=0.3, connect=1) == []


async def test_a_server_that_sends_is_not_asked_for_its_health() -> None:
    def answer(wire: Wire, asked: Asked) -> None:
        wire.say(begin_stream())
        for _ in range(60):
            wire.say(b": still here\n\n")
            time.sleep(0.02)
        wire.say(DONE)

    with RawServer(answer) as server:
        assert await ask(server.url, streamed=True, between=1) == []
    assert server.paths() == [PATH]


async def test_when_something_was_last_heard_is_known() -> None:
    with RawServer(always(said(b"{}"))) as server:
        endpoint = Endpoint(server.url)
        assert endpoint.last_heard == -math.inf
        for ask_it in (lambda: endpoint.post(PATH, {}), endpoint.alive):
            before = anyio.current_time()
            await ask_it()
            assert before <= endpoint.last_heard <= anyio.current_time()
        await endpoint.aclose()
    assert endpoint.last_heard == -math.inf


async def test_an_endpoint_that_is_forgotten_is_closed_with_its_loop() -> None:
    with RawServer(always(said(b"{}"))) as server:
        await Endpoint(server.url).post(PATH, {})
        gc.collect()  # trio complains here of what nobody closed
        await anyio.lowlevel.checkpoint()


async def test_endpoints_leave_nothing_in_the_event_loop() -> None:
    with RawServer(always(said(b"{}"))) as server:
        left = []
        for _ in range(3):
            endpoint = Endpoint(server.url)
            await endpoint.post(PATH, {})
            await endpoint.aclose()
            left.append(len(anyio.lowlevel._run_vars[anyio.lowlevel.current_token().native_token]))
            forgotten = weakref.ref(endpoint)
            del endpoint
            gc.collect()
            assert forgotten() is None
    assert left[0] == left[-1]


async def test_what_was_closed_opens_again() -> None:
    with RawServer(always(said(b"{}"))) as server:
        endpoint = Endpoint(server.url)
        for _ in range(2):
            assert await endpoint.post(PATH, {}) == {}
            await endpoint.aclose()
            await endpoint.aclose()
        assert server.wait_for(lambda: server.left == 2)
