"""Drawing text from any OpenAI-compatible server, as far as it has shown what it can do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from tts.affinity import caller
from tts.backends.http import Endpoint, Timeouts
from tts.backends.openai.probe import Abilities, probe
from tts.backends.openai.prompts import Prompts
from tts.backends.openai.reply import Reply
from tts.backends.openai.wire import CHAT, COMPLETIONS, Route, Wish, body_of
from tts.capabilities import Capabilities
from tts.errors import BackendError, NeedsError, ParameterError, ProblemError, TransientError
from tts.groups import Tasks
from tts.protocols import SEED_BLOCK
from tts.types import Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tts.protocols import GenerationRequest, Sink
    from tts.types import Message

SESSION = "x-session-id"
"""Header that tells routers with sticky sessions to which problem a call belongs."""


class OpenAIServer:
    """A generator on an OpenAI-compatible server: llama.cpp, SGLang, Ollama, a hosted API.

    What the server can do is found out by asking it (`tts.backends.openai.probe`); a strategy that needs more is
    refused. Without `template` and `tokenizer` conversations go to `/v1/chat/completions`, and a path is continued as
    the assistant's begun message, in the form in which the server continues it exactly, if there is one. With one of
    them the chat template is applied here, and text goes to `/v1/completions`; for a base model
    `template="{{ messages[-1].content }}"` does.

    A child is a request, so that its tokens are the server's own count. A step ends where the server says that it met
    the delimiter. Where it does not say, steps are streamed and cut here behind the delimiter, and the server is left:
    all tokens of the piece with the delimiter are counted, as many as a busy server puts into it, and what may have
    been sampled beyond it is reported as unobserved. Prompt tokens that such a server has not told by then are
    estimated from the prompt's length.

    Thinking that the server splits off is put before the answer between the sampling's marks. Such a path cannot be
    put together again exactly, so that it is not continued.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        template: str | None = None,
        tokenizer: str | None = None,
        abilities: Abilities | None = None,
        question: str | None = None,
        key: str = "OPENAI_API_KEY",
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | Mapping[str, float] | None = None,
        context: int | None = None,
        max_tokens: int | None = None,
        step_tokens: int | None = None,
        task: str | None = None,
        dollars_per_token: float | None = None,
        dollars_per_prompt_token: float = 0.0,
        dollars_per_cached_token: float = 0.0,
        flops_per_token: float | None = None,
    ) -> None:
        """Name a server; it is asked what it can do by `connect`, which `solve` calls.

        Args:
            url: Where it is, such as "http://localhost:8080".
            model: The served model's name; None if it serves one only.
            template: A chat template (Jinja) to apply here, without the token that begins a text, which servers add.
            tokenizer: A folder with the model's tokenizer.json and tokenizer_config.json, whose chat template is
                applied here unless `template` is given; whether it is the server's is seen from a count of tokens.
            abilities: What the server can do, if that is known; asking takes 10 to 25 requests and 200 to 300 tokens.
            question: What to ask a model that knows little else, with an answer of a few sentences.
            key: Name of the environment variable with the server's key.
            headers: Sent with every request.
            timeouts: How long the server may take.
            context: Prompt and answer together, in tokens; None takes what the server says.
            max_tokens: Suggested cap of a path; half of the context if not given.
            step_tokens: Suggested cap of a step.
            task: Task whose rules read the answers.
            dollars_per_token: Price of a sampled token.
            dollars_per_prompt_token: Price of a computed prompt token.
            dollars_per_cached_token: Price of a cached prompt token.
            flops_per_token: Operations of a token: about twice the parameters that are active.

        Raises:
            ParameterError: The URL is none, or template or tokenizer cannot be read.
        """
        self.endpoint = Endpoint(url, key=key, headers=headers, timeouts=timeouts)
        self._prompts = Prompts(template, tokenizer)
        self._model = model
        self._given = abilities
        self._question = question
        self._context = context
        self._route = Route(path=COMPLETIONS if self._prompts.here else CHAT)
        self._tokens_per_byte = 1.0
        self._connected: Capabilities | None = None
        self._suggested = Capabilities(
            name="", token_ids=False, logprobs_free=False, max_tokens=max_tokens, step_tokens=step_tokens, task=task,
            dollars_per_token=dollars_per_token, dollars_per_prompt_token=dollars_per_prompt_token,
            dollars_per_cached_token=dollars_per_cached_token, flops_per_token=flops_per_token,
        )  # fmt: skip

    async def connect(self) -> None:
        """Find out what the server can do, unless that was given.

        Raises:
            ParameterError: The tokenizer given is not the server's.
            BackendError: It serves no such model, lacks the endpoint, or does not keep to what budgets need.
            TransientError: It does not answer.
        """
        if self._connected is not None:
            return
        path = self._route.path
        found = self._given or await probe(
            self.endpoint, self._model, paths=(path,), render=self._prompts.render_question, question=self._question
        )
        route = self._checked(found)
        if self._prompts.here:
            await self._prompts.check(self.endpoint, route, found.model)
        self._model, self._route = found.model, route
        self._connected = self._capabilities(found, route)

    def _checked(self, found: Abilities) -> Route:
        try:
            route = found.route(self._route.path)
        except BackendError as error:
            other = "template= for /v1/completions" if self._route.chat else "no template= and no tokenizer="
            raise BackendError(f"{self.endpoint.name}: {error}; it may work with {other}") from None
        if not (route.counts and route.limited):
            why = route.lacks.get("counts") or route.lacks.get("limited") or "it was not asked"
            raise BackendError(f"{self.endpoint.name} cannot be kept within a budget: {why}")
        return route

    def _capabilities(self, found: Abilities, route: Route) -> Capabilities:
        context = found.context if self._context is None else self._context
        lacks = {"continuation": route.lacks.get("continues", "")}
        if route.continues and not (route.stop_field or route.streams):
            lacks["continuation"] = f"{route.lacks.get('stop_field', '')}, and {route.lacks.get('streams', '')}"
        elif not self._prompts.here and not route.continues:
            lacks["continuation"] += "; with template= its /v1/completions may"
        lacks |= {name: route.lacks.get("logprobs", "") for name in ("logprobs", "top_logprobs")}
        return replace(
            self._suggested,
            name=f"openai/{found.model}",
            continuation=route.continues is not None and bool(route.stop_field or route.streams),
            logprobs=route.logprobs,
            top_logprobs=route.top_logprobs,
            seeds=route.seed_bits > 0,
            context=context,
            max_tokens=self._suggested.max_tokens or (None if context is None else max(1, context // 2)),
            lacks={name: why for name, why in lacks.items() if why},
            fingerprint={
                "engine": found.engine, "model": found.root, "endpoint": route.path, "continues": route.continues,
                "template": self._prompts.template, "context": context,
            },
        )  # fmt: skip

    @property
    def capabilities(self) -> Capabilities:
        """What it can do.

        Raises:
            BackendError: It has not been asked; `solve` does so, other code awaits `connect` first.
        """
        if self._connected is None:
            raise BackendError(f"{self.endpoint.name} has not been asked what it can do: await connect() first")
        return self._connected

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        """Render a conversation; a chat's text is for display, since the server applies the template.

        Raises:
            ProblemError: The template refuses it, or it ends in an answer that the server cannot continue.
        """
        if messages[-1].role == "assistant" and not self.capabilities.continuation:
            raise ProblemError(f"{self.capabilities.name} cannot continue an answer that was begun")
        return Prompt(tuple(messages), self._prompts.render(messages))

    async def tokenize(self, text: str) -> Sequence[int]:
        """Return nothing: the server shows no tokens."""
        return ()

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        """Draw the children of one path, each by a request of its own; one that fails waits for the others to end.

        Raises:
            ParameterError: The request is out of range, or the server refuses what it says.
            NeedsError: It needs what the server cannot do.
            TransientError: A fault that may pass.
            BackendError: The server does not do what it was asked, or is no more.
        """
        self._check(request)
        failures: list[TransientError] = []

        async def draw(index: int) -> None:
            try:
                await self._draw(request, index, sink)
            except TransientError as error:
                failures.append(error)

        async with Tasks() as tasks:
            for index in range(request.count):
                tasks.start_soon(draw, index)
        if failures:
            raise _joint(failures)

    def _check(self, request: GenerationRequest) -> None:
        if not 1 <= request.count <= SEED_BLOCK or request.max_tokens < 1:
            raise ParameterError(f"count={request.count}, max_tokens={request.max_tokens}: out of range")
        able = self.capabilities
        why = f" ({able.lacks['continuation']})" if "continuation" in able.lacks else ""
        if request.text and not able.continuation:
            raise NeedsError(f"{able.name} cannot continue a given text{why}: whole paths can be drawn from it")
        if request.sampling.thinking_tokens is not None and not able.continuation:
            raise ParameterError(
                f"thinking_tokens={request.sampling.thinking_tokens}: thinking is ended by continuing the path, which "
                f"{able.name} cannot{why}: leave it out, and give max_tokens= room for thinking and answer"
            )
        stops = (*request.delimiters, *request.sampling.stops)
        if stops and not (self._route.stop_field or self._route.streams):
            raise NeedsError(f"{able.name} does not tell the stops {stops!r} from an end, and does not stream{why}")

    async def _draw(self, request: GenerationRequest, index: int, sink: Sink) -> None:
        stops = (*request.delimiters, *request.sampling.stops)
        cut = bool(stops) and self._route.stop_field is None
        stream = cut or (request.cancellable and self._route.streams)
        count = cut and self._route.logprobs and not self._route.counts_along
        wish = self._wish(request, index, () if cut else stops, stream=stream, count=count)
        reply = Reply(self.endpoint.name, self._route, request, cut=cut)
        try:
            await (self._stream(wish, reply, index, sink) if stream else self._post(wish, reply))
        finally:
            self._report_prompt(wish, reply, sink)
        sink.finish(index, reply.completion())

    def _wish(
        self, request: GenerationRequest, index: int, stops: tuple[str, ...], *, stream: bool, count: bool
    ) -> Wish:
        """Ask for a child; `count` asks for log-probabilities to count tokens by, where nothing else tells them."""
        sampling = request.sampling
        return Wish(
            messages=request.prompt.messages, prompt=request.prompt.text, begun=request.text,
            max_tokens=request.max_tokens, temperature=sampling.temperature, top_p=sampling.top_p,
            top_k=sampling.top_k, seed=request.seed + index if self._route.seed_bits else None, stops=stops,
            logprobs=count or request.logprobs or request.top_logprobs > 0, top_logprobs=request.top_logprobs,
            stream=stream,
        )  # fmt: skip

    async def _post(self, wish: Wish, reply: Reply) -> None:
        body = body_of(self._route, str(self._model), wish)
        reply.take(await self.endpoint.post(self._route.path, body, headers=_session()))

    async def _stream(self, wish: Wish, reply: Reply, index: int, sink: Sink) -> None:
        with anyio.CancelScope() as scope:

            async def take(said: object) -> None:
                reply.take(said)
                sink.progress(index, min(reply.tokens(), wish.max_tokens))
                if reply.cut_off:
                    scope.cancel()

            body = body_of(self._route, str(self._model), wish)
            await self.endpoint.stream(self._route.path, body, take, headers=_session())

    def _report_prompt(self, wish: Wish, reply: Reply, sink: Sink) -> None:
        size = len((wish.prompt + wish.begun).encode())
        told = reply.read()
        if told is not None:
            self._tokens_per_byte = sum(told) / max(1, size)
            sink.prompt(cached=told[0], computed=told[1])
        elif reply.begun():
            sink.prompt(cached=0, computed=round(size * self._tokens_per_byte))

    async def aclose(self) -> None:
        """Close the connections."""
        await self.endpoint.aclose()


def _session() -> dict[str, str]:
    problem = caller().problem
    return {SESSION: problem} if problem else {}


def _joint(failures: Sequence[TransientError]) -> TransientError:
    """Return one error for several: it waits for the slowest, and charges all if any may have begun."""
    if len(failures) == 1:
        return failures[0]
    return TransientError(
        str(failures[0]),
        delay=max((error.delay for error in failures if error.delay is not None), default=None),
        at_once=all(error.at_once for error in failures),
        began=any(error.began for error in failures),
    )
