"""Asking a verifier about nodes: each distinct path once, every answer checked, every token charged."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Sized
from typing import TYPE_CHECKING

from tts.aggregation import Aggregation, aggregate
from tts.errors import ScoreCountError, ScoreValueError
from tts.graph import Status, format_key
from tts.protocols import Path, PathScore
from tts.retry import call_with_retry
from tts.seeds import generator
from tts.steps import split_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.graph import Node
    from tts.protocols import Verifier
    from tts.run import Run
    from tts.search import Search

Scores = ChainMap[tuple[int, bytes, bool], PathScore]
"""Replies by verifier, path, and whether the path was judged as a single step."""


def scorable(node: Node, verifier: Verifier) -> bool:
    """Whether there is something to judge."""
    if node.status in (Status.DEAD, Status.CANCELLED) or not node.path_steps:
        return False
    return node.finished or verifier.capabilities.partial


async def judge(search: Search, verifier: Verifier, nodes: Sequence[Node], how: Aggregation) -> None:
    """Give each node its score. Paths that say the same are scored once in a search.

    Raises:
        VerifierError: The verifier failed or broke its promises.
    """
    whole = how is Aggregation.WHOLE
    new: dict[bytes, Node] = {}
    for node in nodes:
        if (id(verifier), node.digest, whole) not in search.scores:
            new.setdefault(node.digest, node)
    if new:
        await _ask(search, verifier, list(new.values()), whole)
    for node in nodes:
        values = search.scores[id(verifier), node.digest, whole].values
        own = node.steps if verifier.capabilities.steps and not whole else 1
        node.scores = tuple(values[len(values) - own :])
        node.score = aggregate(values, how)
        if search.run.observers:
            search.run.emit("score", key=format_key(node.key), score=node.score, scores=list(node.scores))


async def _ask(search: Search, verifier: Verifier, nodes: list[Node], whole: bool) -> None:
    run = search.run
    paths = [_path(run, node, whole) for node in nodes]
    random = generator(run.seed, "retry", nodes[0].key)
    keys = [format_key(node.key) for node in nodes]
    if run.observers:
        run.emit("judging", keys=keys)
    replies: Sequence[PathScore] = ()
    try:
        given = await call_with_retry(lambda: verifier.score(paths), run.retry, run.clock, random)
        replies = check_replies(verifier.capabilities.name, given, len(paths))
    finally:
        _charge(search, verifier, keys, sum(reply.tokens for reply in replies))
    for node, path, reply in zip(nodes, paths, replies, strict=True):
        wanted = len(path.steps) if verifier.capabilities.steps else 1
        check_scores(verifier.capabilities.name, node, reply, wanted)
        search.scores[id(verifier), node.digest, whole] = reply
    if run.observers:
        run.emit("verdicts", keys=keys, values=[list(reply.values) for reply in replies])


def _charge(search: Search, verifier: Verifier, keys: list[str], tokens: int) -> None:
    """Charge what was asked for, also where it was aborted or answered badly."""
    run = search.run
    run.counts.verifier_tokens += tokens
    search.ledger.spend(run.scoring_cost(verifier, len(keys), tokens))
    if run.observers:
        run.emit("verified", keys=keys, calls=len(keys), tokens=tokens)


def _path(run: Run, node: Node, whole: bool) -> Path:
    if whole:
        steps: tuple[str, ...] = (node.path_text,)
    else:
        delimiters = run.sampling.delimiters
        steps = tuple(step for part in node.path() for step in split_steps(part.text, delimiters))
    return Path(run.prompt.messages, steps, node.finished)


def check_replies(verifier: str, given: object, wanted: int) -> Sequence[PathScore]:
    """Refuse anything but one reply a path.

    Raises:
        ScoreCountError: Another number of replies.
        ScoreValueError: A reply that is no PathScore.
    """
    replies = list(given) if isinstance(given, Iterable) else []
    if len(replies) != wanted:
        raise ScoreCountError(f"verifier {verifier} was given {wanted} paths and returned {len(replies)} scores")
    for place, reply in enumerate(replies):
        if not isinstance(reply, PathScore):
            raise ScoreValueError(f"verifier {verifier}, path {place} of {wanted}: {reply!r} is no PathScore")
    return replies


def check_scores(verifier: str, node: Node, reply: PathScore, wanted: int) -> None:
    """Refuse a reply with another number of scores, or with one that is no probability.

    Raises:
        ScoreCountError: Not one score a step.
        ScoreValueError: A score is not a finite number in [0, 1].
    """
    where = f"verifier {verifier}, path {format_key(node.key)}"
    given = len(reply.values) if isinstance(reply.values, Sized) else 0
    if given != wanted:
        raise ScoreCountError(f"{where}: {wanted} steps, but {given} scores")
    for place, value in enumerate(reply.values):
        if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value <= 1:
            raise ScoreValueError(f"{where}: score {place} is {value!r}; expected a probability in [0, 1]")
