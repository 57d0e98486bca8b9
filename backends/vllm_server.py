"""Drawing text from a vLLM server: token ids in and out, cached prefixes, seeds, and cancellation by disconnecting."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tts.affinity import caller
from tts.backends.http import Endpoint, Timeouts
from tts.backends.served import RemoteLanguage, ask_served, ask_version, check_fields
from tts.backends.vllm_children import NEUTRAL, last_token, with_whole_text
from tts.backends.vllm_wire import Reply, body_of
from tts.capabilities import Capabilities
from tts.errors import BackendError, ParameterError, ProblemError, TransientError
from tts.protocols import SEED_BLOCK
from tts.types import Finish, Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tts.protocols import GenerationRequest, Sink
    from tts.types import Completion, Message

OLDEST = (0, 20)
"""The first version of vLLM that this is written for."""
COMPLETIONS = "/v1/completions"
SESSION = "x-session-id"
"""Header that tells routers with sticky sessions, such as vLLM's production stack, to which problem a call belongs."""
FIELDS = (
    *NEUTRAL, "model", "prompt", "n", "seed", "max_tokens", "temperature", "top_p", "top_k", "stop", "stream",
    "include_stop_str_in_output", "skip_special_tokens", "logprobs", "return_token_ids",
    "return_tokens_as_token_ids", "stream_options",
)  # fmt: skip


class VLLMServer:
    """A generator on a vLLM server (`vllm serve MODEL`), over `/v1/completions`.

    The chat template is applied once, by the server, and every continuation goes as token ids, so that its prefix is
    the cached one exactly. Children of a path are one request with n. Calls that may be cancelled are streamed.

    A prompt is counted once a request, with as much of it cached as the server says: it says so only if it runs with
    --enable-prompt-tokens-details. Seeded draws repeat as far as the engine's arithmetic does not hang on what it
    batches together (`VLLM_BATCH_INVARIANT=1` where the hardware has it).
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        template: str | None = None,
        tokenizer: str | None = None,
        key: str = "TTS_API_KEY",
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | Mapping[str, float] | None = None,
        max_tokens: int | None = None,
        step_tokens: int | None = None,
        task: str | None = None,
        special_tokens: bool = False,
        priorities: bool | None = None,
        dollars_per_token: float | None = None,
        dollars_per_prompt_token: float = 0.0,
        dollars_per_cached_token: float = 0.0,
        flops_per_token: float | None = None,
    ) -> None:
        """Name a server; it is asked what it serves by `connect`, which `solve` calls.

        Args:
            url: Where it is, such as "http://localhost:8000".
            model: The served model's name; None if it serves one only.
            template: A chat template (Jinja) instead of the model's own; applied here.
            tokenizer: A folder with tokenizer.json and tokenizer_config.json; text is then tokenised here, which spares
                the server a request a problem. It must be the server's own, and is compared with it.
            key: Name of the environment variable with the server's key (`vllm serve --api-key`).
            headers: Sent with every request.
            timeouts: How long the server may take.
            max_tokens: Suggested cap of a path.
            step_tokens: Suggested cap of a step.
            task: Task whose rules read the answers.
            special_tokens: Whether texts show special tokens, for models that mark their thinking with such.
            priorities: Whether the server was started with --scheduling-policy priority; None finds out.
            dollars_per_token: Price of a sampled token.
            dollars_per_prompt_token: Price of a computed prompt token.
            dollars_per_cached_token: Price of a cached prompt token.
            flops_per_token: Operations of a token: about twice the parameters that are active.

        Raises:
            ParameterError: The URL is none.
        """
        self.endpoint = Endpoint(url, key=key, headers=headers, timeouts=timeouts)
        self._model = model
        self._language = RemoteLanguage(self.endpoint, template, tokenizer)
        self._special_tokens = special_tokens
        self._priorities = priorities
        self._pieces: dict[int, str] = {}
        self._connected: Capabilities | None = None
        self._suggested = Capabilities(
            name="", logprobs_free=False, top_logprobs=20, max_tokens=max_tokens, step_tokens=step_tokens, task=task,
            dollars_per_token=dollars_per_token, dollars_per_prompt_token=dollars_per_prompt_token,
            dollars_per_cached_token=dollars_per_cached_token, flops_per_token=flops_per_token,
        )  # fmt: skip

    async def connect(self) -> None:
        """Find out what the server serves.

        Raises:
            BackendError: It serves no such model, is too old, or does not know what it will be asked.
            ParameterError: A suggested cap does not fit into the context.
            TransientError: It does not answer.
        """
        if self._connected is None:
            await self.reconnect()

    async def reconnect(self) -> None:
        """Find out anew what the server serves, which may be another after it was away; raises as `connect` does."""
        version = await ask_version(self.endpoint, OLDEST)
        served = await ask_served(self.endpoint, self._model)
        await check_fields(self.endpoint, COMPLETIONS, FIELDS)
        self._check_caps(served.context)
        await self._language.connect(served.model)
        self._connected = replace(
            self._suggested,
            name=f"vllm/{served.model}",
            context=served.context,
            fingerprint={
                "engine": f"vllm {version}",
                "model": served.root,
                "template": self._language.template,
                "context": served.context,
                "special_tokens": self._special_tokens,
            },
        )
        self._model = served.model

    def _check_caps(self, context: int | None) -> None:
        for name in ("max_tokens", "step_tokens"):
            cap = getattr(self._suggested, name)
            if cap is not None and (not isinstance(cap, int) or isinstance(cap, bool) or cap < 1):
                raise ParameterError(f"{name} is {cap!r}; it is a number of tokens, at least 1")
            if cap is not None and context is not None and cap >= context:
                raise ParameterError(
                    f"{name}={cap} does not fit: {self.endpoint.name} holds {context} tokens, prompt included "
                    "(--max-model-len)"
                )

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
        """Render a conversation with the chat template.

        Raises:
            ProblemError: The template refuses it, or it leaves no room in the context.
        """
        text, tokens = await self._language.render(messages)
        context = self.capabilities.context
        if not tokens or (context is not None and len(tokens) >= context):
            raise ProblemError(f"the conversation has {len(tokens)} tokens; {self.capabilities.name} holds {context}")
        return Prompt(tuple(messages), text, tuple(tokens))

    async def tokenize(self, text: str) -> Sequence[int]:
        """Return the token ids of `text` as part of a path."""
        return await self._language.tokenize(text)

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        """Draw the children of one path.

        Raises:
            ParameterError: The request is out of range, or the server refuses what it says.
            TransientError: A fault that may pass.
            BackendError: The server does not do what it was asked, or is no more.
        """
        prompt = await self._prompt(request)
        who = caller()
        priority = None if self._priorities is False else who.order
        body = body_of(str(self._model), prompt, request, priority=priority, special_tokens=self._special_tokens)
        try:
            await self._draw(body, request, len(prompt), sink, {SESSION: who.problem} if who.problem else {})
        except ParameterError as error:
            if self._priorities or not priority or "priority" not in str(error):
                raise
            self._priorities = False
            await self.generate(request, sink)

    async def _prompt(self, request: GenerationRequest) -> list[int]:
        path = request.token_ids if len(request.token_ids) or not request.text else await self.tokenize(request.text)
        prompt = [*request.prompt.token_ids, *path]
        context = self.capabilities.context
        if not 1 <= request.count <= SEED_BLOCK or request.max_tokens < 1:
            raise ParameterError(f"count={request.count}, max_tokens={request.max_tokens}: out of range")
        if context is not None and len(prompt) + request.max_tokens > context:
            # The server would silently sample fewer.
            parts = f"prompt {len(request.prompt.token_ids)} + path {len(path)} + max_tokens {request.max_tokens}"
            raise ParameterError(f"{parts} is more than the {context} tokens that {self.capabilities.name} holds")
        return prompt

    async def _draw(
        self, body: dict[str, Any], request: GenerationRequest, length: int, sink: Sink, headers: dict[str, str]
    ) -> None:
        reply = Reply(self.endpoint.name, request, length)

        async def take(said: Any) -> None:
            came = reply.take(said)
            for index, _ in came:
                sink.progress(index, len(reply.children[index].token_ids))
            for index, completion in came:
                if completion is not None:
                    await self._deliver(index, completion, reply.faults, sink)
            if reply.hopeless:
                reply.check()

        try:
            if request.cancellable:
                await self.endpoint.stream(COMPLETIONS, body, take, headers=headers)
            else:
                await take(await self.endpoint.post(COMPLETIONS, body, headers=headers))
        finally:
            if reply.usage or any(child.token_ids for child in reply.children):
                sink.prompt(cached=reply.cached(), computed=length - reply.cached())
        reply.check()
        if not all(child.finished for child in reply.children):
            raise BackendError(f"{self.endpoint.name} answered without all of {request.count} children")

    async def _deliver(self, index: int, completion: Completion, faults: list[BackendError], sink: Sink) -> None:
        """Deliver a child, unless what its tokens say cannot be found out: then that is one of the faults."""
        try:
            whole = await self._whole(completion)
        except TransientError as fault:
            fault.began = True  # the look-up may not have; the child has
            faults.append(fault)
        except BackendError as fault:
            faults.append(fault)
        except ParameterError as refusal:  # something was drawn, so this must not pass for a request that was refused
            faults.append(BackendError(f"tokens that were drawn cannot be read back: {refusal}"))
        else:
            sink.finish(index, whole)

    async def _whole(self, completion: Completion) -> Completion:
        """Give back what the engine cut from a text that ended within its last token.

        The token stays in the path, so the text has to say all of it. Tokens are looked up once each.
        """
        if completion.finish is Finish.EOS and self._special_tokens and completion.token_ids:
            end = await self._piece(completion.token_ids[-1])
            return replace(completion, text=completion.text.removesuffix(end))
        last = last_token(completion)
        if last is None or completion.text.endswith(await self._piece(last)):
            return completion
        return with_whole_text(completion, await self._language.text_of(completion.token_ids or ()))

    async def _piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = await self._language.text_of([token])
        return self._pieces[token]

    async def aclose(self) -> None:
        """Close the connections."""
        await self.endpoint.aclose()
