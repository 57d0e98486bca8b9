"""What an OpenAI-compatible server serves, and the text and tokens of its model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tts.backends.language import Language, TemplateRenderer
from tts.errors import BackendError, EngineDeadError, ParameterError, ProblemError, TransientError, TTSError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tts.backends.http import Endpoint
    from tts.types import Message

REMEMBERED = 65536
"""Texts whose token ids are kept."""
UNTAGGED = ("0.0", "0.1.dev", "dev")
"""How versions begin of vLLM built from a checkout without tags; they are as new as it is."""
SAMPLE = "Add 12 and 30.\n\nThe answer is \\boxed{42}"
"""What is tokenised here and there to see whether a tokenizer is the server's."""


@dataclass(frozen=True, slots=True)
class Served:
    """One model of a server.

    Attributes:
        model: Its name in requests.
        root: Where the server has it from; its name if it does not say.
        context: Prompt and answer together, in tokens; None if the server does not say.
    """

    model: str
    root: str
    context: int | None


async def ask_served(endpoint: Endpoint, model: str | None) -> Served:
    """Find the model.

    Raises:
        BackendError: There is no such model, or several and none was named.
        TransientError: There is no server.
    """
    listed = await endpoint.get("/v1/models")
    try:
        models = {entry["id"]: entry for entry in listed["data"]}
    except (KeyError, TypeError):
        raise BackendError(f"{endpoint.name}/v1/models: no list of models, but {str(listed)[:200]}") from None
    if model is None and len(models) != 1:
        raise BackendError(f"{endpoint.name} serves {', '.join(sorted(models)) or 'nothing'}: say which model")
    if model is not None and model not in models:
        raise BackendError(f"{endpoint.name} does not serve {model!r}; it serves {', '.join(sorted(models))}")
    entry = models[model if model is not None else next(iter(models))]
    return Served(entry["id"], entry.get("root") or entry["id"], entry.get("max_model_len"))


async def ask_version(endpoint: Endpoint, oldest: tuple[int, int]) -> str:
    """Return vLLM's version.

    Raises:
        BackendError: It is too old, or this is no vLLM.
    """
    try:
        version = str((await endpoint.get("/version"))["version"])
        if version.startswith(UNTAGGED):
            return version
        number = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    except (EngineDeadError, TransientError):
        raise
    except (BackendError, KeyError, TypeError, ValueError) as error:
        raise BackendError(
            f"{endpoint.name} does not say which vLLM it is ({error}); for other servers use openai:URL"
        ) from error
    if number < oldest:
        wanted = ".".join(map(str, oldest))
        raise BackendError(f"{endpoint.name} runs vLLM {version}; {wanted} or newer is needed")
    return version


async def check_fields(endpoint: Endpoint, path: str, fields: Iterable[str]) -> None:
    """Refuse a server that lacks a path, or does not know a field that will be sent: it would take it and do nothing.

    What a server knows is in its OpenAPI document; one without such a document is taken at its word.

    Raises:
        BackendError: Names the path, or the fields.
    """
    try:
        document = await endpoint.get("/openapi.json")
        lacks = "/v1/models" in document["paths"] and path not in document["paths"]
    except (TTSError, LookupError, TypeError):
        return
    if lacks:
        raise BackendError(
            f"{endpoint.name} has no {path}: a reward model draws no text (name it as verifier), and a language model "
            "gives no classes (name it as generator)"
        )
    try:
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        known = set(_properties(document, content))
    except (TTSError, LookupError, TypeError, AttributeError, RecursionError):  # or it has a form of its own
        return
    unknown = sorted(set(fields) - known)
    if known and unknown:
        raise BackendError(f"{endpoint.name}{path} does not know {', '.join(unknown)}: it would ignore them silently")


def _properties(document: Any, schema: Any) -> Iterable[str]:
    for part in (schema, *schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        found = part
        for name in part.get("$ref", "#").split("/")[1:]:
            found = (document if found is part else found)[name]
        yield from found.get("properties", ())
        if found is not part:
            yield from _properties(document, {key: found[key] for key in ("anyOf", "oneOf", "allOf") if key in found})


class RemoteLanguage:
    """The chat template and tokenizer of a served model: the server's, or a copy of them here.

    Attributes:
        template: SHA-256 of the template that is applied here; None where the server applies its own.
    """

    def __init__(self, endpoint: Endpoint, template: str | None, tokenizer: str | Path | None) -> None:
        """Say where text becomes tokens.

        Args:
            endpoint: The server.
            template: A chat template to apply here instead of the model's own.
            tokenizer: A folder with the server's tokenizer, to tokenise here; None asks the server each time.

        Raises:
            ParameterError: The folder or the template cannot be read.
        """
        self._endpoint = endpoint
        self._local = None if tokenizer is None else Language(Path(tokenizer), template)
        self._renderer = TemplateRenderer(template) if template is not None and tokenizer is None else None
        self._model = ""
        self._known: dict[str, tuple[int, ...]] = {}
        own = None if self._local is None else self._local.template
        used = own if template is None else template
        self.template = None if used is None else hashlib.sha256(used.encode()).hexdigest()

    async def connect(self, model: str) -> None:
        """Begin to speak for a model; a tokenizer here is compared with the server's.

        Raises:
            ParameterError: They are not the same.
        """
        self._model = model
        self._known.clear()
        if self._local is not None:
            here, there = self._local.read(SAMPLE), await self._ask_tokens({"prompt": SAMPLE})
            if here != there:
                raise ParameterError(f"the tokenizer given is not that of {self._endpoint.name}: {here} is not {there}")

    async def render(self, messages: Sequence[Message]) -> tuple[str, list[int]]:
        """Return a conversation as the model reads it, as text and as tokens.

        Raises:
            ProblemError: The template refuses it.
        """
        if self._local is not None:
            text = self._local.render(messages)
            return text, self._local.tokenize(text)
        if self._renderer is not None:
            text = self._renderer.render(messages)
            return text, await self._ask_tokens({"prompt": text})
        tokens = await self._converse(messages)
        return await self.text_of(tokens), tokens

    async def read(self, messages: Sequence[Message]) -> list[int]:
        """Return a conversation's tokens alone, which spares the server a request; raises as `render` does."""
        if self._local is not None or self._renderer is not None:
            return (await self.render(messages))[1]
        return await self._converse(messages)

    async def _converse(self, messages: Sequence[Message]) -> list[int]:
        begun = messages[-1].role == "assistant"
        return await self._ask_tokens(
            {
                "messages": [message.model_dump() for message in messages],
                "add_generation_prompt": not begun,
                "continue_final_message": begun,
            }
        )

    async def tokenize(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text that goes on from what is there."""
        known = self._known.get(text)
        if known is None:
            local = self._local
            known = tuple(local.read(text) if local else await self._ask_tokens({"prompt": text}))
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[text] = known
        return known

    async def text_of(self, tokens: Sequence[int]) -> str:
        """Return what tokens say."""
        said = await self._endpoint.post("/detokenize", {"model": self._model, "tokens": list(tokens)})
        try:
            return str(said["prompt"])
        except (KeyError, TypeError) as error:
            raise BackendError(f"{self._endpoint.name}/detokenize: no text in the answer ({error!r})") from error

    async def _ask_tokens(self, what: dict[str, Any]) -> list[int]:
        # A template writes the tokens that begin a text itself.
        body = {"model": self._model, "add_special_tokens": False, **what}
        try:
            said = await self._endpoint.post("/tokenize", body)
            return [int(token) for token in said["tokens"]]
        except ParameterError as error:
            raise ProblemError(f"the conversation cannot be read: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise BackendError(f"{self._endpoint.name}/tokenize: no tokens in the answer ({error!r})") from error
