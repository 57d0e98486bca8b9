"""What a search came to."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from tts.graph import Node, SearchGraph, Status, format_key
from tts.selection import Answer, best
from tts.types import Frozen, Usage

if TYPE_CHECKING:
    from tts.search import Search


class Ended(StrEnum):
    """How a search ended."""

    DONE = "done"
    BUDGET = "budget"
    """a limit cut it; there may be an answer all the same"""
    NO_ANSWER = "no_answer"
    """it ran to its end, and no candidate has an answer, or none that could vote"""
    ERROR = "error"


class Candidate(Frozen):
    """One path that was considered, with what spoke for it."""

    key: str = Field(description="where it stands in the graph")
    answer: str | None
    text: str = Field(description="what the path says, thinking left out")
    finished: bool
    score: float | None = Field(default=None, description="the verifier's, in [0, 1], aggregated over steps")
    scores: tuple[float, ...] = Field(default=(), description="the verifier's, step by step")
    votes: float | None = Field(default=None, description="weight of all candidates with an equal answer")
    tokens: int = 0


class Outcome(Frozen):
    """The answer, what it rests on, what it cost, and how the search ended.

    `graph` is left out of JSON; a trace holds it.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    problem: str = Field(description="the problem's id")
    strategy: str
    parameters: dict[str, Any]
    seed: int
    answer: str | None
    text: str = Field(description="what the chosen path says, thinking left out")
    thinking: str = ""
    chosen: str | None = Field(default=None, description="key of the path that was chosen, in the graph")
    candidates: tuple[Candidate, ...] = Field(default=(), description="best first")
    usage: Usage
    support: float | None = Field(default=None, description="share of candidates with an answer that agree")
    ended: Ended
    limit: str | None = Field(default=None, description="the limit that cut the search")
    error: str | None = None
    fingerprint: dict[str, Any] = Field(default_factory=dict)
    graph: SearchGraph | None = Field(default=None, exclude=True, repr=False)


def fallback_answer(graph: SearchGraph) -> Answer:
    """Answer from whatever graph there is, after an error."""
    hidden = (Status.CANCELLED, Status.DISCARDED, Status.DEAD)
    return best(node for node in graph if node.status not in hidden and node.parent is not None)


def measure(search: Search, seconds: float) -> Usage:
    """Sum up what a search cost."""
    run, ledger = search.run, search.ledger
    able, judge = run.generator.capabilities, None if run.verifier is None else run.verifier.capabilities
    priced = able.dollars_per_token is not None and (judge is None or judge.dollars_per_token is not None)
    counted = able.flops_per_token is not None and (judge is None or judge.flops_per_token is not None)
    return Usage(
        generated=ledger.spent.tokens,
        prompt_cached=run.counts.prompt_cached,
        prompt_computed=run.counts.prompt_computed,
        samples=ledger.spent.samples,
        verifier_calls=ledger.spent.verifier_calls,
        verifier_tokens=run.counts.verifier_tokens,
        verifier_seconds=run.counts.verifier_seconds,
        seconds=seconds,
        critical_path=search.critical_path,
        pruned=_pruned_tokens(run.graph),
        cancelled=run.counts.cancelled,
        discarded=run.counts.discarded,
        failed=run.counts.failed,
        unobserved=ledger.unobserved,
        dollars=ledger.spent.dollars if priced else None,
        flops=ledger.spent.flops if counted else None,
    )


def _pruned_tokens(graph: SearchGraph) -> int:
    hidden = (Status.CANCELLED, Status.DISCARDED)
    kept: set[int] = set()
    for node in graph:
        step: Node | None = node if node.finished else None
        while step is not None and id(step) not in kept:
            kept.add(id(step))
            step = step.parent
    return sum(node.tokens for node in graph if id(node) not in kept and node.status not in hidden)


def candidates_of(answer: Answer) -> tuple[Candidate, ...]:
    """Describe a strategy's candidates for the outcome."""
    return tuple(
        Candidate(
            key=format_key(entry.node.key),
            answer=entry.node.answer,
            text=entry.node.graph.split(entry.node)[1],
            finished=entry.node.finished,
            score=entry.node.score,
            scores=entry.node.path_scores,
            votes=entry.votes,
            tokens=entry.node.path_tokens,
        )
        for entry in answer.ranking
    )


def support_of(answer: Answer) -> float | None:
    """Return which share of the candidates that have an answer agrees with the chosen one."""
    if answer.chosen is None or answer.chosen.answer_key is None:
        return None
    keys = [entry.node.answer_key for entry in answer.ranking if entry.node.answer_key is not None]
    return keys.count(answer.chosen.answer_key) / len(keys) if keys else None
