"""Nodes made by hand, for tests of what chooses among them."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from tts.answers import MathAnswerReader
from tts.graph import Node, Origin, SearchGraph, Status, ThinkingSplitter
from tts.types import Message, Prompt


@dataclass(frozen=True)
class Made:
    """What a node is to say and be."""

    text: str
    status: Status
    score: float | None = None
    logprobs: tuple[float, ...] | None = None


def finished(answer: str, *, score: float | None = None, logprobs: tuple[float, ...] | None = None) -> Made:
    """Describe a path that ended in an answer; one that cannot be read, if it is empty."""
    return Made(f"So \\boxed{{{answer}}}" if answer else "So what?", Status.FINISHED, score, logprobs)


def unfinished(answer: str, *, score: float | None = None) -> Made:
    """Describe a path that was cut off behind an answer."""
    return Made(f"So \\boxed{{{answer}}}", Status.TRUNCATED, score)


def graph_of(*children: Made) -> list[Node]:
    """Return the root of a new graph and a child of it for each description, in order."""
    prompt = Prompt((Message(role="user", content="What?"),), "What?")
    graph = SearchGraph(prompt, MathAnswerReader(), ThinkingSplitter("<think>", "</think>"))
    for place, made in enumerate(children):
        node = Node(graph, graph.root, place, made.text, Origin.SAMPLED)
        node.status = made.status
        node.score = made.score
        node.tokens = len(made.text)
        node.logprobs = None if made.logprobs is None else array("f", made.logprobs)
        graph.append(node)
    return list(graph)
