"""What a server does with a request for draws: seeds, several samples, the reasons why they end, their length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts.backends.doctor.findings import by_count, no, unknown, yes
from tts.backends.doctor.subject import GREEDY_TOKENS
from tts.errors import ParameterError

if TYPE_CHECKING:
    from tts.backends.doctor.findings import Finding
    from tts.backends.doctor.subject import Draw, Subject

SEEDS = (7, 1007, 2007)
DRAWN = 16
"""Tokens of a draw."""
TEMPERATURES = (1.0, 2.0)
"""The second where a model is so sure of itself that the first tells nothing."""
FIRST_OF_SEVERAL = 101
SEVERAL = 4
NEVER_SAID = "@@@"
ENDS_WITHIN = 96
"""Tokens within which a model should end its answer, so that the end can be looked at."""
ALLOWED = 40
TRIED_CONTEXT = 4096
"""Contexts up to so many tokens are filled."""
REFUSED_CONTEXT = 262_144
"""Contexts up to so many tokens are overfilled, which a server should refuse without reading."""


async def ask_seeds(subject: Subject) -> list[Finding]:
    """Measure whether a seed gives the same tokens again, and another seed others."""
    name = "seeds"
    for temperature in TEMPERATURES:
        pairs = [
            [await _seeded(subject, seed, temperature) for _ in range(2)] for seed in SEEDS
        ]  # fmt: skip
        same = sum(first.said == second.said for first, second in pairs)
        different = len({first.said for first, _ in pairs})
        if different > 1:
            break
    seen = f"{same} of {len(SEEDS)} seeds gave the same tokens twice, {different} of {len(SEEDS)} were different"
    if different == 1:
        return [no(name, f"{len(SEEDS)} seeds gave one and the same text at temperature {temperature:g}")]
    return [by_count(name, same, len(SEEDS), f"{seen}, at temperature {temperature:g}")]


async def _seeded(subject: Subject, seed: int, temperature: float) -> Draw:
    return await subject.one(subject.prompt, seed=seed, temperature=temperature, max_tokens=subject.room(DRAWN))


async def ask_several(subject: Subject) -> list[Finding]:
    """Measure whether several samples of a request are so many, and the j-th that of seed + j alone."""
    names = ("several samples", "seeds of several samples")
    alone = [await _seeded(subject, FIRST_OF_SEVERAL + place, 1.0) for place in range(SEVERAL)]
    try:
        reply = await subject.draw(
            subject.prompt, n=SEVERAL, seed=FIRST_OF_SEVERAL, temperature=1.0, max_tokens=subject.room(DRAWN)
        )
    except ParameterError as error:
        return [no(name, f"n={SEVERAL} is refused: {error}") for name in names]
    said, expected = [draw.said for draw in reply.draws], [draw.said for draw in alone]
    if len(said) != SEVERAL:
        return [no(name, f"{SEVERAL} were asked for, {len(said)} came") for name in names]
    if len(set(said)) == 1 < len(set(expected)):
        seen = f"all {SEVERAL} are the same text, where so many seeds alone gave {len(set(expected))} different ones"
        return [no(name, seen) for name in names]
    equal = sum(first == second for first, second in zip(said, expected, strict=True))
    seeds = f"{equal} of {SEVERAL} samples were those of seeds {FIRST_OF_SEVERAL} and on, drawn alone"
    return [
        yes(names[0], f"{SEVERAL} were asked for and came, {len(set(said))} of them different"),
        by_count(names[1], equal, SEVERAL, seeds),
    ]


async def ask_stops(subject: Subject) -> list[Finding]:
    """Measure whether the text that ends a step is kept, and told apart from the end of the answer."""
    names = ("stop texts", "stop reasons")
    greedy = await subject.greedy()
    stop = _stop_in(greedy.text)
    if stop is None:
        return [unknown(name, f"the greedy answer has no text to stop at: {greedy.text!r:.60}") for name in names]
    draw = await subject.one(
        subject.prompt, stop=[stop], include_stop_str_in_output=True, max_tokens=subject.room(GREEDY_TOKENS)
    )
    expected = greedy.text[: greedy.text.index(stop) + 1]
    if draw.text == expected:
        kept = yes(names[0], f"the text ends with the {stop!r} that stopped it")
    elif draw.text == expected[:-1]:
        kept = no(names[0], f"{stop!r} ended the text and was dropped from it")
    else:
        kept = no(names[0], f"stopping at {stop!r} gave {draw.text!r:.40} where {expected!r:.40} was due")
    return [kept, await _reasons(subject, stop, draw)]


def _stop_in(text: str) -> str | None:
    """Return a character that comes neither first nor last, and not within the first tokens if that can be."""
    later = [at for at in range(1, min(len(text) - 1, 24)) if text.index(text[at]) == at]
    return text[later[-1]] if later else None


async def _reasons(subject: Subject, stop: str, stopped: Draw) -> Finding:
    name = "stop reasons"
    if stopped.finish != "stop" or stopped.stopped_by != stop:
        seen = f"a draw ended by {stop!r} is called {stopped.finish!r}, stopped by {stopped.stopped_by!r}"
        return no(name, seen)
    ended = await subject.one(subject.prompt, max_tokens=subject.room(ENDS_WITHIN), stop=[NEVER_SAID])
    if ended.finish == "length":
        return unknown(name, f"{stop!r} is told; the model did not end within {subject.room(ENDS_WITHIN)} tokens")
    if ended.finish != "stop" or isinstance(ended.stopped_by, str):
        return no(name, f"the end of an answer is called {ended.finish!r}, stopped by {ended.stopped_by!r}")
    return yes(
        name, f"{stop!r} is told apart from the end of the answer, which came after {len(ended.ids or ())} tokens"
    )


async def ask_max_tokens(subject: Subject) -> list[Finding]:
    """Measure whether a draw has as many tokens as it is allowed, and what happens where they cannot fit."""
    return [await _honoured(subject), await _overflow(subject)]


async def _honoured(subject: Subject) -> Finding:
    name = "max_tokens"
    for allowed in (subject.room(ALLOWED), 4):
        reply = await subject.draw(subject.prompt, max_tokens=allowed, ignore_eos=True)
        draw = reply.draws[0]
        count = reply.sampled if draw.ids is None else len(draw.ids)
        if draw.finish == "length" or count is None or count > allowed:
            break
    if draw.finish != "length" or count is None:
        return unknown(name, f"the model ended before the {allowed} tokens that it was allowed")
    if count != allowed:
        return no(name, f"{count} tokens came and were called cut off, where {allowed} were allowed")
    return yes(name, f"{count} tokens came where {allowed} were allowed")


async def _overflow(subject: Subject) -> Finding:
    name = "refusal of what does not fit"
    context = subject.context
    if context is None or not 16 <= context <= TRIED_CONTEXT:
        return unknown(name, f"not tried: it would fill a context of {context} tokens")
    try:
        prompt = subject.unseen(context - 4, "overflow")
        draw = await subject.one(prompt, max_tokens=8, ignore_eos=True)
    except ParameterError as error:
        return yes(name, f"8 tokens where 4 fit were refused: {error}")
    count = len(draw.ids or ())
    return no(name, f"8 tokens where 4 fit were cut to {count} without a word; tts itself refuses such a request")


async def ask_context(subject: Subject) -> list[Finding]:
    """Measure whether the context is what the server says that it is."""
    name, context = "context", subject.context
    if context is None:
        return [unknown(name, "the server does not say how many tokens its model holds")]
    if context > REFUSED_CONTEXT:
        return [unknown(name, f"{context} tokens, as the server says; too many to try")]
    try:
        await subject.draw(subject.unseen(context + 1, "context"))
    except ParameterError:
        return [yes(name, f"{context} tokens; a prompt of one more is refused", number=context)]
    seen = f"the server says {context} tokens, but took a prompt of {context + 1}: it cuts prompts silently"
    return [no(name, seen, number=context)]
