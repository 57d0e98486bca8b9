"""What goes to the endpoints of an OpenAI-compatible server and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tts.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tts.types import Message

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
Dialect = Literal["text", "plain", "continue_final_message", "prefix"]
"""How an answer that was begun is handed over to be continued.

text: at the end of the prompt of `/v1/completions`. The others are an assistant message at the end of a chat: as it is,
with `continue_final_message` and no generation prompt, or with `prefix` set in the message.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What one of a server's endpoints can do, as far as it has shown.

    Attributes:
        path: `/v1/completions` or `/v1/chat/completions`.
        limit: Name of the field that caps what is sampled.
        limited: It keeps to that cap.
        counts: It says how many tokens it sampled.
        continues: How it continues an answer exactly where it stopped; None if it does not.
        logprobs: It gives the log-probability of each token that it counts.
        top_logprobs: Of how many of the most likely tokens.
        seed_bits: How large its seeds may be; 0 if it has none that repeat a draw.
        stop_field: Where it says which stop text it met, so that this is told from the end of a sequence; None if it
            does not say.
        stop_kept: The stop text that it met stays in the text.
        streams: It streams, and says at the end how many tokens it sampled.
        counts_along: It says so with every piece too.
        options: Its `stream_options`.
        reasoning: Where it puts thinking, apart from the answer; None if it has not been seen to.
        several: It draws several children in one request.
        tells_cached: It says how much of a prompt was cached.
        neutral: Fields that make it sample from the model's own distribution, where it takes them.
        lacks: What it cannot do, and how that showed.
    """

    path: str
    limit: str = "max_tokens"
    limited: bool = False
    counts: bool = False
    continues: Dialect | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    seed_bits: int = 0
    stop_field: str | None = None
    stop_kept: bool = False
    streams: bool = False
    counts_along: bool = False
    options: Mapping[str, bool] = field(default_factory=dict)
    reasoning: str | None = None
    several: bool = False
    tells_cached: bool = False
    neutral: Mapping[str, float] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)

    @property
    def chat(self) -> bool:
        """Whether it takes messages rather than text."""
        return self.path == CHAT


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One answer as it is asked for.

    Attributes:
        messages: The conversation, for a chat.
        prompt: The conversation as the model reads it, for text.
        begun: What the answer says so far.
        max_tokens: Cap of what is sampled.
        temperature: 0 is greedy.
        top_p: Nucleus; 1 keeps all.
        top_k: Most likely tokens kept; 0 keeps all.
        seed: None for chance.
        stops: Texts that end it.
        logprobs: Whether log-probabilities are wanted.
        top_logprobs: Of how many of the most likely tokens.
        stream: Whether it shall come in pieces.
        count: How many of it.
    """

    messages: tuple[Message, ...]
    prompt: str = ""
    begun: str = ""
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stops: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    stream: bool = False
    count: int = 1


def body_of(route: Route, model: str, wish: Wish) -> dict[str, Any]:
    """Return the request; fields that not every server knows are left out unless they are needed."""
    body: dict[str, Any] = {"model": model, **_asked(route, wish), route.limit: wish.max_tokens, **route.neutral}
    body["temperature"] = wish.temperature
    body["top_p"] = wish.top_p
    if wish.top_k:
        body["top_k"] = wish.top_k
    if wish.seed is not None:
        body["seed"] = wish.seed & (1 << route.seed_bits) - 1 if route.seed_bits else wish.seed
    if wish.stops:
        body["stop"] = list(wish.stops)
    if wish.count > 1:
        body["n"] = wish.count
    if wish.logprobs:
        most = max(1, wish.top_logprobs)  # some servers take 0 for none at all
        body |= {"logprobs": True, "top_logprobs": most} if route.chat else {"logprobs": most}
    if wish.stream:
        body |= {"stream": True, **({"stream_options": dict(route.options)} if route.options else {})}
    return body


def _asked(route: Route, wish: Wish) -> dict[str, Any]:
    if not route.chat:
        return {"prompt": wish.prompt + wish.begun}
    turns = [message.model_dump() for message in wish.messages]
    begun = turns.pop()["content"] if turns[-1]["role"] == "assistant" else ""
    if not begun + wish.begun:
        return {"messages": turns}
    last: dict[str, Any] = {"role": "assistant", "content": begun + wish.begun}
    if route.continues == "prefix":
        last["prefix"] = True
    asked: dict[str, Any] = {"messages": [*turns, last]}
    if route.continues == "continue_final_message":
        asked |= {"continue_final_message": True, "add_generation_prompt": False}
    return asked


@dataclass(frozen=True, slots=True)
class Piece:
    """What one choice of a reply says, or one of its pieces.

    Attributes:
        index: Which choice.
        text: The answer's.
        thinking: The thinking's.
        finish: Why it ended; None if it goes on.
        logprobs: Of the tokens in it; None if none were given.
        top_logprobs: Of the most likely tokens, a row a token, the greatest first.
        choice: All that was said.
    """

    index: int
    text: str
    thinking: str
    finish: str | None
    logprobs: list[float] | None
    top_logprobs: list[list[float]]
    choice: Mapping[str, Any]


def pieces_of(server: str, said: Any) -> list[Piece]:
    """Return what a reply's choices say.

    Raises:
        BackendError: It has another form.
    """
    try:
        return [_piece(choice) for choice in said["choices"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BackendError(f"{server}: a reply of another form ({error!r}): {str(said)[:200]}") from None


def _piece(choice: Mapping[str, Any]) -> Piece:
    turn = choice.get("message") or choice.get("delta") or {}
    text = choice["text"] if "text" in choice else turn.get("content")
    thinking = next((turn[name] for name in REASONING if turn.get(name)), "")
    logprobs, tops = _logprobs(choice.get("logprobs"))
    return Piece(int(choice.get("index", 0)), text or "", thinking, choice.get("finish_reason"), logprobs, tops, choice)


REASONING = ("reasoning_content", "reasoning")
"""Where servers put thinking."""


def _logprobs(told: Mapping[str, Any] | None) -> tuple[list[float] | None, list[list[float]]]:
    """Read both forms, since some servers give the chat's for text too."""
    if not told:
        return None, []
    if isinstance(told.get("content"), list):
        entries = told["content"]
        tops = [[float(top["logprob"]) for top in entry.get("top_logprobs") or ()] for entry in entries]
        return [float(entry["logprob"]) for entry in entries], [sorted(row, reverse=True) for row in tops]
    values = told.get("token_logprobs")
    if values is None:
        return None, []
    rows = [sorted((row or {}).values(), reverse=True) for row in told.get("top_logprobs") or ()]
    return [float(value) for value in values], rows


def reasoning_of(choice: Mapping[str, Any]) -> str | None:
    """Return the field that holds thinking, if one does."""
    turn = choice.get("message") or choice.get("delta") or {}
    return next((name for name in REASONING if turn.get(name)), None)


def sampled(said: Any) -> int | None:
    """Return how many tokens the server says it sampled; None if it does not say."""
    usage = said.get("usage") if isinstance(said, dict) else None
    told = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return told if isinstance(told, int) else None


def read(said: Any) -> tuple[int, int] | None:
    """Return how many tokens of the prompt were cached and how many computed; None if the server does not say."""
    usage = (said or {}).get("usage") or {}
    prompt = usage.get("prompt_tokens")
    if not isinstance(prompt, int):
        return None
    cached = min(int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0), prompt)
    return cached, prompt - cached
