"""How verifiers ask a scorer: what is said of several things at once, label probabilities, what is too long."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from tts.capabilities import VerifierCapabilities
from tts.errors import NeedsError, ParameterError, ScoreCountError, ScoreValueError, TransientError
from tts.groups import Tasks
from tts.protocols import connect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from tts.capabilities import Capabilities, ScorerCapabilities
    from tts.protocols import Scorer
    from tts.types import Message

Given = TypeVar("Given")
Found = TypeVar("Found")
Conversation = tuple["Message", ...]

TEMPLATE_TOKENS = 64
"""What a chat template may add to a conversation, at most, in the bounds on what a judge reads."""


async def each(
    ask: Callable[[Given], Awaitable[Found]], wanted: Iterable[Given], *, beside: bool = True
) -> dict[Given, Found]:
    """Return what `ask` says of each distinct thing, asked at the same time, or one after another in this task."""
    distinct = dict.fromkeys(wanted)
    if not beside:
        return {thing: await ask(thing) for thing in distinct}
    found: dict[Given, Found] = {}

    async def look_up(thing: Given) -> None:
        found[thing] = await ask(thing)

    async with Tasks() as tasks:
        for thing in distinct:
            tasks.start_soon(look_up, thing)
    return found


async def label_tokens(scorer: Scorer, labels: Iterable[int | str]) -> tuple[int, ...]:
    """Return the token of each label.

    Raises:
        ParameterError: A label is not one token, or two are the same one.
    """
    given, found = list(labels), list[int]()
    for label in given:
        tokens = [label] if isinstance(label, int) else await scorer.tokenize(label) if label else ()
        if len(tokens) != 1:
            raise ParameterError(
                f"label {label!r} is {len(tokens)} tokens; a label is one: give another, such as this one with or "
                "without the space before it"
            )
        found += tokens
    if len(set(found)) < len(found):
        raise ParameterError(f"labels {given} are tokens {found}: the model cannot tell them apart")
    return tuple(found)


def check_length(
    able: Capabilities | ScorerCapabilities, where: str, tokens: int, *, writing: int | None = None
) -> None:
    """Refuse what is longer than a model's context, with what will be written after it.

    Raises:
        ParameterError: It is; says by how much, and what to do.
    """
    if able.context is not None and tokens + (writing or 0) > able.context:
        further = "" if writing is None else f" to read and {writing} to write"
        raise ParameterError(
            f"{where}: {tokens} tokens{further} are more than the {able.context} that {able.name} holds: lower "
            "max_tokens, or use a model with a longer context"
        )


@contextmanager
def begun(others: bool = True) -> Iterator[None]:
    """Have a fault that may pass say that something was begun, where other requests went out before or beside it."""
    try:
        yield
    except TransientError as error:
        error.began = error.began or others
        raise


def longest(*texts: str) -> int:
    """Return the most tokens that a text of these can have: its bytes, which are never fewer."""
    return max(len(text.encode(errors="surrogatepass")) for text in texts)


def judge_capabilities(
    kind: str,
    models: dict[str, Capabilities | ScorerCapabilities],
    facts: dict[str, str | int | float | bool | None],
    *,
    calls: int,
    extra_tokens: int,
    steps: bool = False,
) -> VerifierCapabilities:
    """Return what a judge made of these models gives and costs.

    Where there are two, each token is charged at the higher of their prices, since a path's charge is one number of
    tokens; it is unknown if one of them is. For the same reason what a generator reads is charged as what it writes.

    Args:
        kind: What the judge is called.
        models: What each model can do, by what it does; the first gives the name, and its facts their names.
        facts: What else identifies the judge.
        calls: Of `VerifierCapabilities`, as are the others.
        extra_tokens: See there.
        steps: See there.
    """
    able = list(models.values())
    own = {
        (key if place == 0 else f"{role}.{key}"): value
        for place, (role, one) in enumerate(models.items())
        for key, value in {**one.fingerprint, "name": one.name}.items()
    }
    return VerifierCapabilities(
        name=f"{kind}({able[0].name})",
        steps=steps,
        calls=calls,
        extra_tokens=extra_tokens,
        dollars_per_token=_highest(one.dollars_per_token for one in able),
        flops_per_token=_highest(one.flops_per_token for one in able),
        runtimes=tuple(loop for loop in able[0].runtimes if all(loop in one.runtimes for one in able)),
        fingerprint={**own, **facts},
    )


def _highest(prices: Iterable[float | None]) -> float | None:
    known: list[float] = []
    for price in prices:
        if price is None:
            return None
        known.append(price)
    return max(known)


class Reader:
    """Reads how likely a verdict is the positive one of two labels: P(positive) / (P(positive) + P(negative)).

    That is the score of Reasoning's Razor (arXiv 2510.21049); a percentage that the model writes is never read. How
    much probability lies on neither label is not seen, so a model that would say something else is not noticed.
    """

    def __init__(self, scorer: Scorer, positive: str, negative: str) -> None:
        """Name a scorer and the two labels, each one token."""
        self.scorer = scorer
        self._texts = (positive, negative)
        self._labels: tuple[int, ...] = ()

    async def connect(self) -> None:
        """Let the scorer find out what it can do.

        Raises:
            NeedsError: It gives no labels.
            ParameterError: A label is not one token, or both are the same one.
        """
        await connect(self.scorer)
        able = self.scorer.capabilities
        if not able.labels:
            raise NeedsError(
                f"{able.name} gives probabilities of {able.classes} classes and none of labels: "
                "a judge is a language model"
            )
        await self.labels()

    async def labels(self) -> tuple[int, ...]:
        """Return the two labels' token ids, looked up once.

        Raises:
            ParameterError: A label is not one token, or both are the same one.
        """
        if not self._labels:
            self._labels = await label_tokens(self.scorer, self._texts)
        return self._labels

    async def encode(self, conversations: Iterable[Conversation]) -> dict[Conversation, Sequence[int]]:
        """Return the token ids of each distinct conversation."""
        return await each(self.scorer.encode, conversations, beside=not self.scorer.capabilities.local)

    async def tokenize(self, texts: Iterable[str]) -> dict[str, Sequence[int]]:
        """Return the token ids of each distinct text; the empty one has none."""
        said = filter(None, texts)
        return {"": (), **await each(self.scorer.tokenize, said, beside=not self.scorer.capabilities.local)}

    def check_room(self, tokens: int, where: str, *, writing: int = 0) -> None:
        """Refuse what does not fit, with what will be written before the verdict, and the verdict's own token.

        Raises:
            ParameterError: It is longer than the scorer's context.
        """
        check_length(self.scorer.capabilities, where, tokens, writing=writing + 1)

    async def read(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """Return the probability of the positive label after each sequence.

        Raises:
            ScoreCountError: The scorer did not return a row of two for each.
            ScoreValueError: One is no probability.
        """
        places = [[len(sequence) - 1] for sequence in sequences]
        rows = await self.scorer.probabilities(sequences, places, labels=await self.labels())
        name = self.scorer.capabilities.name
        wrong = next((of_one for of_one in rows if [len(row) for row in of_one] != [2]), None)
        if len(rows) != len(sequences) or wrong is not None:
            odd = "" if wrong is None else f", of which one is {wrong!r}"
            raise ScoreCountError(
                f"{name} was asked for two labels after each of {len(sequences)} texts, and gave {len(rows)} rows{odd}"
            )
        values = [float(of_one[0][0]) for of_one in rows]
        for value in values:
            if not math.isfinite(value) or not 0 <= value <= 1:
                raise ScoreValueError(f"{name} gave {value!r} for a verdict; expected a probability in [0, 1]")
        return values
