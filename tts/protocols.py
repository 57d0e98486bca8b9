"""What generators, scorers, verifiers and clocks promise, as numbered clauses that `tts.testing` checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from tts.types import Completion, Frozen, Message, Prompt, Sampling

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from tts.capabilities import Capabilities, ScorerCapabilities, VerifierCapabilities
    from tts.search import Search
    from tts.selection import Answer

SEED_BLOCK = 4096
"""Seeds of a request are its base plus the child's place; bases are multiples of this, so requests never share one."""


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
    """A path as a verifier sees it: the problem, its steps in order, and whether it has finished.

    Attributes:
        messages: The conversation that it answers.
        steps: Its steps, which join to its text.
        finished: Nothing follows.
        logprobs: Natural log-probabilities of its sampled tokens, in order; None unless the verifier asks for them.
        top_logprobs: Of the most likely tokens at each of these, the greatest first, as many each as the verifier asks
            for, flat; None unless it does.
    """

    messages: tuple[Message, ...]
    steps: tuple[str, ...]
    finished: bool
    logprobs: tuple[float, ...] | None = None
    top_logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class PathScore:
    """A verifier's word on one path.

    Attributes:
        values: Probabilities in [0, 1].
        tokens: How many it read and wrote for them.
        calls: How often it asked something about this path, at most as often as its capabilities say.
    """

    values: Sequence[float]
    tokens: int = 0
    calls: int = 1


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
