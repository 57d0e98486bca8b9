"""A scripted vLLM server over real HTTP, in threads of its own, that can be made to misbehave.

It says what a script of `tts.fakes` says, a character a token, so that what comes over the wire can be compared with
`ScriptedGenerator`. Questions are one line; all after the first newline of a prompt is the path.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from tests.backends import fake_scores
from tts.fakes import cut, letters, tree_script
from tts.types import Finish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tts.fakes import Script

END = 0
"""The token that ends a sequence."""
MODEL = "scripted"


@dataclass(frozen=True)
class Call:
    """A request as it came: `number` counts those to the same path, from 0."""

    path: str
    body: Any
    headers: dict[str, str]
    number: int


@dataclass
class Response:
    """What to answer instead.

    `cut` bytes of it are sent at most and then the connection is closed, `reset` resets it instead; `stall` is waited
    for before anything is said; `chunks` are sent as server-sent events.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[Any] | None = None
    cut: int | None = None
    reset: bool = False
    stall: threading.Event | None = None


Hook = "Callable[[Call], Response | None]"


class FakeVLLM:
    """The server; a context manager. `misbehave` may answer any call, or change what it says by returning None.

    Attributes:
        calls: Every request so far.
        generated: Tokens sampled so far.
        running: Sequences in flight; those of a client that has gone are given up before their next token.
        pace: Waited on before each token of a stream, if given.
        task: What it was started for: generate, classify, token_classify or step; None serves everything.
        classes: How many its scores tell apart.
    """

    def __init__(self, script: Script | None = None, *, context: int = 4096, version: str = "0.32.0") -> None:
        self.script = script or tree_script()
        self.context = context
        self.version = version
        self.fields: list[str] | None = None
        self.task: str | None = None
        self.classes = 2
        self.misbehave: Callable[[Call], Response | None] = lambda call: None
        self.pace: Callable[[], None] = lambda: None
        self.calls: list[Call] = []
        self.generated = 0
        self.running = 0
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def count(self, path: str) -> int:
        """How many calls came to a path."""
        return sum(call.path == path for call in self.calls)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, call: Call) -> Response:
        """What a real server would say."""
        known: dict[str, Callable[[Any], Any]] = {
            "/health": lambda _: {},
            "/version": lambda _: {"version": self.version},
            "/v1/models": lambda _: {"data": [{"id": MODEL, "root": MODEL, "max_model_len": self.context}]},
            "/openapi.json": lambda _: self._openapi(),
            "/tokenize": self._tokenize,
            "/detokenize": lambda body: {"prompt": text_of(body["tokens"])},
            "/v1/completions": self._complete,
            "/classify": lambda body: fake_scores.classify(self, body),
            "/pooling": lambda body: fake_scores.pool(self, body),
        }
        status = fake_scores.status(call.path, self.task) if call.path in known else 404
        if status != 200:
            return refusal("Not Found", status)
        if any(token < 0 or token > 0x10FFFF for ids in (call.body or {}).get("input", ()) for token in ids):
            return refusal("Token id is out of vocabulary")
        said = known[call.path](call.body)
        response = said if isinstance(said, Response) else Response(body=said)
        if response.status != 200 and (call.body or {}).get("stream"):
            return Response(chunks=[response.body])  # the head was sent before the engine was asked
        return response

    def _openapi(self) -> Any:
        names = self.fields
        if names is None:
            return {}
        schema = {"$ref": "#/components/schemas/CompletionRequest"}
        post = {"requestBody": {"content": {"application/json": {"schema": schema}}}}
        parts: Any = {"schemas": {"CompletionRequest": {"properties": {name: {} for name in names}}}}
        return {"paths": {"/v1/completions": {"post": post}}, "components": parts}

    def _tokenize(self, body: Any) -> Any:
        text = "".join(m["content"] + "\n" for m in body["messages"]) if "messages" in body else body["prompt"]
        return {"count": len(text), "max_model_len": self.context, "tokens": letters(text).tolist()}

    def _complete(self, body: Any) -> Response:
        prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        if body.get("priority"):
            return refusal("Got priority 1 but Priority scheduling is not enabled.")
        if "logprob_token_ids" in body:
            return Response(body=fake_scores.verdicts(body))
        if not 0 < body["max_tokens"] <= self.context:
            return refusal(f"This model's maximum context length is {self.context} tokens.")
        children = [self.child(prompt, body, place) for prompt in prompts for place in range(body["n"])]
        usage = {"prompt_tokens": sum(map(len, prompts)), "prompt_tokens_details": {"cached_tokens": 3}}
        if not body.get("stream"):
            self.generated += sum(len(child["token_ids"]) for child in children)
            choices = [{"index": index, **child} for index, child in enumerate(children)]
            return Response(body={"choices": choices, "usage": usage})
        return Response(chunks=[*pieces(children), {"choices": [], "usage": usage}])

    def child(self, prompt: list[int], body: Any, place: int) -> dict[str, Any]:
        """One choice, as vLLM gives it."""
        seed = body["seed"] + place if body["temperature"] else 0
        path = text_of(prompt).partition("\n")[2]
        text, finish = cut(self.script(path, seed), body.get("stop", ()), ())
        reason: str | None = None if finish is Finish.EOS else max(s for s in body["stop"] if text.endswith(s))
        ids = [*letters(text), *([END] if finish is Finish.EOS else [])]
        kind = "stop"
        if len(ids) > body["max_tokens"]:
            ids, kind, reason = ids[: body["max_tokens"]], "length", None
        child: dict[str, Any] = {"text": text_of(ids), "token_ids": ids, "finish_reason": kind, "stop_reason": reason}
        if "logprobs" in body:
            values = [-((31 * seed + 17 * at) % 101) / 50 for at in range(len(ids))]
            rows = [{f"token_id:{rank}": -rank / 10 for rank in range(body["logprobs"])} for _ in ids]
            child["logprobs"] = {"token_logprobs": values, "top_logprobs": rows}
        return child


def text_of(ids: list[int]) -> str:
    return "".join(chr(token) for token in ids if token != END)


def refusal(message: str, status: int = 400) -> Response:
    return Response(status, {"error": {"message": message, "type": "BadRequestError", "code": status}})


def pieces(children: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every child's tokens in turn, one an event."""
    for at in range(max(len(child["token_ids"]) for child in children)):
        for index, child in enumerate(children):
            ids = child["token_ids"]
            if at < len(ids):
                last = at == len(ids) - 1
                piece = {"index": index, "text": text_of(ids[at : at + 1]), "token_ids": ids[at : at + 1]}
                piece |= {name: child[name] if last else None for name in ("finish_reason", "stop_reason")}
                if "logprobs" in child:
                    piece["logprobs"] = {name: rows[at : at + 1] for name, rows in child["logprobs"].items()}
                yield {"choices": [piece]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    fake: FakeVLLM

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is no error of the server."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._handle(None)

    def do_POST(self) -> None:
        self._handle(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _handle(self, body: Any) -> None:
        fake = self.server.fake
        with fake.lock:
            call = Call(self.path, body, {k.lower(): v for k, v in self.headers.items()}, fake.count(self.path))
            fake.calls.append(call)
        response = fake.misbehave(call) or fake.answer(call)
        if response.stall is not None:
            response.stall.wait(30)
        if response.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            raise ConnectionResetError
        self._send(response)

    def _send(self, response: Response) -> None:
        events = response.chunks
        content = response.body if isinstance(response.body, bytes) else json.dumps(response.body).encode()
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if events is None:
            self.send_header("content-length", str(len(content)))
        else:
            self.send_header("connection", "close")
        self.end_headers()
        if events is None:
            self._write(content, response)
        else:
            self._stream(events, response)

    def _write(self, content: bytes, response: Response) -> None:
        self.wfile.write(content[: response.cut])
        if response.cut is not None:
            self.close_connection = True

    def _stream(self, events: list[Any], response: Response) -> None:
        fake, sent = self.server.fake, 0
        self.close_connection = True
        fake.running += 1
        try:
            for event in events:
                fake.pace()
                data = f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
                if response.cut is not None and sent + len(data) > response.cut:
                    self.wfile.write(data[: response.cut - sent])
                    return
                fake.generated += sum(len(choice["token_ids"] or ()) for choice in event.get("choices", ()))
                self.wfile.write(data)
                sent += len(data)
            if response.cut is None:
                self.wfile.write(b"data: [DONE]\n\n")
        except (BrokenPipeError, ConnectionResetError):
            return
        finally:
            fake.running -= 1
