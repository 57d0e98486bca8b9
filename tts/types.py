"""Frozen values that cross the library's borders: problems, sampling, completions, scores, usage."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tts.errors import ProblemError

if TYPE_CHECKING:
    from array import array


class Frozen(BaseModel):
    """Base of the validated values: immutable, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Frozen):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Problem(Frozen):
    """What is asked: the conversation so far, a name, and the task whose rules read the answer.

    `task` names a registered task whose answer reader groups answers; None means the general mathematical one.
    A gold answer is no part of a problem, so none can reach a strategy or a verifier.
    """

    messages: tuple[Message, ...]
    id: str = ""
    task: str | None = None

    @model_validator(mode="after")
    def _has_content(self) -> Problem:
        if not self.messages or not self.messages[-1].content.strip():
            raise ProblemError("the problem is empty: give a question, or messages that end in one")
        return self

    @property
    def question(self) -> str:
        """The content of the last message."""
        return self.messages[-1].content


class Sampling(Frozen):
    """How text is drawn, and what ends a step, a path and its thinking.

    Caps that are None take the generator's own suggestion, or its context length.
    """

    temperature: float = Field(default=0.8, ge=0, le=5, description="0 is greedy")
    top_p: float = Field(default=1.0, gt=0, le=1, description="nucleus; 1 keeps all")
    top_k: int = Field(default=0, ge=0, description="most likely tokens kept; 0 keeps all")
    max_tokens: int | None = Field(default=None, gt=0, description="tokens of a whole path; longer is truncated")
    step_tokens: int | None = Field(default=None, gt=0, description="tokens of one step; longer is truncated")
    max_steps: int = Field(default=40, gt=0, description="steps of a path; more is truncated")
    delimiters: tuple[str, ...] = Field(default=("\n\n",), description="texts that end a step, and stay in it")
    stops: tuple[str, ...] = Field(default=(), description="texts that finish a path, and stay in it")
    thinking_tokens: int | None = Field(default=None, gt=0, description="cap on thinking; then it is closed")
    thinking_open: str = Field(default="<think>", min_length=1)
    thinking_close: str = Field(default="</think>", min_length=1)

    @model_validator(mode="after")
    def _texts_are_not_empty(self) -> Sampling:
        if any(not text for text in (*self.delimiters, *self.stops)):
            raise ValueError("a delimiter or stop is empty")
        return self


class Finish(StrEnum):
    """Why an engine stopped, by its own word."""

    DELIMITER = "delimiter"
    """a step delimiter was matched"""
    STOP = "stop"
    """a stop text was matched: the path is finished"""
    EOS = "eos"
    """the model ended the path"""
    LENGTH = "length"
    """the token cap was reached: truncated"""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A problem as the generator will read it.

    `token_ids` is empty where the engine does not show its tokens.
    """

    messages: tuple[Message, ...]
    text: str
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """One child as its engine returned it.

    `text` is exactly what the tokens say, a matched delimiter included. `tokens` counts what was sampled,
    end-of-sequence included. `token_ids` and `logprobs` (natural logarithm, of the tokens sampled, under the sampled
    distribution before temperature) are packed arrays of type "i" and "f", or None where the engine gives none.
    `top_logprobs` has, for each token in turn, those of the most likely tokens, the greatest first. `unobserved` bounds
    what may have been sampled beyond `tokens` where the engine was stopped from outside and could not say.
    """

    text: str
    finish: Finish
    tokens: int
    token_ids: array[int] | None = None
    logprobs: array[float] | None = None
    top_logprobs: array[float] | None = None
    unobserved: int = 0


class Usage(Frozen):
    """What a search cost. Tokens unless said otherwise.

    `generated` counts every sampled token: kept, pruned, cancelled, discarded, and of attempts that failed. `pruned`,
    `cancelled`, `discarded` and `failed` say how much of it went there. `unobserved` bounds from above what aborts may
    have cost beyond what was seen; it is not part of `generated`.
    """

    generated: int = 0
    prompt_cached: int = 0
    prompt_computed: int = 0
    samples: int = Field(default=0, description="sequences asked of the engine")
    verifier_calls: int = Field(default=0, description="questions to the verifier")
    verifier_tokens: int = Field(default=0, description="tokens that the verifier read and wrote")
    verifier_seconds: float = Field(default=0.0, description="sum over calls of how long they took; they may overlap")
    seconds: float = Field(default=0.0, description="wall-clock")
    critical_path: int = Field(default=0, description="sampled tokens that had to be waited for, one after another")
    pruned: int = Field(default=0, description="on branches that no finished candidate goes through")
    cancelled: int = Field(default=0, description="of branches aborted in flight")
    discarded: int = Field(default=0, description="of branches that arrived after the search had moved on")
    failed: int = Field(default=0, description="of attempts that failed and were made again")
    unobserved: int = 0
    dollars: float | None = None
    flops: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a search; the same in traces, streams and live views.

    `seconds` counts from the start of the search. `data` holds JSON values only.
    """

    kind: str
    seconds: float
    data: dict[str, Any] = field(default_factory=dict)
