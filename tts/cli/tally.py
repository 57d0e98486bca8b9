"""What a search has come to so far, counted from its events."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tts.cli.text import one_line
from tts.types import Usage

if TYPE_CHECKING:
    from tts.types import Event

_HIDDEN = ("cancelled", "discarded", "dead")


@dataclass(slots=True)
class Tip:
    """The last node of a path, as far as a view shows it."""

    key: str
    status: str
    tokens: int
    last_line: str
    score: float | None = None

    def rank(self) -> tuple[bool, float, str]:
        """Order: finished first, then by score, then by key."""
        return self.status != "finished", 0.0 if self.score is None else -self.score, self.key


@dataclass(slots=True)
class Tally:
    """Counts of one search; `observe` is an observer.

    Attributes:
        start: The facts of the search: strategy, parameters, budget.
        seconds: When the last event came.
        tokens: Sampled so far, also by attempts that failed.
        samples: Sequences started and settled.
        verifier_calls: Sequences scored.
        tips: Paths that nothing continues yet, by key.
        nodes: Nodes so far.
    """

    start: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    tokens: int = 0
    samples: int = 0
    verifier_calls: int = 0
    nodes: int = 0
    tips: dict[str, Tip] = field(default_factory=dict)

    def observe(self, event: Event) -> None:
        """Count one event."""
        self.seconds = event.seconds
        if event.kind == "start":
            self.start = event.data
        elif event.kind == "node":
            self._add(event.data)
        elif event.kind == "failed":
            self.tokens += event.data["tokens"]
            self.samples += 1
        elif event.kind == "verified":
            self.verifier_calls += event.data["calls"]
        elif event.kind == "score" and event.data["key"] in self.tips:
            self.tips[event.data["key"]].score = event.data["score"]
        elif event.kind == "status" and event.data["status"] in _HIDDEN:
            self.tips.pop(event.data["key"], None)

    def _add(self, node: dict[str, Any]) -> None:
        self.nodes += 1
        self.tokens += node["tokens"]
        self.samples += node["origin"] == "sampled"
        self.tips.pop(node["key"].rpartition(".")[0], None)
        if node["status"] not in _HIDDEN:
            last_line = one_line(node["text"].rstrip().rpartition("\n")[2])
            self.tips[node["key"]] = Tip(node["key"], node["status"], node["tokens"], last_line)

    def best(self, count: int) -> list[tuple[Tip, int]]:
        """Return the most promising paths, best first, each with how many say the same."""
        alike: dict[tuple[str, float | None, str], list[Tip]] = {}
        for tip in self.tips.values():
            alike.setdefault((tip.status, tip.score, tip.last_line), []).append(tip)
        groups = [(min(tips, key=Tip.rank), len(tips)) for tips in alike.values()]
        return heapq.nsmallest(count, groups, key=lambda group: group[0].rank())

    def used(self, limit: str) -> float | None:
        """Return how much of a budget's limit is gone, or None where events do not tell."""
        return getattr(self, limit) if limit in ("tokens", "samples", "verifier_calls", "seconds") else None

    def usage(self) -> Usage:
        """Return the counts as the usage of a search that was broken off."""
        return Usage(
            generated=self.tokens, samples=self.samples, verifier_calls=self.verifier_calls, seconds=self.seconds
        )
