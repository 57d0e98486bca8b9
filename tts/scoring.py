"""Asking a verifier about nodes: each distinct path once, every answer checked, every token charged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tts.aggregation import Aggregation, aggregate
from tts.errors import ScoreCountError, ScoreValueError
from tts.graph import Status, format_key
from tts.protocols import Path
from tts.retry import call_with_retry
from tts.seeds import generator
from tts.steps import split_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.budget import Ledger
    from tts.graph import Node
    from tts.protocols import PathScore, Verifier
    from tts.run import Run


def scorable(node: Node, verifier: Verifier) -> bool:
    """Whether there is something to judge."""
    if node.status in (Status.DEAD, Status.CANCELLED) or not node.path_steps:
        return False
    return node.finished or verifier.capabilities.partial


async def judge(run: Run, ledger: Ledger, verifier: Verifier, nodes: Sequence[Node], how: Aggregation) -> None:
    """Give each node its score. Paths that say the same are scored once in a run.

    Raises:
        VerifierError: The verifier failed or broke its promises.
    """
    whole = how is Aggregation.WHOLE
    new: dict[bytes, Node] = {}
    for node in nodes:
        if (id(verifier), node.digest, whole) not in run.scores:
            new.setdefault(node.digest, node)
    if new:
        await _ask(run, ledger, verifier, list(new.values()), whole)
    for node in nodes:
        values = run.scores[id(verifier), node.digest, whole].values
        own = node.steps if verifier.capabilities.steps and not whole else 1
        node.scores = tuple(values[len(values) - own :])
        node.score = aggregate(values, how)
        if run.observers:
            run.emit("score", key=format_key(node.key), score=node.score, scores=list(node.scores))


async def _ask(run: Run, ledger: Ledger, verifier: Verifier, nodes: list[Node], whole: bool) -> None:
    paths = [_path(run, node, whole) for node in nodes]
    random = generator(run.seed, "retry", nodes[0].key)
    keys = [format_key(node.key) for node in nodes]
    if run.observers:
        run.emit("judging", keys=keys)
    replies = await call_with_retry(lambda: verifier.score(paths), run.retry, run.clock, random)
    name = verifier.capabilities.name
    if len(replies) != len(paths):
        raise ScoreCountError(f"verifier {name} was given {len(paths)} paths and returned {len(replies)} scores")
    for node, path, reply in zip(nodes, paths, replies, strict=True):
        wanted = len(path.steps) if verifier.capabilities.steps else 1
        check_scores(name, node, reply, wanted)
        run.scores[id(verifier), node.digest, whole] = reply
    tokens = sum(reply.tokens for reply in replies)
    run.counts.verifier_tokens += tokens
    ledger.spend(run.scoring_cost(verifier, len(paths), tokens))
    if run.observers:
        values = [list(reply.values) for reply in replies]
        run.emit("verified", keys=keys, calls=len(paths), tokens=tokens, values=values)


def _path(run: Run, node: Node, whole: bool) -> Path:
    if whole:
        steps: tuple[str, ...] = (node.path_text,)
    else:
        delimiters = run.sampling.delimiters
        steps = tuple(step for part in node.path() for step in split_steps(part.text, delimiters))
    return Path(run.prompt.messages, steps, node.finished)


def check_scores(verifier: str, node: Node, reply: PathScore, wanted: int) -> None:
    """Refuse a reply with another number of scores, or with one that is no probability.

    Raises:
        ScoreCountError: Not one score a step.
        ScoreValueError: A score is not a finite number in [0, 1].
    """
    where = f"verifier {verifier}, path {format_key(node.key)}"
    if len(reply.values) != wanted:
        raise ScoreCountError(f"{where}: {wanted} steps, but {len(reply.values)} scores")
    for place, value in enumerate(reply.values):
        if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value <= 1:
            raise ScoreValueError(f"{where}: score {place} is {value!r}; expected a probability in [0, 1]")
