"""A scripted OpenAI-compatible server over real HTTP, in threads of its own, of any manners, honest or not.

It says what a script of `tts.fakes` says, a character a token. A conversation is its last question; what an answer says
so far is the path.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from tts.fakes import cut, tree_script
from tts.types import Finish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tts.fakes import Script

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
NEUTRAL = {"presence_penalty", "frequency_penalty"}
WIDER = {"repetition_penalty", "min_p", "top_k"}
FLAGS = {"continue_final_message", "add_generation_prompt"}
TEMPLATE = "{{ messages[-1].content + '\\n' }}"


@dataclass(kw_only=True)
class Manners:
    """How the server behaves; by default as the best do.

    Attributes:
        paths: Endpoints that it has.
        dialect: How it lets an assistant's message be continued; None always begins a new turn.
        trims: It drops white space at the end of what was begun.
        seeds: "kept", "ignored", or "small" where one above 31 bits is refused.
        caps: It keeps to the cap; None lowers it to 5.
        limit: Name of the field of the cap; another is refused.
        logprobs: "kept", "none" although asked for, "short" of the last one, or "refused".
        most: Log-probabilities of the most likely tokens, at most.
        counts: Replies say how many tokens were sampled.
        streams: Where streams say so: "along", "end", or "never".
        stop_field: Where it says which stop text it met.
        stop_kept: It leaves that text in.
        stops: It knows stop texts.
        reasoning: Where it puts what is between <think> and </think>.
        several: It draws several at once.
        strict: It refuses fields that it does not know.
        chunk: Tokens an event.
        models: What it serves.
        context: What it says of its context.
        key: What it wants to be shown.
    """

    paths: frozenset[str] = frozenset({COMPLETIONS, CHAT})
    dialect: str | None = "continue_final_message"
    trims: bool = False
    seeds: str = "kept"
    caps: bool | None = True
    limit: str = "max_tokens"
    logprobs: str = "kept"
    most: int = 20
    counts: bool = True
    streams: str = "along"
    stop_field: str | None = "stop_reason"
    stop_kept: bool = False
    stops: bool = True
    reasoning: str | None = None
    several: bool = True
    strict: bool = False
    chunk: int = 1
    models: tuple[str, ...] = ("scripted",)
    context: int | None = None
    key: str = ""


@dataclass(frozen=True)
class Call:
    """A request as it came: `number` counts those to the same path, from 0."""

    path: str
    body: Any
    headers: dict[str, str]
    number: int


@dataclass
class Response:
    """What to answer: JSON, which `sampled` tokens went into, or events of a stream, of which `cut` are sent."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    events: list[Any] | None = None
    cut: int | None = None
    sampled: int = 0


class FakeOpenAI:
    """The server; a context manager. `misbehave` may answer any call, or change what is to be said.

    Attributes:
        calls: Every request so far.
        generated: Tokens sampled so far.
        pace: Waited on before each event of a stream.
    """

    def __init__(self, script: Script | None = None, manners: Manners | None = None) -> None:
        self.script = steady(script or tree_script())
        self.manners = manners or Manners()
        self.misbehave: Callable[[Call, Response], Response] = lambda call, response: response
        self.pace: Callable[[], None] = lambda: None
        self.calls: list[Call] = []
        self.generated = 0
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def asked(self) -> list[Any]:
        """The bodies that asked for text."""
        return [call.body for call in self.calls if call.path in (COMPLETIONS, CHAT)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, call: Call) -> Response:
        manners = self.manners
        if manners.key and call.headers.get("authorization") != f"Bearer {manners.key}":
            return refusal("Incorrect API key provided", 401)
        if call.path == "/v1/models":
            listed = [{"id": name} | ({"max_model_len": manners.context} if manners.context else {})
                      for name in manners.models]  # fmt: skip
            return Response(body={"data": listed})
        if call.path not in manners.paths:
            return refusal("Not Found", 404)
        return self._refused(call.body) or self._say(call.path == CHAT, call.body)

    def _refused(self, body: Any) -> Response | None:
        manners = self.manners
        if {"max_tokens", "max_completion_tokens"} & set(body) != {manners.limit}:
            return refusal(f"Unsupported parameter: use '{manners.limit}' instead.")
        if manners.strict and (unknown := set(body) & (WIDER | FLAGS)):
            return refusal(f"Unrecognized request arguments supplied: {', '.join(sorted(unknown))}")
        if manners.strict and set(body.get("stream_options", ())) - {"include_usage"}:
            return refusal("Unrecognized stream_options")
        if manners.logprobs == "refused" and "logprobs" in body:
            return refusal("logprobs are not supported")
        if max(body.get("top_logprobs", 0), int(body.get("logprobs", 0))) > manners.most:
            return refusal(f"top_logprobs is at most {manners.most}")
        if manners.seeds == "small" and body.get("seed", 0) >= 1 << 31:
            return refusal("seed is out of range")
        if body.get("n", 1) > 1 and not manners.several:
            return refusal("n is 1")
        return None

    def _say(self, chat: bool, body: Any) -> Response:
        prompt, path = self._read(chat, body)
        usage: dict[str, Any] = {"prompt_tokens": len(prompt) + len(path)}
        usage["prompt_tokens_details"] = {"cached_tokens": len(path)}
        children = [self._child(path, body, place) for place in range(body.get("n", 1))]
        if body.get("stream"):
            return Response(events=list(self._events(chat, body, children[0], usage)))
        sampled = sum(child.tokens for child in children)
        choices = [child.choice(self.manners, chat, index) for index, child in enumerate(children)]
        told = {"usage": usage | {"completion_tokens": sampled}} if self.manners.counts else {}
        return Response(body={"choices": choices, **told, "system_fingerprint": "fake"}, sampled=sampled)

    def _read(self, chat: bool, body: Any) -> tuple[str, str]:
        if not chat:
            question, _, path = body["prompt"].partition("\n")
            return question + "\n", path
        turns = body["messages"]
        last = turns[-1] if turns[-1]["role"] == "assistant" else None
        question = [turn for turn in turns if turn["role"] == "user"][-1]["content"] + "\n"
        if last is None or self._dialect(body, last) != self.manners.dialect:
            return question, ""
        begun = last["content"]
        return question, begun.rstrip() if self.manners.trims else begun

    def _dialect(self, body: Any, last: Any) -> str:
        if last.get("prefix"):
            return "prefix"
        if body.get("continue_final_message") and body.get("add_generation_prompt") is False:
            return "continue_final_message"
        return "plain"

    def _child(self, path: str, body: Any, place: int) -> Child:
        manners = self.manners
        seed = body.get("seed", len(self.calls)) if manners.seeds != "ignored" else len(self.calls)
        stops = body.get("stop", ()) if manners.stops else ()
        text, finish = cut(self.script(path, seed + place if body["temperature"] else 0), stops, ())
        cap = body[manners.limit]
        cap = cap if manners.caps else cap + 7 if manners.caps is False else min(cap, 5)
        if len(text) + (finish is Finish.EOS) > cap:
            return Child(text[:cap], "length", "", cap, body)
        if finish is Finish.EOS:
            return Child(text, "stop", "", len(text) + 1, body)
        met = next(stop for stop in stops if text.endswith(stop))
        return Child(text if manners.stop_kept else text.removesuffix(met), "stop", met, len(text), body)

    def _events(self, chat: bool, body: Any, child: Child, usage: Any) -> Iterator[Any]:
        manners, options = self.manners, body.get("stream_options", {})
        along = manners.streams == "along" and options.get("continuous_usage_stats")
        text = child.text
        parts = [text[at : at + manners.chunk] for at in range(0, len(text), manners.chunk)] or [""]
        seen = 0
        for at, part in enumerate(parts):
            last = at == len(parts) - 1
            tokens = child.tokens - seen if last else len(part)
            seen += tokens
            piece = Child(
                part, child.finish if last else None, child.met if last else "", tokens, body, child.first + at
            )
            event = {"choices": [piece.choice(manners, chat, 0, delta=True)], "sampled": tokens}
            yield event | ({"usage": usage | {"completion_tokens": seen}} if along else {})
        if manners.streams != "never" and options.get("include_usage"):
            yield {"choices": [], "usage": usage | {"completion_tokens": child.tokens}}


@dataclass(frozen=True)
class Child:
    """An answer or a piece of one; `met` is the stop text that ended it, `first` the place of its first token."""

    text: str
    finish: str | None
    met: str
    tokens: int
    body: Any
    first: int = 0

    def choice(self, manners: Manners, chat: bool, index: int, *, delta: bool = False) -> dict[str, Any]:
        said: dict[str, Any] = {"index": index, "finish_reason": self.finish}
        if chat:
            said["delta" if delta else "message"] = self._turn(manners)
        else:
            said["text"] = self.text
        if manners.stop_field and self.finish == "stop":
            said[manners.stop_field] = self.met or None
        if self.body.get("logprobs") and manners.logprobs != "none":
            said["logprobs"] = self._logprobs(manners, chat)
        return said

    def _turn(self, manners: Manners) -> dict[str, Any]:
        if manners.reasoning is None or "<think>" not in self.text:
            return {"role": "assistant", "content": self.text}
        thought, _, content = self.text.partition("<think>")[2].partition("</think>")
        return {"role": "assistant", "content": content or None, manners.reasoning: thought}

    def _logprobs(self, manners: Manners, chat: bool) -> dict[str, Any]:
        short = manners.logprobs == "short" and self.finish == "stop"
        values = [-((self.first + at) % 7) / 10 for at in range(self.tokens - short)]
        top = self.body["top_logprobs"] if chat else self.body["logprobs"]
        rows = [[-rank / 10 for rank in range(top)] for _ in values]
        if not chat:
            named = [{f"t{rank}": value for rank, value in enumerate(row)} for row in rows]
            return {"token_logprobs": values, "top_logprobs": named}
        entries = zip(values, rows, strict=True)
        return {"content": [{"logprob": v, "top_logprobs": [{"logprob": top} for top in row]} for v, row in entries]}


def steady(script: Script) -> Script:
    """Let a script go on from the middle of a step as it would have gone on by itself."""

    def say(path: str, seed: int) -> str:
        start = path.rfind("\n\n") + 2 if "\n\n" in path else 0
        whole = script(path[:start], seed)
        return whole[len(path) - start :] if whole.startswith(path[start:]) else script(path, seed)

    return say


def refusal(message: str, status: int = 400, **headers: str) -> Response:
    return Response(status, {"error": {"message": message, "code": status}}, headers)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    fake: FakeOpenAI

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
            number = sum(call.path == self.path for call in fake.calls)
            call = Call(self.path, body, {name.lower(): value for name, value in self.headers.items()}, number)
            fake.calls.append(call)
            response = fake.misbehave(call, fake.answer(call))
            fake.generated += response.sampled
        content = b"" if response.events is not None else json.dumps(response.body).encode()
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name.replace("_", "-"), value)
        if response.events is None:
            self.send_header("content-length", str(len(content)))
        else:
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self._stream(response)

    def _stream(self, response: Response) -> None:
        if response.events is None:
            return
        fake = self.server.fake
        self.close_connection = True
        for event in response.events[: response.cut]:
            fake.pace()
            with fake.lock:
                fake.generated += event.pop("sampled", 0)
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        if response.cut is None:
            self.wfile.write(b"data: [DONE]\n\n")
