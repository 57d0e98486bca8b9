"""What generators, scorers, verifiers and clocks promise, as numbered clauses that `tts.testing` checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from tts.types import Completion, Frozen, Message, Prompt, Sampling

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from tts.search import Search
    from tts.selection import Answer

SEED_BLOCK = 4096
"""Seeds of a request are its base plus the child's place; bases are multiples of this, so requests never share one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a generator can do, and what it costs.

    Attributes:
        name: How results name it, with its model.
        continuation: It continues a path exactly where it stopped.
        token_ids: It shows token ids and takes a prefix as token ids.
        logprobs: It gives the log-probability of each sampled token.
        logprobs_free: They cost nothing, so that they are asked for without need.
        top_logprobs: How many log-probabilities of the most likely tokens it gives for each sampled one, at most.
        seeds: The same request with the same seed gives the same text.
        exact_cancellation: When a request is cancelled, every token sampled has been reported to the sink.
        context: Prompt and path together, in tokens; None if unknown.
        max_tokens: Suggested cap of a path, used where `Sampling.max_tokens` is None.
        step_tokens: Suggested cap of a step, used where `Sampling.step_tokens` is None.
        system: Suggested system prompt, used where none is given.
        task: Task whose rules read its answers, where the problem names none.
        dollars_per_token: Price of a sampled token; None if unknown, so that a limit in dollars is refused.
        dollars_per_prompt_token: Price of a computed prompt token.
        dollars_per_cached_token: Price of a cached prompt token.
        flops_per_token: Floating-point operations of one token, sampled or computed; None if unknown.
        runtimes: Event loops that it runs under.
        fingerprint: Facts that identify engine, weights, tokenizer and settings (JSON values).
        lacks: Why it cannot do what it cannot, by the field's name; said where a strategy is refused for it.
    """

    name: str
    continuation: bool = True
    token_ids: bool = True
    logprobs: bool = True
    logprobs_free: bool = True
    top_logprobs: int = 0
    seeds: bool = True
    exact_cancellation: bool = False
    context: int | None = None
    max_tokens: int | None = None
    step_tokens: int | None = None
    system: str | None = None
    task: str | None = None
    dollars_per_token: float | None = None
    dollars_per_prompt_token: float = 0.0
    dollars_per_cached_token: float = 0.0
    flops_per_token: float | None = None
    runtimes: tuple[str, ...] = ("asyncio", "trio")
    fingerprint: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    lacks: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """`count` children of one path, in one request.

    Attributes:
        prompt: The problem as `encode` rendered it.
        text: What the path says so far, after the prompt.
        token_ids: The path's token ids after the prompt; empty if the engine shows none, or the path is empty.
        count: Children wanted, at most `SEED_BLOCK`.
        seed: Child j draws with seed + j.
        max_tokens: Cap of each child.
        delimiters: Texts that end a step; empty when children run to the end of the path.
        sampling: Temperature and the rest; its caps and delimiters are not for the engine.
        logprobs: Whether log-probabilities are wanted.
        top_logprobs: Of how many of the most likely tokens, for each sampled one.
        cancellable: Whether the caller may cancel, so that progress is worth reporting.
    """

    prompt: Prompt
    text: str
    token_ids: Sequence[int]
    count: int
    seed: int
    max_tokens: int
    delimiters: tuple[str, ...]
    sampling: Sampling
    logprobs: bool = False
    top_logprobs: int = 0
    cancellable: bool = False


class Sink(Protocol):
    """Where a generator reports, from the event loop's thread."""

    def prompt(self, *, cached: int, computed: int) -> None:
        """Report how many prompt tokens came from a cache and how many were computed."""

    def progress(self, index: int, tokens: int) -> None:
        """Report that child `index` has had `tokens` tokens sampled so far."""

    def finish(self, index: int, completion: Completion) -> None:
        """Deliver child `index`."""


@runtime_checkable
class Generator(Protocol):
    """Draws text.

    G1. `generate` delivers each of `count` children once to the sink, as soon as it is complete, then returns; or
    raises.
    G2. A completion's text is what its tokens say; a matched delimiter or stop is part of both.
    G3. `finish` is the engine's word: DELIMITER or STOP for a matched text, EOS, or LENGTH at `max_tokens`; never a
    look at the text.
    G4. No completion has more than `max_tokens` tokens, and the end-of-sequence token is counted.
    G5. With `seeds`, child j depends on (prompt, path, seed + j, sampling) alone, not on what runs beside it.
    G6. Cancelling `generate` aborts on the engine. With `exact_cancellation`, progress has by then told every token.
    G7. A fault that may pass is a TransientError; children already delivered stay delivered.
    G8. With `logprobs` asked and supported, there is one per token; with `token_ids`, one id per token; with
    `top_logprobs`, that many per token, the greatest first.
    G9. What must be asked of a server first is asked in `connect`, where there is one (see the function of that name).
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it can do and what it costs."""

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        """Render a conversation with the model's chat template.

        Raises:
            ProblemError: The model cannot read it.
        """

    async def tokenize(self, text: str) -> Sequence[int]:
        """Return the token ids of `text` as part of a path; empty if the engine shows none."""

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        """Draw the children of one path."""

    async def aclose(self) -> None:
        """Release the engine."""


@dataclass(frozen=True, slots=True)
class ScorerCapabilities:
    """What a scorer can do, and what it costs, as in `Capabilities`.

    Attributes:
        classes: How many classes it gives probabilities of; 0 where it gives those of labels alone.
        labels: It gives next-token probabilities of labels.
        local: It encodes and tokenizes in this process, so that nothing is gained by asking side by side.
    """

    name: str
    classes: int = 2
    context: int | None = None
    dollars_per_token: float | None = None
    flops_per_token: float | None = None
    runtimes: tuple[str, ...] = ("asyncio", "trio")
    fingerprint: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    labels: bool = False
    local: bool = False


@runtime_checkable
class Scorer(Protocol):
    """Token ids in, class probabilities out.

    S1. One row per asked position, in order, each a probability vector over the classes, or over `labels` where given.
    S2. The result for a sequence does not depend on what is scored beside it.
    """

    @property
    def capabilities(self) -> ScorerCapabilities:
        """What it can do and what it costs."""

    async def encode(self, messages: Sequence[Message]) -> Sequence[int]:
        """Render a conversation into token ids."""

    async def tokenize(self, text: str) -> Sequence[int]:
        """Return the token ids of `text`, to be appended to a rendered conversation."""

    async def probabilities(
        self,
        sequences: Sequence[Sequence[int]],
        positions: Sequence[Sequence[int]],
        *,
        labels: Sequence[int] | None = None,
    ) -> Sequence[Sequence[Sequence[float]]]:
        """Return class probabilities, or with `labels` next-token ones, at each sequence's positions."""

    async def aclose(self) -> None:
        """Release the engine."""


async def connect(backend: object) -> None:
    """Let a backend that has a method `connect` find out what it can do; capabilities are read after that.

    It may be called any number of times; one that has no such method is ready as it is.

    Raises:
        BackendError: There is no such server, or it is not what it was taken for.
    """
    ask = getattr(backend, "connect", None)
    if ask is not None:
        await ask()


@dataclass(frozen=True, slots=True)
class Path:
    """A path as a verifier sees it: the problem, its steps in order, and whether it has finished."""

    messages: tuple[Message, ...]
    steps: tuple[str, ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class PathScore:
    """A verifier's word on one path: probabilities in [0, 1], and how many tokens it read for them."""

    values: Sequence[float]
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierCapabilities:
    """What a verifier gives, and what it costs.

    Attributes:
        name: How results name it.
        steps: One score a step (a process reward model); otherwise one score a path.
        partial: It may be asked about paths that have not finished.
        dollars_per_token: Price of a token read; None if unknown.
        flops_per_token: Operations of a token read; None if unknown.
        runtimes: Event loops that it runs under.
        fingerprint: Facts that identify it (JSON values).
    """

    name: str
    steps: bool
    partial: bool = True
    dollars_per_token: float | None = None
    flops_per_token: float | None = None
    runtimes: tuple[str, ...] = ("asyncio", "trio")
    fingerprint: dict[str, str | int | float | bool | None] = field(default_factory=dict)


@runtime_checkable
class Verifier(Protocol):
    """Judges paths.

    V1. One PathScore per path, in order.
    V2. As many values as steps if it scores steps, else exactly one; a path given as a single step gets one value.
    V3. Values are finite and in [0, 1]; what cannot be judged is an error, never an invented score.
    V4. A path's score does not depend on what is scored beside it; a step's does not depend on later steps.
    V5. A fault that may pass is a TransientError.
    """

    @property
    def capabilities(self) -> VerifierCapabilities:
        """What it gives and what it costs."""

    async def score(self, paths: Sequence[Path]) -> Sequence[PathScore]:
        """Judge paths."""

    async def aclose(self) -> None:
        """Release what it holds."""


class AnswerReader(Protocol):
    """Reads answers from text and says which are the same."""

    def extract(self, text: str) -> str | None:
        """Return the final answer in `text` (thinking removed), or None if there is none."""

    def key(self, answer: str) -> Hashable | None:
        """Return what equal answers share, or None if the answer cannot be parsed and so must not vote."""


class Clock(Protocol):
    """Time, so that tests can bend it."""

    def now(self) -> float:
        """Seconds since some fixed moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a strategy cannot do without; checked before the first token.

    Attributes:
        verifier: Something that scores.
        partial_scores: A verifier that judges unfinished paths.
        continuation: A generator that continues a path exactly where it stopped.
        logprobs: Log-probabilities of sampled tokens.
        top_logprobs: Of so many of the most likely tokens, for each sampled one.
    """

    verifier: bool = False
    partial_scores: bool = False
    continuation: bool = False
    logprobs: bool = False
    top_logprobs: int = 0


class Strategy(Frozen):
    """Base of every strategy. Parameters are fields; what a search needs to remember is local to `search`.

    `scales_with` names the parameter that says how much of it there is, by which the harness fits it to a budget.
    """

    name: ClassVar[str]
    scales_with: ClassVar[str] = "n"

    @property
    def needs(self) -> Needs:
        """What these parameters need of generator and verifier."""
        return Needs()

    @property
    def order_sensitive(self) -> bool:
        """Whether the answer may hang on which sample arrives first; such a search is reproduced from its trace."""
        return False

    async def search(self, s: Search) -> Answer:
        """Grow the search graph and answer from it.

        Every local is bound before the first batch, which the budget may leave empty.
        """
        raise NotImplementedError
