"""Asking one endpoint of an OpenAI-compatible server small things, and counting what that costs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from tts.backends.openai.wire import Piece, Route, Wish, body_of, pieces_of, sampled
from tts.errors import BackendError, EngineDeadError, TransientError, TTSError
from tts.types import Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from tts.backends.http import Endpoint

T = TypeVar("T")
COUNTING = "Write the numbers from one to forty in words, separated by commas."
"""Long and without surprise, so that a greedy draw repeats."""
SHORT = "Answer with the single word yes."
"""So short that the model ends it."""
OPEN = "Name an animal, a city, a colour and a number, whatever comes to mind."
"""So open that two draws differ."""


def is_final(error: TTSError) -> bool:
    """Whether an error says that there is no use in asking on, rather than that an ability is absent."""
    if isinstance(error, TransientError):
        return not error.began
    return isinstance(error, EngineDeadError) or re.search(r" status 40[13]\b", str(error)) is not None


class Asking:
    """One endpoint under examination.

    Attributes:
        route: What it can do, as far as it has shown.
        lacks: What it cannot do, and how that showed.
        requests: Sent so far.
        tokens: Sampled so far; an upper bound where the server does not count.
        engine: What the server calls itself; None if it does not.
        long: What it answers to a question with a long answer, drawn without chance.
    """

    def __init__(
        self, endpoint: Endpoint, model: str, path: str, render: Callable[[str], str], question: str | None
    ) -> None:
        self.endpoint = endpoint
        self.route = Route(path=path)
        self.lacks: dict[str, str] = {}
        self.requests = 0
        self.tokens = 0
        self.engine: str | None = None
        self.long = ""
        self._model = model
        self._render = render
        self._question = question

    def may(self, **shown: Any) -> None:
        """Note what it can do."""
        self.route = replace(self.route, **shown)

    async def learn(self, ability: str, look: Callable[[Asking], Awaitable[str]]) -> None:
        """Look for an ability; `look` returns why it is absent, or raises, and returns nothing if it is there."""
        if (why := await self._why(look, self)) != "":
            self.lacks[ability] = why

    async def first_of(self, choices: Iterable[T], look: Callable[[T], Awaitable[str]]) -> tuple[list[T], str]:
        """Return the first choice with which `look` finds nothing amiss, or none and what was amiss with each."""
        whys: list[str] = []
        for choice in choices:
            why = await self._why(look, choice)
            if not why:
                return [choice], ""
            whys.append(why)
        return [], "; ".join(dict.fromkeys(whys))

    async def _why(self, look: Callable[[T], Awaitable[str]], choice: T) -> str:
        try:
            return await look(choice)
        except TTSError as error:
            if is_final(error):
                raise
            return str(error)

    def wish(self, max_tokens: int, question: str = COUNTING, **more: Any) -> Wish:
        """Return a question as it is asked; the one that was given, if any, in place of all others."""
        text = self._question or question
        return Wish(
            messages=(Message(role="user", content=text),), prompt=self._render(text), max_tokens=max_tokens, **more
        )

    async def said(self, wish: Wish, route: Route | None = None) -> Any:
        """Return the reply to a question."""
        route = route or self.route
        self.requests += 1
        self.tokens += wish.max_tokens * wish.count
        try:
            said = await self.endpoint.post(route.path, body_of(route, self._model, wish))
        except TTSError as error:
            if not (isinstance(error, TransientError) and error.began):
                self.tokens -= wish.max_tokens * wish.count
            raise
        count = sampled(said)
        self.tokens += 0 if count is None else count - wish.max_tokens * wish.count
        return said

    async def piece(self, wish: Wish, route: Route | None = None) -> Piece:
        """Return the one choice of the reply to a question."""
        return self.only(await self.said(wish, route))

    async def streamed(self, wish: Wish, route: Route) -> list[Any]:
        """Return what came of a stream."""
        events: list[Any] = []

        async def take(said: Any) -> None:
            events.append(said)

        self.requests += 1
        await self.endpoint.stream(route.path, body_of(route, self._model, wish), take)
        counts = [count for event in events if (count := sampled(event)) is not None]
        self.tokens += counts[-1] if counts else wish.max_tokens
        return events

    def only(self, said: Any) -> Piece:
        """Return the one choice of a reply.

        Raises:
            BackendError: There is another number of them.
        """
        pieces = pieces_of(self.endpoint.name, said)
        if len(pieces) != 1:
            raise BackendError(
                f"{self.endpoint.name}: {len(pieces)} choices where one was asked for: {str(said)[:200]}"
            )
        return pieces[0]
