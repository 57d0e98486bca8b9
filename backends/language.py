"""Text to token ids and back: the chat template, the tokenizer, and incremental decoding."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tts.backends.optional import need
from tts.errors import ParameterError, ProblemError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tts.types import Message

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What a decoder shows for a character whose bytes have not all come."""

SPECIAL = re.compile(r"\b(?:bos|eos|unk|pad)_token\b")

CONTEXT = 4
"""Tokens before a child that its first ones are decoded with."""

DECODED = 2**15
"""Short runs of tokens whose text is remembered, because tokens are decoded one after another, two or so at a time."""


class Language:
    """A tokenizer with its chat template.

    `template` is Jinja as Hugging Face writes it, and overrules the folder's own. It is run in a sandbox.

    Attributes:
        template: The chat template that is applied.
        begins: The token that begins a text, as text; empty if there is none.
    """

    def __init__(self, folder: Path, template: str | None = None) -> None:
        """Load what is in a model's folder.

        Raises:
            ParameterError: It has no tokenizer.json, or there is no chat template.
            MissingExtraError: The extra "embedded" is not installed.
        """
        if not (folder / "tokenizer.json").is_file():
            raise ParameterError(f"{folder} has no tokenizer.json")
        self._tokenizer: Any = need("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
        settings = _read(folder / "tokenizer_config.json")
        own = _read_text(folder / "chat_template.jinja") or settings.get("chat_template")
        self.template: str = (own if template is None else template) or ""
        if not self.template:
            raise ParameterError(f"{folder} has no chat template: give one as template=")
        special = {
            name: value["content"] if isinstance(value, dict) else value
            for name, value in settings.items()
            if name.endswith("_token") and value
        }
        self.begins: str = special.get("bos_token", "")
        self._renderer = TemplateRenderer(self.template, special)
        unknown = special.get("unk_token")
        self._unknown = None if unknown is None else self._tokenizer.token_to_id(unknown)
        self._reads = _read(folder / "tts.json").get("reads")
        self._decoded = lru_cache(DECODED)(self._decode)

    def render(self, messages: Sequence[Message]) -> str:
        """Render a conversation; an answer that was begun is left open, any other is asked for.

        Raises:
            ProblemError: The template refuses it.
        """
        return self._renderer.render(messages)

    def read(self, text: str) -> list[int]:
        """Return the token ids of what a model wrote; pieces that the tokenizer does not know are its unknown token."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of what a person wrote.

        Raises:
            ProblemError: It has a piece that the tokenizer does not know.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids: list[int] = encoding.ids
        if self._unknown is not None and self._unknown in ids:
            start, stop = encoding.offsets[ids.index(self._unknown)]
            hint = f"; it reads {self._reads}" if self._reads else ""
            raise ProblemError(f"the model does not know {text[start:stop]!r} (at character {start}){hint}")
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Return what a few tokens say; special ones say nothing."""
        return self._decoded(tuple(tokens))

    def _decode(self, tokens: tuple[int, ...]) -> str:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(_read_text(path) or "{}")
    return loaded


class TemplateRenderer:
    """A chat template as Hugging Face writes them, in Jinja, run in a sandbox.

    `special` are the tokens that templates know by name, such as bos_token.
    """

    def __init__(self, template: str, special: Mapping[str, str] | None = None) -> None:
        """Compile a template.

        Raises:
            ParameterError: It is no Jinja, or names special tokens that are not given.
            MissingExtraError: The extra "embedded" is not installed.
        """
        self._special = special or {}
        lacking = sorted(set(SPECIAL.findall(template)) - set(self._special)) if special is None else []
        if lacking:
            raise ParameterError(f"the chat template names {', '.join(lacking)}: give the tokenizer= that has them too")
        settings = {"trim_blocks": True, "lstrip_blocks": True, "extensions": ["jinja2.ext.loopcontrols"]}
        environment = need("jinja2.sandbox").ImmutableSandboxedEnvironment(**settings)
        environment.globals["raise_exception"] = _refuse
        try:
            self._render: Any = environment.from_string(template).render
        except need("jinja2").TemplateError as error:
            raise ParameterError(f"the chat template cannot be read: {error}") from error

    def render(self, messages: Sequence[Message]) -> str:
        """Render a conversation; an answer that was begun is left open, any other is asked for.

        Raises:
            ProblemError: The template refuses it.
        """
        conversation = [message.model_dump() for message in messages]
        begun = bool(messages) and messages[-1].role == "assistant"
        try:
            text: str = self._render(messages=conversation, add_generation_prompt=not begun, **self._special)
        except need("jinja2").TemplateError as error:
            raise ProblemError(f"the chat template refuses the conversation: {error}") from error
        return text


def _refuse(message: str) -> None:
    raise need("jinja2").TemplateError(message)


class Transcript:
    """The text of a child, as its tokens come.

    Decoding a token may need those before it (a character may take several tokens, and some tokenizers drop a leading
    space), so a short window is decoded again with each token. It begins with the end of what the child continues.
    """

    def __init__(self, language: Language, before: Sequence[int]) -> None:
        self.text = ""
        self._language = language
        self._window = list(before[-CONTEXT:])
        self._said = language.decode(self._window)
        self._fresh = 0

    def add(self, token: int) -> None:
        """Extend the text by what a token says; a part of a character waits for the rest of it."""
        self._window.append(token)
        self._fresh += 1
        seen = self._language.decode(self._window)
        if len(seen) > len(self._said) and not seen.endswith(INCOMPLETE):
            self.text += seen[len(self._said) :]
            self._window = self._window[-self._fresh :]
            self._said = self._language.decode(self._window)
            self._fresh = 0

    def close(self) -> None:
        """Add what an unfinished character left."""
        self.text += self._language.decode(self._window)[len(self._said) :]
