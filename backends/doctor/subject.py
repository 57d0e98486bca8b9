"""A server under examination: what is asked of it, what it answers as checked values, and what that cost."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from tts.backends.vllm_children import NEUTRAL
from tts.errors import BackendError, TTSError
from tts.groups import Tasks
from tts.seeds import generator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from tts.backends.http import Endpoint

T = TypeVar("T")
A = TypeVar("A")

COMPLETIONS = "/v1/completions"
GREEDY_TOKENS = 32
"""Tokens of the greedy answer that several measurements share."""
COUNTERS = {
    "running": ("num_requests_running", "num_running_reqs", "requests_processing"),
    "waiting": ("num_requests_waiting", "num_queue_reqs", "requests_deferred"),
    "generated": ("generation_tokens_total", "tokens_predicted_total"),
    "hits": ("prefix_cache_hits_total",),
    "queries": ("prefix_cache_queries_total",),
}
"""What several engines call the same thing in their metrics, without the engine's prefix."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One choice, as the server gives it; lists are None where it gives none.

    `tops` has, for each token in turn, the log-probabilities that were given for it, by the token's name.
    """

    text: str
    index: int = 0
    ids: list[int] | None = None
    finish: str | None = None
    stopped_by: str | int | None = None
    logprobs: list[float] | None = None
    tops: list[dict[str, float]] | None = None

    @property
    def said(self) -> tuple[object, ...]:
        """What two draws that are the same have in common."""
        return (self.text, *(self.ids or ()))


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its draws by their indices, and what the server counted; None where it does not say."""

    draws: list[Draw]
    prompt_tokens: int | None = None
    sampled: int | None = None
    cached: int | None = None


@dataclass
class Subject:
    """A server under examination.

    Attributes:
        endpoint: Where it is.
        model: The model that is examined.
        context: Prompt and answer together, in tokens, as the server says; None if it does not say.
        prompt: A question as the model reads it, as token ids.
        nonce: What makes prompts that no server has seen before.
        patience: Seconds for which the engine may go on after a client has left.
        sampled: Tokens that it has sampled so far, as far as they were seen.
        read: Prompt tokens that it has read so far.
    """

    endpoint: Endpoint
    model: str
    context: int | None
    prompt: list[int]
    nonce: str
    patience: float = 10.0
    sampled: int = 0
    read: int = 0
    _greedy: list[Draw] = field(default_factory=list)

    def room(self, wanted: int) -> int:
        """Return how many tokens may be asked for after the question, at most `wanted`."""
        return wanted if self.context is None else max(1, min(wanted, self.context - len(self.prompt) - 1))

    def unseen(self, length: int, purpose: str) -> list[int]:
        """Return a prompt that no server has in its cache, of tokens that the model knows."""
        return generator(self.nonce, purpose).choices(sorted(set(self.prompt)), k=length)

    def body(self, prompt: Sequence[int] | str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request for one greedy draw, but for what `fields` say."""
        asked = prompt if isinstance(prompt, str) else list(prompt)
        return {
            "model": self.model, "prompt": asked, "n": 1, "seed": 0, "temperature": 0.0, "max_tokens": 1,
            "top_p": 1.0, "top_k": 0, "return_token_ids": True, **NEUTRAL, **fields,
        }  # fmt: skip

    async def draw(self, prompt: Sequence[int] | str, **fields: Any) -> Reply:
        """Ask for draws.

        Raises:
            TTSError: As `Endpoint.post` does; BackendError also for an answer of another form.
        """
        said = await self.endpoint.post(COMPLETIONS, self.body(prompt, fields))
        reply = read(lambda: _reply(said), said)
        if not reply.draws:
            raise BackendError(f"an answer without a choice: {str(said)[:200]}")
        self.sampled += reply.sampled or sum(len(draw.ids or ()) for draw in reply.draws)
        self.read += reply.prompt_tokens or 0
        return reply

    async def one(self, prompt: Sequence[int] | str, **fields: Any) -> Draw:
        """Ask for one draw; raises as `draw` does."""
        draws = (await self.draw(prompt, **fields)).draws
        if len(draws) != 1:
            raise BackendError(f"one choice was asked for, {len(draws)} came")
        return draws[0]

    async def stream(self, prompt: Sequence[int], take: Callable[[list[Draw]], Awaitable[None]], **fields: Any) -> None:
        """Ask for draws in pieces; raises as `draw` does."""

        async def checked(said: Any) -> None:
            draws = read(lambda: [_draw(choice) for choice in said["choices"]], said)
            self.sampled += sum(len(draw.ids or ()) for draw in draws)
            await take(draws)

        self.read += len(prompt)
        await self.endpoint.stream(COMPLETIONS, self.body(prompt, {"stream": True, **fields}), checked)

    async def greedy(self) -> Draw:
        """Return the greedy answer's first tokens; it is asked for once."""
        if not self._greedy:
            self._greedy.append(await self.one(self.prompt, max_tokens=self.room(GREEDY_TOKENS)))
        return self._greedy[0]

    async def text_of(self, tokens: Sequence[int]) -> str:
        """Return what tokens say, by the server's own word; raises as `draw` does."""
        said = await self.endpoint.post("/detokenize", {"model": self.model, "tokens": list(tokens)})
        return read(lambda: str(said["prompt"]), said)

    async def counters(self) -> dict[str, float] | None:
        """Return the counters that the server shows, or None if it shows none."""
        try:
            return counters_of(await self.endpoint.text("/metrics"))
        except TTSError:
            return None


def counters_of(text: str) -> dict[str, float] | None:
    """Sum the counters that are known here, over engines, in the text of Prometheus; None if there are none."""
    found: dict[str, float] = {}
    for name, value in re.findall(r"^(?:\w+:)?(\w+)(?:\{.*\})? ([0-9.eE+]+)$", text, re.MULTILINE):
        for counter, names in COUNTERS.items():
            if name in names:
                found[counter] = found.get(counter, 0.0) + float(value)
    return found or None


def read(get: Callable[[], T], said: Any) -> T:
    """Return what `get` finds in an answer.

    Raises:
        BackendError: The answer has another form.
    """
    try:
        return get()
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        raise BackendError(f"an answer of another form ({error!r}): {str(said)[:200]}") from None


def _reply(said: Any) -> Reply:
    usage = said.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    return Reply(
        sorted(map(_draw, said["choices"]), key=lambda draw: draw.index),
        _integer(usage.get("prompt_tokens")),
        _integer(usage.get("completion_tokens")),
        _integer(details.get("cached_tokens")),
    )


def _integer(told: Any) -> int | None:
    return None if told is None else int(told)


def _draw(choice: Any) -> Draw:
    ids, told = choice.get("token_ids"), choice.get("logprobs") or {}
    values, rows = told.get("token_logprobs"), told.get("top_logprobs")
    return Draw(
        str(choice.get("text") or ""),
        int(choice.get("index", 0)),
        None if ids is None else [int(token) for token in ids],
        choice.get("finish_reason"),
        choice.get("stop_reason"),
        None if values is None else [math.nan if value is None else float(value) for value in values],
        None if rows is None else [{str(name): float(value) for name, value in (row or {}).items()} for row in rows],
    )


async def together(ask: Callable[[A], Awaitable[T]], each: Sequence[A]) -> list[T]:
    """Ask for each at the same time, and return the answers in order; the first fault is raised."""
    answers: dict[int, T] = {}

    async def put(place: int, what: A) -> None:
        answers[place] = await ask(what)

    async with Tasks() as tasks:
        for place, what in enumerate(each):
            tasks.start_soon(put, place, what)
    return [answers[place] for place in range(len(each))]


async def bounded(seconds: float, ask: Callable[[], Awaitable[T]]) -> tuple[T | None, str]:
    """Return the answer to a question, or None and why there is none within some seconds."""
    answer, why = None, f"no answer within {seconds:.3g} s"
    try:
        with anyio.move_on_after(seconds):
            try:
                answer, why = await ask(), ""
            except TTSError as error:
                why = f"the question failed: {error}"
    except ExceptionGroup as group:
        # Under trio a fault at the moment at which time is up comes in a group.
        if group.split(TTSError)[1] is not None:
            raise
    return answer, why
