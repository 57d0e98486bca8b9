"""What a server that scores can do: where its scores stand, what they hang on, and whether it reads its cache."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tts.backends.doctor.engine import hits_since
from tts.backends.doctor.findings import no, unknown, yes
from tts.backends.doctor.subject import read
from tts.errors import BackendError, ParameterError, TTSError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.backends.doctor.findings import Finding
    from tts.backends.doctor.subject import Subject

Rows = list[list[float]]

LENGTH = 24
"""Tokens of a sequence that is scored."""
OTHERS = 16
PREFIX = 257
TAGS = ("<extra_0>", "\n\n", "ки", " ки", "\n", "+", "<|eot_id|>")
"""What process reward models in use read a step's score at."""
CLOSE = 1e-3
"""By how much scores may differ that should be the same; arithmetic hangs on what is computed together."""
LAST, ALL, AT_TAGS = "score of the last token", "scores of every token", "scores at step tags"


@dataclass(frozen=True, slots=True)
class Pooling:
    """How a server scores.

    Attributes:
        path: Where.
        kind: At which tokens, by the ability's name.
        tag: The token that has a score, and its text, where not all have one; None if it was not found.
    """

    path: str
    kind: str
    tag: tuple[int, str] | None = None

    def scored(self, subject: Subject, length: int, purpose: str) -> list[int]:
        """Return a sequence that nobody has seen, with scores."""
        ids = subject.unseen(length, purpose)
        return ids if self.tag is None else [*ids[:-1], self.tag[0]]


async def scores(subject: Subject, path: str, sequences: Sequence[Sequence[int]]) -> list[Rows]:
    """Return for each sequence its rows of class scores.

    Raises:
        TTSError: As `Endpoint.post` does; BackendError also for an answer of another form.
    """
    body = {"model": subject.model, "input": [list(ids) for ids in sequences]}
    said = await subject.endpoint.post(path, body)
    rows = read(lambda: [_rows(entry) for entry in sorted(said["data"], key=lambda entry: int(entry["index"]))], said)
    if len(rows) != len(sequences):
        raise BackendError(f"{path}: {len(sequences)} sequences were sent, {len(rows)} were scored")
    subject.read += sum(map(len, sequences))
    return rows


def _rows(entry: Any) -> Rows:
    told = entry["probs"] if "probs" in entry else entry["data"]
    if told and not isinstance(told[0], list):
        return [[float(value) for value in told]]
    return [[float(value) for value in row] for row in told]


async def find_pooling(subject: Subject) -> Pooling | None:
    """Find out where and how a server scores; None if it does not."""
    sequence = subject.unseen(LENGTH, "kind")
    for path in ("/classify", "/pooling"):
        try:
            rows = await _rows_of(subject, path, sequence)
        except TTSError:
            continue
        if path == "/classify" or len(rows) == 1:
            return Pooling(path, LAST)
        if len(rows) == LENGTH:
            return Pooling(path, ALL)
        return Pooling(path, AT_TAGS, await _find_tag(subject, path, sequence))
    return None


async def _rows_of(subject: Subject, path: str, sequence: Sequence[int]) -> Rows:
    """Return the rows of one sequence; none where the server leaves it out, as it does where nothing has a score."""
    said = await subject.endpoint.post(path, {"model": subject.model, "input": [list(sequence)]})
    subject.read += len(sequence)
    return read(lambda: [row for entry in said["data"] for row in _rows(entry)], said)


async def _find_tag(subject: Subject, path: str, sequence: Sequence[int]) -> tuple[int, str] | None:
    without = len(await _rows_of(subject, path, sequence))
    for tag in TAGS:
        body = {"model": subject.model, "prompt": tag, "add_special_tokens": False}
        said = await subject.endpoint.post("/tokenize", body)
        ids = read(lambda said=said: [int(token) for token in said["tokens"]], said)  # type: ignore[misc]
        if len(ids) == 1 and len(await _rows_of(subject, path, [*sequence, *ids])) == without + 1:
            return ids[0], tag
    return None


async def ask_positions(subject: Subject, pooling: Pooling) -> list[Finding]:
    """Measure where scores stand."""
    count = len(await _rows_of(subject, pooling.path, subject.unseen(LENGTH, "positions")))
    seen = f"{count} rows for {LENGTH} token ids at {pooling.path}"
    findings = [yes(kind, seen) if pooling.kind == kind else no(kind, seen) for kind in (LAST, ALL)]
    if pooling.kind == AT_TAGS and pooling.tag is not None:
        token, text = pooling.tag
        findings.append(yes(AT_TAGS, f"{seen}; token {token}, {text!r}, has a score", number=token))
    elif pooling.kind == AT_TAGS:
        findings.append(unknown(AT_TAGS, f"{seen}; none of the tags in common use has a score"))
    return findings


async def ask_probabilities(subject: Subject, pooling: Pooling) -> list[Finding]:
    """Measure whether scores are probabilities over classes."""
    name = "probabilities"
    rows = await _rows_of(subject, pooling.path, pooling.scored(subject, LENGTH, "probabilities"))
    if not rows:
        return [unknown(name, "no token with a score is known")]
    off = max(abs(1 - sum(row)) for row in rows)
    values = [value for row in rows for value in row]
    if any(not math.isfinite(value) or not -CLOSE <= value <= 1 + CLOSE for value in values):
        return [no(name, f"{min(values):.3g} to {max(values):.3g}: these are no probabilities")]
    if off > CLOSE:
        return [no(name, f"{len(rows[0])} classes, whose probabilities miss a sum of 1 by up to {off:.3g}")]
    return [yes(name, f"{len(rows[0])} classes, whose probabilities sum to 1", number=len(rows[0]))]


async def ask_independence(subject: Subject, pooling: Pooling) -> list[Finding]:
    """Measure whether a sequence's score hangs on others, or on what comes after."""
    name = "independent scores"
    sequence = pooling.scored(subject, LENGTH, "alone")
    alone = (await scores(subject, pooling.path, [sequence]))[0]
    others = [pooling.scored(subject, LENGTH - place % 8, f"beside {place}") for place in range(OTHERS)]
    beside = (await scores(subject, pooling.path, [*others, sequence]))[-1]
    off = _distance(alone, beside)
    if off is None or off > CLOSE:
        return [no(name, f"beside {OTHERS} other sequences a score moves by {off or math.nan:.3g}")]
    findings = [yes(name, f"beside {OTHERS} other sequences no score moves by more than {off:.1g}")]
    return [*findings, *await _ask_beginnings(subject, pooling, sequence, alone)]


async def _ask_beginnings(subject: Subject, pooling: Pooling, sequence: Sequence[int], whole: Rows) -> list[Finding]:
    name = "scores of beginnings"
    if pooling.kind != ALL:
        return []
    half = (await scores(subject, pooling.path, [sequence[: LENGTH // 2]]))[0]
    off = _distance(half, whole[: LENGTH // 2])
    if off is None or off > CLOSE:
        return [no(name, "a token's score hangs on what comes after it")]
    return [yes(name, f"the first {LENGTH // 2} scores do not hang on what comes after, to {off:.1g}")]


def _distance(first: Rows, second: Rows) -> float | None:
    """Return the greatest difference, or None where the forms differ."""
    if [len(row) for row in first] != [len(row) for row in second]:
        return None
    return max((abs(a - b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)), default=0.0)


async def ask_pooling_cache(subject: Subject, pooling: Pooling) -> list[Finding]:
    """Measure whether a sequence that goes on is read from the cache."""
    name = "prefix cache"
    length = min(PREFIX, (subject.context or PREFIX) - 1)
    sequence = pooling.scored(subject, length, "prefix")
    await scores(subject, pooling.path, [sequence])
    before = await subject.counters()
    await scores(subject, pooling.path, [sequence])
    hits = await hits_since(subject, before, 1)
    if hits is None and before is not None and "queries" in before:
        hits = 0.0
    if hits is None:
        return [unknown(name, "the server shows no counter of cached tokens in /metrics")]
    seen = f"{hits:g} of {length} tokens were cached when a sequence was sent again"
    if hits > 0:
        return [yes(name, seen)]
    if pooling.kind == LAST:
        return [no(name, seen, f"--enable-prefix-caching, and a --block-size of at most {length - 1}")]
    advice = '--pooler-config \'{"task": "classify"}\': scores of the last token alone are read from the cache'
    return [no(name, seen, advice)]


async def ask_pooling_context(subject: Subject, pooling: Pooling) -> list[Finding]:
    """Measure whether a sequence that is too long is refused."""
    name, context = "context", subject.context
    if context is None:
        return [unknown(name, "the server does not say how many tokens its model holds")]
    try:
        await scores(subject, pooling.path, [pooling.scored(subject, context + 1, "context")])
    except ParameterError:
        return [yes(name, f"{context} tokens; a sequence of one more is refused", number=context)]
    return [no(name, f"the server says {context} tokens, but scored {context + 1}", number=context)]
