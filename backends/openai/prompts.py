"""How a conversation is handed to an OpenAI-compatible server: as messages, or as text that is rendered here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from tts.backends.language import Language, TemplateRenderer
from tts.backends.openai.wire import Route, Wish, body_of, read
from tts.errors import ParameterError
from tts.types import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.backends.http import Endpoint

SAMPLE = "Add 12 and 30."


class Prompts:
    """The chat template that is applied here, if there is one.

    Attributes:
        here: Whether there is one.
        template: Its SHA-256; None if there is none.
    """

    def __init__(self, template: str | None, tokenizer: str | None) -> None:
        """Read what was given.

        Raises:
            ParameterError: The folder or the template cannot be read.
        """
        self._language = None if tokenizer is None else Language(Path(tokenizer), template)
        self._renderer = TemplateRenderer(template) if template is not None and tokenizer is None else None
        self.here = self._language is not None or self._renderer is not None
        used = template if self._language is None else self._language.template
        self.template = None if used is None else hashlib.sha256(used.encode()).hexdigest()
        self._put_by_server = ""

    def render(self, messages: Sequence[Message]) -> str:
        """Return a conversation as the model reads it; for display, if the template is the server's.

        Raises:
            ProblemError: The template refuses it.
        """
        if self._language is not None:
            return self._language.render(messages).removeprefix(self._put_by_server)
        if self._renderer is not None:
            return self._renderer.render(messages)
        return "".join(f"{message.role}: {message.content}\n" for message in messages)

    def render_question(self, question: str) -> str:
        """Return a conversation of one question."""
        return self.render([Message(role="user", content=question)])

    async def check(self, endpoint: Endpoint, route: Route, model: str) -> None:
        """See by the number of tokens whether the tokenizer is the server's; it costs one token.

        Servers put the token that begins a text before every text. A template that writes it too would have it twice,
        so that it is then left out here.

        Raises:
            ParameterError: It is another.
        """
        if self._language is None:
            return
        text = self.render_question(SAMPLE)
        here, there = len(self._language.read(text)), await _count(endpoint, route, model, text)
        begins = self._language.begins
        if there == here + 1 and begins and text.startswith(begins):
            self._put_by_server = begins
        elif there is not None and there - here not in (0, 1):
            raise ParameterError(
                f"the tokenizer given is not that of {endpoint.name}: {text!r} has {here} tokens here and {there} there"
            )


async def _count(endpoint: Endpoint, route: Route, model: str, text: str) -> int | None:
    wish = Wish(messages=(), prompt=text, max_tokens=1)
    told = read(await endpoint.post(route.path, body_of(route, model, wish)))
    return None if told is None else sum(told)
