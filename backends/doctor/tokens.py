"""What a server's tokens are worth: ids that say the text, paths that go on where they stopped, log-probabilities."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from tts.backends.doctor.findings import Finding, Verdict, by_count, no, unknown, yes
from tts.errors import ParameterError, TTSError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.backends.doctor.subject import Draw, Subject

TOP = (20, 5, 1)
"""How many top log-probabilities are asked for, until a server gives them."""
CERTAIN = 1e-3
"""By how much probabilities may miss what they should be."""


async def ask_token_ids(subject: Subject) -> list[Finding]:
    """Measure whether token ids go in and come out, and whether those that come out say the text."""
    name = "token ids"
    reply = await subject.draw(subject.prompt, max_tokens=subject.room(16))
    draw = reply.draws[0]
    if draw.ids is None:
        return [no(name, "return_token_ids is ignored: no ids came", "vLLM 0.10.2 or newer shows them")]
    if reply.prompt_tokens not in (None, len(subject.prompt)):
        return [no(name, f"{len(subject.prompt)} ids were sent, the server says that it read {reply.prompt_tokens}")]
    count = len(draw.ids)
    try:
        says = await _says(subject, draw)
    except TTSError as error:
        return [unknown(name, f"{count} ids came; whether they say the text cannot be checked: {error}")]
    if not says:
        return [no(name, f"the {count} ids that came do not say the text that came with them: {draw.text!r:.60}")]
    return [yes(name, f"{len(subject.prompt)} ids in; {count} ids out, which say the text that came with them")]


async def _says(subject: Subject, draw: Draw) -> bool:
    ids = (draw.ids or [])[: -1 if draw.finish == "stop" else None]
    if await subject.text_of(ids) == draw.text:
        return True
    # Some tokenizers drop the space that a text begins with, unless something stands before it.
    whole = await subject.text_of([*subject.prompt, *ids])
    return whole.removeprefix(await subject.text_of(subject.prompt)) == draw.text


async def ask_continuation(subject: Subject) -> list[Finding]:
    """Measure whether a path goes on exactly where it stopped, given as ids and as text."""
    return [await _ids_go_on(subject), await _text_goes_on(subject)]


def _splits(whole: Sequence[object]) -> list[int]:
    """Return places from which the rest differs from a beginning, so that a new turn shows."""
    wanted = [len(whole) // 4, len(whole) // 2, 3 * len(whole) // 4]
    return sorted({at for at in wanted if at and list(whole[at:]) != list(whole[: len(whole) - at])})


async def _ids_go_on(subject: Subject) -> Finding:
    name, whole = "prefix continuation", await subject.greedy()
    if whole.ids is None:
        return no(name, "without token ids there is nothing to continue from")
    splits = _splits(whole.ids)
    if not splits:
        return unknown(name, f"the greedy answer is {len(whole.ids)} tokens that tell nothing: {whole.text!r:.60}")
    equal = 0
    for at in splits:
        rest = await subject.one([*subject.prompt, *whole.ids[:at]], max_tokens=len(whole.ids) - at)
        equal += rest.ids == whole.ids[at:]
    return by_count(
        name, equal, len(splits), f"{equal} of {len(splits)} continuations of greedy ids gave the same rest"
    )


async def _text_goes_on(subject: Subject) -> Finding:
    name, whole = "continuation by text", await subject.greedy()
    text = whole.text
    splits = _splits(whole.ids or ())
    if not splits:
        return unknown(name, f"the greedy answer tells nothing: {text!r:.60}")
    prompt, equal = await subject.text_of(subject.prompt), 0
    for at in splits:
        begun = await subject.text_of((whole.ids or [])[:at])
        rest = await subject.one(prompt + begun, max_tokens=len(whole.ids or ()) - at, add_special_tokens=False)
        equal += begun + rest.text == text
    seen = f"{equal} of {len(splits)} continuations of greedy text gave the same rest"
    return by_count(name, equal, len(splits), seen)


async def ask_logprobs(subject: Subject) -> list[Finding]:
    """Measure whether log-probabilities are of the sampled tokens, and of how many of the most likely ones."""
    names = ("log-probabilities", "top log-probabilities")
    draw, wanted = None, 0
    for wanted in TOP:
        try:
            draw = await subject.one(
                subject.prompt, max_tokens=subject.room(16), logprobs=wanted, return_tokens_as_token_ids=True
            )
            break
        except ParameterError as error:
            refused = str(error)
    if draw is None:
        return [no(name, f"refused: {refused}", "--max-logprobs 20") for name in names]
    wrong = _wrong_with(draw)
    if wrong:
        return [no(name, wrong) for name in names]
    count = len(draw.logprobs or ())
    own = yes(names[0], f"{count} for {count} tokens, each the greatest of its row when drawn greedily")
    return [own, _top(draw, wanted)]


def _top(draw: Draw, wanted: int) -> Finding:
    name = "top log-probabilities"
    given = min(map(len, draw.tops or [{}]))
    if given < 1:
        return no(name, f"{wanted} were asked for, none came", "--max-logprobs 20")
    number = min(given, wanted)
    seen = f"{TOP[0]} were asked for, {number} came with each token"
    return Finding(name, Verdict.YES, seen, "--max-logprobs 20" if number < TOP[0] else "", number)


def _wrong_with(draw: Draw) -> str:
    """Say what is wrong with log-probabilities; empty if nothing is."""
    values, rows = draw.logprobs or [], draw.tops or []
    count = len(values) if draw.ids is None else len(draw.ids)
    if not values:
        return "none came"
    if len(values) != count or (rows and len(rows) != count):
        return f"{count} tokens, but {len(values)} log-probabilities and {len(rows)} rows of the most likely"
    if any(not math.isfinite(value) or value > CERTAIN for value in values):
        return f"{min(values)!r} to {max(values)!r} are no log-probabilities"
    for at, (value, row) in enumerate(zip(values, rows, strict=False)):
        if row and value < max(row.values()) - CERTAIN:
            return f"token {at} was drawn greedily, but has {value:.4f} where another has {max(row.values()):.4f}"
        if sum(map(math.exp, row.values())) > 1 + CERTAIN:
            return f"the probabilities of token {at} sum to {sum(map(math.exp, row.values())):.3f}"
        own = None if draw.ids is None else row.get(f"token_id:{draw.ids[at]}")
        if own is None and any(key.startswith("token_id:") for key in row):
            return f"token {at} is not among its own log-probabilities"
    return ""


async def ask_chosen(subject: Subject) -> list[Finding]:
    """Measure whether log-probabilities of tokens of one's choice come, as verdicts by the next token need."""
    name = "log-probabilities of chosen tokens"
    greedy = await subject.greedy()
    likely = set(greedy.ids or ())
    chosen = list(itertools.islice((token for token in sorted(set(subject.prompt)) if token not in likely), 2))
    if len(chosen) < 2:
        return [unknown(name, "the question has too few tokens to choose from")]
    draw = await subject.one(subject.prompt, logprobs=1, logprob_token_ids=chosen, return_tokens_as_token_ids=True)
    row = (draw.tops or [{}])[0]
    given = sum(f"token_id:{token}" in row for token in chosen)
    seen = f"{given} of 2 tokens asked for by id came"
    return [yes(name, seen) if given == 2 else no(name, seen, "a newer vLLM takes logprob_token_ids")]
