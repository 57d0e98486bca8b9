"""What was searched: an append-only tree of nodes, compact enough to keep whole."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    import networkx

    from tts.protocols import AnswerReader
    from tts.types import Finish, Prompt

Key = tuple[int, ...]


class Status(StrEnum):
    """What became of a node."""

    OPEN = "open"
    """can be continued"""
    FINISHED = "finished"
    """ended by the model or by a stop"""
    TRUNCATED = "truncated"
    """ran into a cap on tokens or steps; not finished"""
    DEAD = "dead"
    """an empty step, twice"""
    CANCELLED = "cancelled"
    """aborted in flight; its text was not kept"""
    DISCARDED = "discarded"
    """paid for, but arrived after the search had moved on"""


class Origin(StrEnum):
    """Where a node's text comes from."""

    ROOT = "root"
    SAMPLED = "sampled"
    GIVEN = "given"
    """put in by the strategy: a hint, a revision, "Wait" """
    BRANCH = "branch"
    """an empty node under which a sub-search grows"""


class Node:
    """A path's last step, linked to the step before it.

    `scores` are the verifier's values for this node's own steps; `score` is the aggregate over its whole path that the
    strategy asked for, or None before scoring. `drawn_from` is the node whose child was asked for: the parent, unless
    thinking was ended in between. `finish` is the engine's word on how the text ended, None for text that was given.
    `arrival` numbers nodes in the order in which they came.
    """

    __slots__ = (
        "arrival", "depth", "digest", "drawn_from", "draws", "finish", "graph", "key", "logprobs", "origin", "parent",
        "path_steps", "path_tokens", "score", "scores", "seed", "status", "steps", "text", "token_ids", "tokens",
        "top_logprobs",
    )  # fmt: skip

    def __init__(self, graph: SearchGraph, parent: Node | None, draw: int, text: str, origin: Origin) -> None:
        self.graph = graph
        self.parent = parent
        self.key: Key = () if parent is None else (*parent.key, draw)
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.text = text
        self.origin = origin
        self.status = Status.OPEN
        self.tokens = 0
        self.path_tokens: int = 0 if parent is None else parent.path_tokens
        self.path_steps: int = 0 if parent is None else parent.path_steps
        self.token_ids: array[int] | None = None
        self.logprobs: array[float] | None = None
        self.top_logprobs: array[float] | None = None
        self.steps = 0
        self.scores: tuple[float, ...] = ()
        self.score: float | None = None
        self.draws = 0
        self.drawn_from = parent
        self.finish: Finish | None = None
        self.seed: int | None = None
        self.arrival = -1
        # Equal paths share a digest, whatever their keys, so that a verifier judges each once.
        before: bytes = b"" if parent is None else parent.digest
        self.digest: bytes = _digest(before, text) if text else before

    @property
    def done(self) -> bool:
        """Whether the node cannot be continued."""
        return self.status is not Status.OPEN

    @property
    def finished(self) -> bool:
        """Whether the model or a stop ended the path."""
        return self.status is Status.FINISHED

    def path(self) -> list[Node]:
        """Return the nodes from the first step to this one, the root left out."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes

    def segment(self) -> list[Node]:
        """Return the nodes after `drawn_from` up to this one: itself, and what led to it where thinking was ended."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None and node is not self.drawn_from:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes

    @property
    def sampled(self) -> int:
        """Tokens sampled since the node whose child was asked for."""
        return sum(node.tokens for node in self.segment())

    @property
    def path_text(self) -> str:
        """What the path says, after the prompt."""
        return "".join(node.text for node in self.path())

    @property
    def path_scores(self) -> tuple[float, ...]:
        """The verifier's values for every step of the path that has been scored."""
        return tuple(score for node in self.path() for score in node.scores)

    @property
    def answer(self) -> str | None:
        """The final answer of a finished path, or None."""
        return self.graph.read_answer(self)[0]

    @property
    def answer_key(self) -> object:
        """What paths with equal answers share; None when there is no answer that could vote."""
        return self.graph.read_answer(self)[1]

    @property
    def mean_logprob(self) -> float | None:
        """Mean log-probability of the path's sampled tokens, or None where the engine gave none."""
        values = [value for node in self.path() for value in node.logprobs or ()]
        return sum(values) / len(values) if values else None

    def __repr__(self) -> str:
        return f"<Node {format_key(self.key)} {self.status.value} score={self.score} {self.text[:30]!r}>"


def _digest(before: bytes, text: str) -> bytes:
    return hashlib.blake2b(before + text.encode(errors="surrogatepass"), digest_size=16).digest()


def format_key(key: Key) -> str:
    """Write a key as traces do: "0.3.1"; the root is ""."""
    return ".".join(map(str, key))


class SearchGraph:
    """All nodes of one search, in the order in which they arrived."""

    def __init__(self, prompt: Prompt, reader: AnswerReader, split: ThinkingSplitter) -> None:
        self.prompt = prompt
        self._reader = reader
        self._split = split
        self._answers: dict[Key, tuple[str | None, object]] = {}
        self.nodes: list[Node] = []
        self.root = self.append(Node(self, None, 0, "", Origin.ROOT))

    def append(self, node: Node) -> Node:
        """Add a node; its number in the order of arrival becomes `arrival`."""
        node.arrival = len(self.nodes)
        self.nodes.append(node)
        return node

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def split(self, node: Node) -> tuple[str, str]:
        """Return a path's thinking and its visible text."""
        return self._split(self.prompt.text, node.path_text)

    def read_answer(self, node: Node) -> tuple[str | None, object]:
        """Return a finished path's answer and its equivalence key, both None for other paths."""
        if node.status not in (Status.FINISHED, Status.DISCARDED):
            return None, None
        known = self._answers.get(node.key)
        if known is None:
            answer = self._reader.extract(self.split(node)[1])
            known = (answer, None if answer is None else self._reader.key(answer))
            self._answers[node.key] = known
        return known

    def consumed(self) -> list[Node]:
        """Return the nodes that the strategy saw, in key order: the same for one seed at any concurrency."""
        hidden = (Status.CANCELLED, Status.DISCARDED)
        return sorted((node for node in self.nodes if node.status not in hidden), key=lambda node: node.key)

    def networkx(self) -> networkx.DiGraph[Key]:
        """Return the graph for drawing and analysis: nodes are keys, with text, status, score and tokens."""
        import networkx  # seldom wanted, and slow to import

        view: networkx.DiGraph[Key] = networkx.DiGraph()
        for node in self.nodes:
            view.add_node(
                node.key, text=node.text, status=node.status.value, origin=node.origin.value,
                score=node.score, scores=node.scores, tokens=node.tokens,
            )  # fmt: skip
            if node.parent is not None:
                view.add_edge(node.parent.key, node.key)
        return view


class ThinkingSplitter:
    """Tells a path's thinking from what it says, by the marks of a `Sampling`."""

    def __init__(self, opening: str, closing: str) -> None:
        self.opening = opening
        self.closing = closing

    def __call__(self, prompt: str, path: str) -> tuple[str, str]:
        """Return (thinking, visible text); a chat template may have opened the thinking in the prompt."""
        from tts.answers import split_thinking

        inside = prompt.rstrip().endswith(self.opening)
        return split_thinking(path, self.opening, self.closing, inside=inside)
