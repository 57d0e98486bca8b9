"""What generators, scorers and verifiers say of themselves: what they can do, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, field


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


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierCapabilities:
    """What a verifier gives, and what it costs.

    Attributes:
        name: How results name it.
        steps: One score a step (a process reward model); otherwise one score a path.
        partial: It may be asked about paths that have not finished.
        calls: How often it asks something about one path, at most; each counts as a call, and reads the path.
        extra_tokens: Tokens that it reads and writes for one path beyond reading the path `calls` times, at most.
        logprobs: It judges by the log-probabilities of the sampled tokens.
        top_logprobs: And by so many of the most likely ones at each of them.
        dollars_per_token: Price of a token read; None if unknown.
        flops_per_token: Operations of a token read; None if unknown.
        runtimes: Event loops that it runs under.
        fingerprint: Facts that identify it (JSON values).
    """

    name: str
    steps: bool
    partial: bool = True
    calls: int = 1
    extra_tokens: int = 0
    logprobs: bool = False
    top_logprobs: int = 0
    dollars_per_token: float | None = None
    flops_per_token: float | None = None
    runtimes: tuple[str, ...] = ("asyncio", "trio")
    fingerprint: dict[str, str | int | float | bool | None] = field(default_factory=dict)
