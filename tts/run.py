"""What all searches of one problem share: backends, limits, clock, graph, counts, and who is told what happens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tts.budget import Amounts
from tts.errors import ParameterError
from tts.graph import format_key
from tts.retry import Retry
from tts.types import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tts.admission import Admission
    from tts.capabilities import Capabilities
    from tts.graph import Node, SearchGraph
    from tts.protocols import Clock, Generator, Verifier
    from tts.types import Problem, Prompt, Sampling

DEFAULT_MAX_TOKENS = 2048
"""Cap of a path where neither the sampling nor the generator names one; search-and-learn's default."""


@dataclass(slots=True)
class Counts:
    """What usage reports and no limit meters."""

    prompt_cached: int = 0
    prompt_computed: int = 0
    verifier_tokens: int = 0
    verifier_seconds: float = 0.0
    cancelled: int = 0
    discarded: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Caps:
    """How many tokens a path and a step may have, once prompt and context are known."""

    path: int
    step: int


def resolve_caps(sampling: Sampling, capabilities: Capabilities, prompt: Prompt) -> Caps:
    """Settle the caps that the sampling leaves open.

    Raises:
        ParameterError: What was asked for does not fit into the context; it is never silently shrunk.
    """
    room = None if capabilities.context is None else capabilities.context - len(prompt.token_ids)
    if room is not None and room <= 0:
        raise ParameterError(f"the prompt takes {len(prompt.token_ids)} tokens of a context of {capabilities.context}")
    if sampling.max_tokens is not None and room is not None and sampling.max_tokens > room:
        raise ParameterError(
            f"max_tokens={sampling.max_tokens} does not fit: the context of {capabilities.name} is "
            f"{capabilities.context} tokens and the prompt takes {len(prompt.token_ids)}"
        )
    suggested = capabilities.max_tokens or DEFAULT_MAX_TOKENS
    path = sampling.max_tokens or (suggested if room is None else min(suggested, room))
    step = sampling.step_tokens or capabilities.step_tokens or path
    return Caps(path, min(step, path))


@dataclass(slots=True, kw_only=True)
class Run:
    """One problem being searched."""

    problem: Problem
    prompt: Prompt
    generator: Generator
    verifier: Verifier | None
    sampling: Sampling
    caps: Caps
    seed: int
    clock: Clock
    limiter: Admission
    graph: SearchGraph
    started: float
    deadline: float | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    retry: Retry = field(default_factory=Retry)
    observers: Sequence[Callable[[Event], None]] = ()
    counts: Counts = field(default_factory=Counts)
    verifiers: dict[int, Verifier] = field(default_factory=dict)

    def emit(self, kind: str, **data: object) -> None:
        """Tell every observer; callers on hot paths ask `observers` first."""
        event = Event(kind, self.clock.now() - self.started, data)
        for observer in self.observers:
            observer(event)

    def emit_node(self, node: Node) -> None:
        """Tell of a node that has arrived."""
        if self.observers:
            self.emit("node", **describe(node))

    @property
    def prompt_length(self) -> int:
        """Prompt tokens; where the engine shows none, bytes, which are never fewer."""
        return len(self.prompt.token_ids) or len(self.prompt.text.encode())

    def sampling_cost(self, tokens: int, *, cached: int = 0, computed: int = 0) -> Amounts:
        """What sampling `tokens` after such a prompt costs; prompt tokens have no meter of their own."""
        able = self.generator.capabilities
        dollars = (
            tokens * (able.dollars_per_token or 0.0)
            + computed * able.dollars_per_prompt_token
            + cached * able.dollars_per_cached_token
        )
        return Amounts(tokens=tokens, dollars=dollars, flops=(tokens + computed) * (able.flops_per_token or 0.0))

    def scoring_hold(self, verifier: Verifier, tokens: int) -> Amounts:
        """The most that scoring one path of so many tokens can cost."""
        able = verifier.capabilities
        return self.scoring_cost(verifier, able.calls, able.calls * tokens + able.extra_tokens)

    def scoring_cost(self, verifier: Verifier, calls: int, tokens: int) -> Amounts:
        """What so many calls that read so many tokens in all cost."""
        able = verifier.capabilities
        return Amounts(
            verifier_calls=calls,
            dollars=tokens * (able.dollars_per_token or 0.0),
            flops=tokens * (able.flops_per_token or 0.0),
        )


def describe(node: Node) -> dict[str, object]:
    """Return a node as JSON values, for events."""
    data: dict[str, object] = {
        "key": format_key(node.key), "status": node.status.value, "origin": node.origin.value, "text": node.text,
        "tokens": node.tokens, "steps": node.steps, "finish": node.finish and node.finish.value, "seed": node.seed,
        "arrival": node.arrival,
    }  # fmt: skip
    if node.token_ids is not None:
        data["token_ids"] = node.token_ids.tolist()
    if node.logprobs is not None:
        # Nine digits give single precision back.
        data["logprobs"] = [float(f"{value:.9g}") for value in node.logprobs]
    if node.top_logprobs is not None:
        data["top_logprobs"] = [float(f"{value:.9g}") for value in node.top_logprobs]
    return data
