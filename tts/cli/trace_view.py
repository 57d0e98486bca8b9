"""A traced search as views of it need it: its nodes, what became of them, and what was spent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tts.types import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tts.trace import SearchTrace

_CUT = ("cancelled", "discarded")


@dataclass(eq=False, slots=True)
class Row:
    """A node.

    Attributes:
        event: The traced event, with the node's last status.
        parent: The node before it; None for the root.
        children: In key order.
        asked: When it was asked for, in seconds; None for what was not sampled.
        score: The verifier's, aggregated over the path.
        scores: The verifier's, of its own steps.
        chosen: Whether it lies on the chosen path.
        pruned: Whether no finished path goes through it, though nothing cut it short.
        candidate: What the outcome says about the path that ends here.
    """

    event: dict[str, Any]
    parent: Row | None = None
    children: list[Row] = field(default_factory=list)
    asked: float | None = None
    score: float | None = None
    scores: list[float] = field(default_factory=list)
    chosen: bool = False
    pruned: bool = False
    candidate: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """As traces write it; the root's is empty."""
        return str(self.event["key"])

    @property
    def status(self) -> str:
        """What became of it."""
        return str(self.event["status"])

    def ancestry(self) -> Iterator[Row]:
        """Yield the node, its parent, and so on to the root."""
        row: Row | None = self
        while row is not None:
            yield row
            row = row.parent


class TraceView:
    """A search to be shown.

    Attributes:
        trace: What was read.
        root: The prompt's node.
        rows: All nodes in the order of arrival, the root first.
        usage: What was spent; of a search that was broken off, what its events tell.
    """

    def __init__(self, trace: SearchTrace) -> None:
        self.trace = trace
        self.root = Row({"key": "", "status": "open", "origin": "root", "text": "", "tokens": 0, "seconds": 0.0})
        self._by_key = {"": self.root}
        asked = _asked(trace)
        for event in trace.events:
            if event["event"] == "node":
                self._add(event, asked.get(event["key"]))
            elif event["event"] == "score" and event["key"] in self._by_key:
                self._by_key[event["key"]].score = event["score"]
                self._by_key[event["key"]].scores = event["scores"]
            elif event["event"] == "status" and event["key"] in self._by_key:
                row = self._by_key[event["key"]]
                row.event = {**row.event, "status": event["status"]}
        self.rows = list(self._by_key.values())
        for row in self.rows:
            row.children.sort(key=lambda child: int(child.key.rpartition(".")[2]))
        self._mark_pruned()
        self._mark_candidates()
        self.usage = self._usage()

    def _add(self, event: dict[str, Any], asked: float | None) -> None:
        # Where a damaged file lacks a parent, the node hangs from the root rather than be lost.
        parent = self._by_key.get(event["key"].rpartition(".")[0], self.root)
        row = Row(event, parent, asked=asked)
        parent.children.append(row)
        self._by_key[event["key"]] = row

    def _mark_pruned(self) -> None:
        kept: set[Row] = set()
        for row in self.rows:
            if row.status == "finished":
                for step in row.ancestry():
                    if step in kept:
                        break
                    kept.add(step)
        for row in self.rows[1:]:
            row.pruned = row not in kept and row.status not in _CUT

    def _mark_candidates(self) -> None:
        outcome = self.trace.outcome
        if outcome is None:
            return
        for candidate in outcome["candidates"]:
            row = self._by_key.get(candidate["key"])
            if row is not None:
                row.candidate = candidate
        chosen = self._by_key.get(outcome["chosen"])
        for step in chosen.ancestry() if chosen is not None else ():
            step.chosen = True

    def _usage(self) -> Usage:
        if self.trace.outcome is not None:
            return Usage.model_validate(self.trace.outcome["usage"])
        events = self.trace.events
        verified = [event for event in events if event["event"] == "verified"]
        prompts = [event for event in events if event["event"] == "prompt"]
        failed = [event for event in events if event["event"] == "failed"]
        return Usage(
            generated=self.trace.generated(),
            samples=sum(row.event["origin"] == "sampled" for row in self.rows) + len(failed),
            prompt_cached=sum(event["cached"] for event in prompts),
            prompt_computed=sum(event["computed"] for event in prompts),
            verifier_calls=sum(event["calls"] for event in verified),
            verifier_tokens=sum(event["tokens"] for event in verified),
            seconds=events[-1]["seconds"] if events else 0.0,
            pruned=sum(row.event["tokens"] for row in self.rows if row.pruned),
            cancelled=self._tokens("cancelled"),
            discarded=self._tokens("discarded"),
            failed=sum(event["tokens"] for event in failed),
        )

    def _tokens(self, status: str) -> int:
        return sum(row.event["tokens"] for row in self.rows if row.status == status)

    def count(self, status: str) -> int:
        """Return how many nodes came to this."""
        return sum(row.status == status for row in self.rows[1:])


def _asked(trace: SearchTrace) -> dict[str, float]:
    asked: dict[str, float] = {}
    for event in trace.events:
        if event["event"] == "request":
            prefix = f"{event['parent']}." if event["parent"] else ""
            for draw in range(event["first"], event["first"] + event["count"]):
                asked.setdefault(f"{prefix}{draw}", event["seconds"])
    return asked


def ending(trace: SearchTrace) -> str:
    """Say how the search ended, in a few words."""
    outcome = trace.outcome
    if outcome is None:
        return "broken off: the trace has no end"
    if outcome["error"]:
        return f"error: {outcome['error']}"
    if outcome["limit"]:
        return f"cut by the limit on {outcome['limit']}"
    return "done" if outcome["answer"] is not None else "no answer"
