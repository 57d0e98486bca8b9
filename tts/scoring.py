"""Asking a verifier about nodes: each distinct path once, every answer checked, every token charged."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Sized
from itertools import zip_longest
from typing import TYPE_CHECKING

from tts.aggregation import Aggregation, aggregate
from tts.boundary import typed_errors
from tts.errors import ScoreCountError, ScoreValueError, TransientError, VerifierError
from tts.graph import Origin, Status, format_key
from tts.protocols import Path, PathScore
from tts.retry import call_with_retry
from tts.seeds import generator
from tts.steps import split_steps
from tts.types import Finish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tts.graph import Node
    from tts.protocols import Verifier
    from tts.run import Run
    from tts.search import Search

Scored = tuple[int, bytes, bool, bool]
"""What a score belongs to: a verifier, what the path says, whether as one step, and whether it has finished."""
Scores = ChainMap[Scored, PathScore]


def scorable(node: Node, verifier: Verifier) -> bool:
    """Whether there is something to judge."""
    if node.status in (Status.DEAD, Status.CANCELLED) or not node.path_steps:
        return False
    return node.finished or verifier.capabilities.partial


def scored_as(verifier: Verifier, node: Node, whole: bool) -> Scored:
    """Return what tells a score from others."""
    return id(verifier), node.digest, whole, node.finished


async def judge(search: Search, verifier: Verifier, nodes: Sequence[Node], how: Aggregation) -> None:
    """Give each node its score. Paths that say the same are scored once in a search.

    Raises:
        VerifierError: The verifier failed or broke its promises.
    """
    whole = how is Aggregation.WHOLE
    # Held here, so that no other verifier can come to have its identity while its scores are kept.
    search.run.verifiers[id(verifier)] = verifier
    new: dict[Scored, Node] = {}
    for node in nodes:
        if scored_as(verifier, node, whole) not in search.scores:
            new.setdefault(scored_as(verifier, node, whole), node)
    if new:
        await _ask(search, verifier, list(new.values()), whole)
    for node in nodes:
        values = search.scores[scored_as(verifier, node, whole)].values
        own = node.steps if verifier.capabilities.steps and not whole else 1
        node.scores = tuple(values[len(values) - own :])
        node.score = aggregate(values, how)
        if search.run.observers:
            search.run.emit("score", key=format_key(node.key), score=node.score, scores=list(node.scores))


async def _ask(search: Search, verifier: Verifier, nodes: list[Node], whole: bool) -> None:
    run = search.run
    paths = [_path(run, verifier, node, whole) for node in nodes]
    random = generator(run.seed, "retry", nodes[0].key)
    keys = [format_key(node.key) for node in nodes]
    if run.observers:
        run.emit("judging", keys=keys)

    async def attempt() -> Sequence[PathScore]:
        replies: Sequence[PathScore] = ()
        began, begin = True, run.clock.now()
        try:
            with typed_errors(VerifierError, f"verifier {verifier.capabilities.name}"):
                given = await verifier.score(paths)
            replies = check_replies(verifier.capabilities.name, given, len(paths))
            return replies
        except TransientError as error:
            began = error.began
            raise
        finally:
            run.counts.verifier_seconds += run.clock.now() - begin
            if began:
                _charge(search, verifier, keys, replies)

    replies = await call_with_retry(attempt, run.retry, run.clock, random, lambda _: not search.ledger.overdrawn())
    for node, path, reply in zip(nodes, paths, replies, strict=True):
        wanted = len(path.steps) if verifier.capabilities.steps else 1
        check_scores(verifier.capabilities.name, node, reply, wanted)
        check_calls(verifier, node, reply)
        search.scores[scored_as(verifier, node, whole)] = reply
    if run.observers:
        run.emit("verdicts", keys=keys, values=[list(reply.values) for reply in replies])


def _charge(search: Search, verifier: Verifier, keys: list[str], replies: Sequence[PathScore]) -> None:
    """Charge what was asked for, each time, also where it was aborted or answered badly: then as one call a path."""
    run = search.run
    tokens = sum(reply.tokens for reply in replies)
    calls = sum(reply.calls for reply in replies) if replies else len(keys)
    run.counts.verifier_tokens += tokens
    search.ledger.spend(run.scoring_cost(verifier, calls, tokens))
    if run.observers:
        run.emit("verified", keys=keys, calls=calls, tokens=tokens)


def _path(run: Run, verifier: Verifier, node: Node, whole: bool) -> Path:
    if whole:
        steps: tuple[str, ...] = (node.path_text,)
    else:
        steps = tuple(step for text in _texts(node) for step in split_steps(text, run.sampling.delimiters))
    able, nodes = verifier.capabilities, node.path()
    return Path(
        run.prompt.messages,
        steps,
        node.finished,
        logprobs=_flat(part.logprobs for part in nodes) if able.logprobs else None,
        top_logprobs=_flat(part.top_logprobs for part in nodes) if able.top_logprobs else None,
    )


def _flat(parts: Iterable[Sequence[float] | None]) -> tuple[float, ...]:
    return tuple(value for part in parts for value in part or ())


def _texts(node: Node) -> Iterator[str]:
    """Yield the texts of a path's nodes, those joined that are one step cut in two to see whether it is thinking."""
    begun = ""
    for part, after in zip_longest(node.path(), node.path()[1:]):
        if after is not None and part.finish is Finish.LENGTH and after.origin is Origin.SAMPLED:
            begun += part.text
        else:
            yield begun + part.text
            begun = ""


def check_replies(verifier: str, given: object, wanted: int) -> Sequence[PathScore]:
    """Refuse anything but one reply a path, each of which says what it cost.

    Raises:
        ScoreCountError: Another number of replies.
        ScoreValueError: A reply that is no PathScore, or that counts tokens or calls by less than nothing.
    """
    replies = list(given) if isinstance(given, Iterable) else []
    if len(replies) != wanted:
        raise ScoreCountError(f"verifier {verifier} was given {wanted} paths and returned {len(replies)} scores")
    for place, reply in enumerate(replies):
        if not isinstance(reply, PathScore):
            raise ScoreValueError(f"verifier {verifier}, path {place} of {wanted}: {reply!r} is no PathScore")
        for name, count in (("tokens", reply.tokens), ("calls", reply.calls)):
            if not isinstance(count, int) or count < 0:
                raise ScoreValueError(
                    f"verifier {verifier}, path {place} of {wanted}: {name}={count!r}; expected a count of at least 0"
                )
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


def check_calls(verifier: Verifier, node: Node, reply: PathScore) -> None:
    """Refuse a reply that cost more calls than the verifier said, since no more were held for it.

    Raises:
        ScoreCountError: It did.
    """
    able = verifier.capabilities
    if reply.calls > able.calls:
        where = f"verifier {able.name}, path {format_key(node.key)}"
        raise ScoreCountError(f"{where}: {reply.calls} calls, where its capabilities say at most {able.calls}")
