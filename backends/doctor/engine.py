"""What the engine behind a server does: pieces, aborts, the prefix cache, and what runs beside a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from tts.backends.doctor.findings import Verdict, no, unknown, yes
from tts.backends.doctor.subject import read, together
from tts.errors import ParameterError, TTSError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.backends.doctor.findings import Finding
    from tts.backends.doctor.subject import Draw, Subject

STREAMED = 16
CANCELLED_SAMPLES = 4
CANCELLED_TOKENS = 1024
"""Tokens of each sample of the stream that is left."""
TRIES = 3
POLL = 0.05
PREFIX = 513
"""Tokens of the prompt that is sent twice: four blocks of the longest kind in use, and one token that is computed."""
ALONE = 4
BESIDE = 28


async def ask_streaming(subject: Subject) -> list[Finding]:
    """Measure whether tokens come as they are sampled."""
    name, pieces = "streaming", list[int]()

    async def take(draws: list[Draw]) -> None:
        pieces.extend(len(draw.ids or draw.text) for draw in draws if draw.ids or draw.text)

    await subject.stream(subject.prompt, take, max_tokens=subject.room(STREAMED), ignore_eos=True)
    seen = f"{sum(pieces)} tokens came in {len(pieces)} pieces"
    if 2 * len(pieces) < sum(pieces) or not pieces:
        return [no(name, seen, "nothing before the server may collect its answer: turn off response buffering there")]
    return [yes(name, seen)]


@dataclass(frozen=True, slots=True)
class _Aftermath:
    """What the counters said once nothing more was sampled, or patience ended."""

    sampled: float
    running: float
    seconds: float
    went_on: bool
    alone: bool


Look = Callable[[], Awaitable[object]]
Leave = Callable[[Look], Awaitable[int]]
"""Begins a stream, leaves it once a few tokens have come and it has been looked at, and returns how many came."""


async def ask_cancellation(subject: Subject) -> list[Finding]:
    """Measure whether the engine stops when a client leaves a stream."""

    async def leave(look: Look) -> int:
        return await _leave_early(subject, look)

    return [await judge_cancellation(subject, leave, CANCELLED_SAMPLES * subject.room(CANCELLED_TOKENS))]


async def judge_cancellation(subject: Subject, leave: Leave, most: int) -> Finding:
    """Leave a stream of `most` tokens, and see by the server's counters whether the engine went on.

    A fast engine may be done before anyone could leave, so that it takes more than one try to see it stop.
    """
    findings: list[Finding] = []
    while len(findings) < TRIES and all(finding.verdict is not Verdict.YES for finding in findings):
        before = await subject.counters()
        if before is None or "running" not in before or "generated" not in before:
            return await _by_load(subject, leave)
        seen = await leave(anyio.lowlevel.checkpoint)
        findings.append(_judge_aftermath(await _settled(subject, before, seen, most), seen, most))
    certain = [finding for finding in findings if finding.verdict is not Verdict.NO]
    return certain[-1] if certain else findings[-1]


def _judge_aftermath(after: _Aftermath | None, seen: int, most: int) -> Finding:
    name, left = "cancellation", f"left after {seen} of {most} tokens"
    if after is None:
        return unknown(name, f"{left}; the server's counters do not tell")
    facts = (
        f"{left}: {after.sampled:g} were sampled, {max(after.running, 0):g} requests more than before were running "
        f"{after.seconds:.2g} s later"
    )
    if after.sampled >= most and not after.went_on:
        return unknown(name, f"{facts}: it was done before it could be seen to stop")
    if after.sampled >= most:
        return no(name, f"{facts}: the engine went on without a reader")
    if after.running > 0:
        return no(name, facts) if after.alone else unknown(name, f"{facts}; something else may be at work there")
    return yes(name, facts)


async def _leave_early(subject: Subject, look: Look) -> int:
    seen = 0

    async def take(draws: list[Draw]) -> None:
        nonlocal seen
        seen += sum(len(draw.ids or ()) or bool(draw.text) for draw in draws)
        if seen >= CANCELLED_SAMPLES:
            await look()
            scope.cancel()

    with anyio.CancelScope() as scope:
        await subject.stream(
            subject.prompt, take, n=CANCELLED_SAMPLES, temperature=1.0, ignore_eos=True,
            max_tokens=subject.room(CANCELLED_TOKENS),
        )  # fmt: skip
    return seen


async def _settled(subject: Subject, before: dict[str, float], seen: int, most: int) -> _Aftermath | None:
    """Wait until no more run than before, or patience ends; None if the counters do not count."""
    began, went_on = anyio.current_time(), False
    while True:
        now = await subject.counters()
        if now is None:
            return None
        waited = anyio.current_time() - began
        running = sum(now.get(name, 0.0) - before.get(name, 0.0) for name in ("running", "waiting"))
        sampled = now.get("generated", 0.0) - before["generated"]
        if (running <= 0 and sampled >= seen) or waited > subject.patience:
            return _Aftermath(sampled, running, waited, went_on, not before["running"]) if sampled > 0 else None
        went_on = went_on or (running > 0 and sampled < most)
        await anyio.sleep(POLL)


async def _by_load(subject: Subject, leave: Leave) -> Finding:
    """Look at how many requests the server says that it works on, which some say only when told to."""
    name = "cancellation"
    during: list[float] = []

    async def look() -> None:
        during.append(await _load(subject))

    await leave(look)
    if not during or during[0] < 1:
        return unknown(name, "the server shows neither /metrics nor /load in which it could be seen")
    began, load = anyio.current_time(), during[0]
    while load >= during[0] and anyio.current_time() - began <= subject.patience:
        load = await _load(subject)
        await anyio.sleep(POLL)
    waited = anyio.current_time() - began
    seen = f"/load went from {during[0]:g} to {load:g} within {waited:.2g} s after a stream was left"
    return yes(name, seen) if load < during[0] else no(name, seen)


async def _load(subject: Subject) -> float:
    try:
        said = await subject.endpoint.get("/load")
    except TTSError:
        return 0.0
    return read(lambda: float(said["server_load"]), said)


async def ask_prefix_cache(subject: Subject) -> list[Finding]:
    """Measure whether a prompt sent again is read from the cache, and whether what is said about it is true."""
    names = ("prefix cache", "cached-token counts")
    prompt = subject.unseen(subject.room(PREFIX), "prefix")
    first = (await subject.draw(prompt)).cached
    between = await subject.counters()
    again = (await subject.draw(prompt)).cached
    hits = await hits_since(subject, between, again or 0)
    counts = judge_counts(names[1], len(prompt), first, again, hits)
    told = again if counts.verdict is Verdict.YES else None
    return [await _judge_cache(subject, names[0], prompt, told, hits), counts]


async def hits_since(subject: Subject, before: dict[str, float] | None, due: int) -> float | None:
    """Return by how much the count of cached tokens has grown, waiting until it is `due`; None if there is none."""
    began = anyio.current_time()
    while before is not None and "hits" in before and "queries" in before:
        now = await subject.counters() or {}
        hits, queries = (now.get(name, 0.0) - before[name] for name in ("hits", "queries"))
        if (queries > 0 and hits >= due) or anyio.current_time() - began > subject.patience / 10:
            return hits if queries > 0 else None
        await anyio.sleep(POLL)
    return None


def judge_counts(
    name: str, length: int, first: int | None, again: int | None, hits: float | None, *, shared: int = 0
) -> Finding:
    """Judge what is said about a prompt that is sent twice, against the server's own counter where it has one.

    Up to `shared` tokens may be known from other prompts, as those of a chat template.
    """
    if again is None:
        return no(name, "replies do not say how many prompt tokens were cached", "--enable-prompt-tokens-details")
    if first is not None and first > shared:
        return no(name, f"{first} of {length} tokens of a prompt that was never sent before are said to be cached")
    if not 0 <= again < length:
        return no(name, f"{again} of {length} tokens are said to be cached; one at least has to be computed")
    if hits is not None and hits < again:
        return no(name, f"{again} of {length} tokens are said to be cached, but the server counts {hits:g} hits")
    counted = "" if hits is None else f", and the server's counter agrees ({hits:g} hits)"
    return yes(name, f"{first or 0}, then {again} of {length} tokens are said to be cached{counted}")


async def _judge_cache(
    subject: Subject, name: str, prompt: Sequence[int], told: int | None, hits: float | None
) -> Finding:
    cached = told if told is not None else hits
    if cached is None:
        return unknown(name, "neither replies nor /metrics tell what was cached", "--enable-prompt-tokens-details")
    if not cached:
        advice = f"--enable-prefix-caching, and a --block-size of at most {len(prompt) - 1}"
        return no(name, f"0 of {len(prompt)} tokens were cached when a prompt was sent again", advice)
    if cached >= len(prompt):
        return unknown(name, f"the server counts {cached:g} hits for {len(prompt)} tokens: something else is at work")
    seen = f"{cached:g} of {len(prompt)} tokens were cached when a prompt was sent again"
    block = None if told is None else await _block_size(subject, prompt, told)
    by = ", by the server's counter" if told is None else f"; blocks of {block}" if block else ""
    return yes(name, seen + by, number=block)


async def _block_size(subject: Subject, prompt: Sequence[int], cached: int) -> int | None:
    """Return the shortest beginning of a cached prompt that is cached itself.

    Blocks are whole: their size divides what was cached, and one more did not fit.
    """
    fitting = [size for size in range(1, cached + 1) if cached % size == 0 and cached + size >= len(prompt)]
    for size in fitting[:-1]:
        if (await subject.draw(prompt[: size + 1])).cached == size:
            return size
    return fitting[-1] if fitting else None


async def ask_batch_invariance(subject: Subject) -> list[Finding]:
    """Measure whether seeded draws are the same alone and beside others, to the last bit."""
    name = "batch invariance"
    seeds = [50_000 + place for place in range(ALONE + BESIDE)]

    async def ask(seed: int) -> Draw:
        return await subject.one(
            subject.prompt, seed=seed, temperature=1.0, max_tokens=subject.room(STREAMED), logprobs=1
        )

    alone = [await ask(seed) for seed in seeds[:ALONE]]
    again = await ask(seeds[0])
    if again.said != alone[0].said:
        return [unknown(name, "a seeded draw differs from itself when it is alone, so that nothing can be compared")]
    beside = (await together(ask, seeds))[:ALONE]
    pairs = list(zip(alone, beside, strict=True))
    tokens = sum(first.said == second.said for first, second in pairs)
    bits = sum(first.said == second.said and first.logprobs == second.logprobs for first, second in pairs)
    seen = (
        f"alone and beside {ALONE + BESIDE - 1} others {tokens} of {ALONE} seeded draws gave the same tokens, {bits} "
        "the same log-probabilities to the last bit"
    )
    if tokens == bits == ALONE:
        return [yes(name, seen)]
    return [no(name, seen, "VLLM_BATCH_INVARIANT=1 in the server's environment, where its hardware has it")]


async def ask_fields(subject: Subject) -> list[Finding]:
    """Measure whether fields that nobody knows are refused."""
    name = "refusal of unknown fields"
    if await _takes(subject, a_field_that_nobody_knows=1):
        return [no(name, "a made-up field was taken without a word: a misspelt one does nothing")]
    return [yes(name, "a made-up field was refused")]


async def _takes(subject: Subject, **fields: object) -> bool:
    try:
        await subject.draw(subject.prompt, **fields)
    except ParameterError:
        return False
    return True


async def ask_priorities(subject: Subject) -> list[Finding]:
    """Measure whether priorities are known; that they are taken does not say that they are obeyed."""
    name, flag = "priorities", "--scheduling-policy priority"
    if not await _takes(subject, priority=1):
        return [no(name, "priority=1 is refused", flag)]
    # A server that does not know the field takes anything.
    if await _takes(subject, priority="urgent"):
        return [no(name, "the field is not known: priority='urgent' was taken like priority=1", flag)]
    seen = "priority=1 is taken; vLLM takes it without obeying too, unless it was started to schedule by priority"
    return [unknown(name, seen, flag)]
