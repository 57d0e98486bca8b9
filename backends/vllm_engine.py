"""Drawing text from a vLLM engine that this process starts and ends itself."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread

from tts.affinity import caller
from tts.backends.optional import need
from tts.backends.served import UNTAGGED
from tts.backends.vllm_asked import Asked
from tts.backends.vllm_drivers import Driver, Spawned, Stepped
from tts.capabilities import Capabilities
from tts.errors import BackendError, EngineDeadError, ParameterError, ProblemError, TTSError, UnknownNameError
from tts.protocols import SEED_BLOCK
from tts.types import Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tts.protocols import GenerationRequest, Sink
    from tts.types import Message

OLDEST = (0, 20)
"""The first version of vLLM that this is written for."""
FACTS = {
    "model_config": ("model", "revision", "dtype", "quantization", "max_model_len"),
    "cache_config": ("block_size", "cache_dtype", "enable_prefix_caching"),
    "parallel_config": ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"),
    "scheduler_config": ("max_num_batched_tokens", "max_num_seqs", "enable_chunked_prefill"),
}
"""What of vLLM's configuration can change what is drawn."""


class VLLMEngine:
    """A generator on a vLLM engine of its own.

    By default the engine and its workers run in processes that `connect` starts and `aclose` ends; a script that does
    so needs `if __name__ == "__main__":`, because those processes import it. With `single_process` the engine is
    stepped on a thread of this process: it starts sooner, needs no such line, and knows to the token what an aborted
    request has sampled; but it shares this process's interpreter, uses one device, and a process has no more than one.

    A prompt is counted once a request, with as much of it cached as its first child found. Seeded draws repeat as far
    as the engine's arithmetic does not hang on what it batches together (`VLLM_BATCH_INVARIANT=1` where the hardware
    has it).
    """

    def __init__(
        self,
        model: str | Path,
        *,
        single_process: bool = False,
        engine: Mapping[str, Any] | None = None,
        template: str | None = None,
        max_tokens: int | None = None,
        step_tokens: int | None = None,
        task: str | None = None,
        special_tokens: bool = False,
        dollars_per_token: float | None = None,
        dollars_per_prompt_token: float = 0.0,
        dollars_per_cached_token: float = 0.0,
        flops_per_token: float | None = None,
    ) -> None:
        """Name a model; the engine is started by `connect`, which `solve` calls.

        Args:
            model: A folder, or a name that vLLM finds.
            single_process: Step the engine in this process.
            engine: Further arguments of vLLM's engine by their names in Python, such as max_model_len, dtype,
                gpu_memory_utilization or scheduling_policy.
            template: A chat template (Jinja) instead of the model's own.
            max_tokens: Suggested cap of a path.
            step_tokens: Suggested cap of a step.
            task: Task whose rules read the answers.
            special_tokens: Whether texts show special tokens, for models that mark their thinking with such.
            dollars_per_token: Price of a sampled token.
            dollars_per_prompt_token: Price of a computed prompt token.
            dollars_per_cached_token: Price of a cached prompt token.
            flops_per_token: Operations of a token: about twice the parameters that are active.

        Raises:
            ParameterError: No model is named.
        """
        if not str(model):
            raise ParameterError("no model: name a folder or a model that vLLM finds, as in vllm-engine:MODEL")
        self.name = f"vllm/{str(model).rstrip('/').rpartition('/')[2]}"
        self._settings = {"disable_log_stats": True, **(engine or {}), "model": str(model)}
        self._kind = Stepped if single_process else Spawned
        self._template = template
        self._special_tokens = special_tokens
        self._starting = threading.Lock()
        self._driver: Driver | None = None
        self._connected: Capabilities | None = None
        self._closed = False
        self._suggested = Capabilities(
            name=self.name, logprobs_free=False, max_tokens=max_tokens, step_tokens=step_tokens, task=task,
            dollars_per_token=dollars_per_token, dollars_per_prompt_token=dollars_per_prompt_token,
            dollars_per_cached_token=dollars_per_cached_token, flops_per_token=flops_per_token,
        )  # fmt: skip

    async def connect(self) -> None:
        """Start the engine, unless it runs.

        Raises:
            MissingExtraError: vLLM is not installed.
            UnknownNameError: vLLM's engine has no such argument.
            ParameterError: There is no chat template.
            BackendError: vLLM is too old, or could not start; says what vLLM said.
            EngineDeadError: It was closed.
        """
        if self._driver is None:
            await anyio.to_thread.run_sync(self._start)

    @property
    def capabilities(self) -> Capabilities:
        """What it can do.

        Raises:
            BackendError: It has not been started; `solve` does so, other code awaits `connect` first.
        """
        if self._connected is None:
            raise BackendError(f"{self.name} has not been started: await connect() first")
        return self._connected

    @property
    def unfinished(self) -> int:
        """How many sequences vLLM has in hand."""
        return self._running().unfinished()

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        """Render a conversation with the chat template; an answer that was begun is continued.

        Raises:
            ProblemError: The template refuses it, or it leaves no room in the context.
        """
        context = self.capabilities.context
        text = self._render(messages)
        tokens = await self.tokenize(text)
        if not tokens or (context is not None and len(tokens) >= context):
            raise ProblemError(f"the conversation has {len(tokens)} tokens; {self.name} holds {context}")
        return Prompt(tuple(messages), text, tuple(tokens))

    async def tokenize(self, text: str) -> Sequence[int]:
        """Return the token ids of `text` as part of a path."""
        ids: list[int] = self._running().tokenizer.encode(text, add_special_tokens=False)
        return ids

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        """Draw the children of one path.

        Raises:
            ParameterError: The request is out of range, or vLLM refuses it.
            EngineDeadError: The engine failed, or was closed.
        """
        driver, prompt = self._running(), await self._prompt(request)
        ordered = driver.config.scheduler_config.policy == "priority"
        asked = Asked(
            self.name, request, prompt, caller().order if ordered else 0, sink, self._decode,
            special_tokens=self._special_tokens,
        )  # fmt: skip
        try:
            await driver.run(asked)
        except BaseException:
            asked.tell_rest()
            raise

    async def aclose(self) -> None:
        """Fail what is running, and end the engine with all that belongs to it; it cannot be started again."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            driver = await anyio.to_thread.run_sync(self._let_go)
            if driver is not None:
                await _end(driver)

    def _running(self) -> Driver:
        if self._closed:
            raise EngineDeadError(f"{self.name} was closed")
        if self._driver is None:
            raise BackendError(f"{self.name} has not been started: await connect() first")
        return self._driver

    def _start(self) -> None:
        with self._starting:
            if self._closed:
                raise EngineDeadError(f"{self.name} was closed")
            if self._driver is not None:
                return
            version = check_version(need("vllm", "vllm").__version__)
            self._check_arguments()
            try:
                driver = self._kind(self.name, self._given())
            except TTSError:
                raise
            except Exception as error:  # whatever vLLM raises: it is told with what can be done
                raise BackendError(self._why(error)) from error
            try:
                self._connected = self._describe(version, driver)
            except BaseException:
                anyio.from_thread.run(_end, driver)
                raise
            self._driver = driver

    def _let_go(self) -> Driver | None:
        with self._starting:
            driver, self._driver = self._driver, None
        return driver

    def _check_arguments(self) -> None:
        known = {field.name for field in dataclasses.fields(need("vllm.engine.arg_utils", "vllm").AsyncEngineArgs)}
        for name in self._settings:
            if name not in known:
                raise UnknownNameError("argument of vLLM's engine", name, known)

    def _given(self) -> dict[str, Any]:
        if need("vllm.platforms", "vllm").current_platform.is_cpu():
            # A seeded request whose prompt is read in chunks kills the engine on a CPU.
            return {"enable_chunked_prefill": False, **self._settings}
        return self._settings

    def _why(self, error: Exception) -> str:
        message = f"{type(error).__name__}: {error}".rstrip(". ")
        said = f"{self.name}: vLLM could not start, and what it printed says why: {message}. If it is memory, "
        said += "lower gpu_memory_utilization (on a CPU too) or max_model_len"
        return said + ("" if self._kind is Stepped else '; a script that starts it needs if __name__ == "__main__":')

    def _describe(self, version: str, driver: Driver) -> Capabilities:
        template = self._template or driver.tokenizer.chat_template
        if not template:
            raise ParameterError(f"{self.name} has no chat template: give one as template=")
        config = driver.config
        facts = {name: getattr(getattr(config, part), name, None) for part, names in FACTS.items() for name in names}
        digest = hashlib.sha256(str(template).encode()).hexdigest()
        return dataclasses.replace(
            self._suggested,
            # Scheduling ahead, the engine draws one more token than it has told.
            exact_cancellation=self._kind is Stepped and not config.scheduler_config.async_scheduling,
            context=config.model_config.max_model_len,
            top_logprobs=max(0, config.model_config.max_logprobs),
            fingerprint={
                "engine": f"vllm {version}",
                **{name: value if isinstance(value, (int, str)) else _word(value) for name, value in facts.items()},
                "template": digest,
                "special_tokens": self._special_tokens,
            },
        )

    def _render(self, messages: Sequence[Message]) -> str:
        begun = messages[-1].role == "assistant"
        try:
            text: str = self._running().tokenizer.apply_chat_template(
                [message.model_dump() for message in messages],
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=not begun,
                continue_final_message=begun,
            )
        except (ValueError, TypeError, need("jinja2", "vllm").TemplateError) as error:
            raise ProblemError(f"the chat template refuses the conversation: {error}") from error
        return text

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._running().tokenizer.decode(list(tokens), skip_special_tokens=not self._special_tokens)
        return text

    async def _prompt(self, request: GenerationRequest) -> list[int]:
        path = request.token_ids if len(request.token_ids) or not request.text else await self.tokenize(request.text)
        prompt, context = [*request.prompt.token_ids, *path], self.capabilities.context
        if not 1 <= request.count <= SEED_BLOCK or request.max_tokens < 1:
            raise ParameterError(f"count={request.count}, max_tokens={request.max_tokens}: out of range")
        if context is not None and len(prompt) + request.max_tokens > context:
            # The engine would silently sample fewer.
            parts = f"prompt {len(request.prompt.token_ids)} + path {len(path)} + max_tokens {request.max_tokens}"
            raise ParameterError(f"{parts} is more than the {context} tokens that {self.name} holds")
        return prompt


async def _end(driver: Driver) -> None:
    with anyio.CancelScope(shield=True):  # cut short, it would leave processes behind
        await driver.aclose()


def check_version(version: str) -> str:
    """Return vLLM's version.

    Raises:
        BackendError: It is too old.
    """
    number = tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdecimal())
    if number < OLDEST and not version.startswith(UNTAGGED):
        wanted = ".".join(map(str, OLDEST))
        raise BackendError(f"vLLM {version} is installed; {wanted} or newer is needed: pip install 'vllm>={wanted}'")
    return version


def _word(value: object) -> str | None:
    return None if value is None else str(value).removeprefix("torch.")
