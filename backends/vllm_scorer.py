"""Scores from a vLLM server: classes at the last token or at every one, and labels as the next token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from tts.backends.coalesce import Coalescer, Sizes
from tts.backends.http import Endpoint
from tts.backends.served import RemoteLanguage, ask_served, ask_version, check_fields
from tts.backends.vllm_probe import CLASSIFY, GENERATE, find_form, generates
from tts.backends.vllm_scores import EveryToken, Form, NextToken, Prefix, Row, check_row, joined, prefixes, read
from tts.backends.vllm_server import OLDEST
from tts.capabilities import ScorerCapabilities
from tts.errors import BackendError, NeedsError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tts.backends.http import Timeouts
    from tts.types import Message

REMEMBERED = 131072
"""Rows that are kept, some 40 MB; those not asked for the longest time go first. Each set of labels has its own."""
TEXTS = Sizes(batch=1, in_flight=32, remembered=4096)
"""Of conversations and steps that become tokens."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a server turned out to do: `form` is how it gives classes, if it does."""

    model: str
    form: Form | None
    able: ScorerCapabilities


class VLLMScorer:
    """A scorer on a vLLM server, which is asked by `connect` what it can do, without a token sampled.

    - A reward model served with `--runner pooling --pooler-config '{"task":"classify"}'` gives classes at the last
      token: each asked position is sent as the prefix that it ends, and reads the prefix cache.
    - One served with `--runner pooling` alone gives classes at every token, and reads each sequence anew.
    - One served with a step tag (`--pooler-config '{"tok_pooling_type":"STEP","step_tag_id":ID}'`, or a model that has
      one) gives classes at the tokens that are the tag, so only they can be asked about; `step_tag` names it.
    - A language model gives probabilities of `labels` as the next token, normalised over them. For that the engine
      samples one token a verdict, which no `Usage` counts as generated: it costs as much as one more token read.

    A model with a single output gives rows of one probability, that of its activation.

    A prefix is asked about once as long as its row is remembered (`REMEMBERED`), and once for all that ask at the same
    time. What concurrent problems ask for goes out in lists, which therefore belong to no problem: routers with sticky
    sessions cannot tell them apart.

    Attributes:
        sent: Sequences that have gone to the server; of a language model, also the tokens sampled for verdicts.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        template: str | None = None,
        tokenizer: str | None = None,
        step_tag: int | str | None = None,
        key: str = "TTS_API_KEY",
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | Mapping[str, float] | None = None,
        batch: int = 64,
        in_flight: int = 4,
        remembered: int = REMEMBERED,
        dollars_per_token: float | None = None,
        flops_per_token: float | None = None,
    ) -> None:
        """Name a server; it is asked what it serves by `connect`, which `solve` calls.

        Args:
            url: Where it is, such as "http://localhost:8000".
            model: The served model's name; None if it serves one only.
            template: A chat template (Jinja) instead of the model's own; applied here.
            tokenizer: A folder with tokenizer.json and tokenizer_config.json; text is then tokenised here, which spares
                the server a request for each new step. It must be the server's own, and is compared with it.
            step_tag: The token that a server with a step tag gives scores at, as its id or its text.
            key: Name of the environment variable with the server's key (`vllm serve --api-key`).
            headers: Sent with every request.
            timeouts: How long the server may take.
            batch: Positions asked about in a request, at most.
            in_flight: Requests under way at a time, at most.
            remembered: Rows that are kept; 0 for none.
            dollars_per_token: Price of a token read.
            flops_per_token: Operations of a token: about twice the parameters that are active.

        Raises:
            ParameterError: The URL is none, or a number is out of range.
        """
        self.endpoint = Endpoint(url, key=key, headers=headers, timeouts=timeouts)
        self.sent = 0
        self._model = model
        self._step_tag = step_tag
        self._sizes = Sizes(batch, in_flight, remembered)
        self._lines: dict[Form, Coalescer[Prefix, Row]] = {}
        self._language = RemoteLanguage(self.endpoint, template, tokenizer)
        self._texts = Coalescer(self._read_text, _itself, TEXTS)
        self._found: _Found | None = None
        self._suggested = ScorerCapabilities("", dollars_per_token=dollars_per_token, flops_per_token=flops_per_token)

    async def connect(self) -> None:
        """Find out what the server serves, and how it gives scores.

        Raises:
            BackendError: It serves no such model, is too old, or gives no scores.
            ParameterError: `step_tag` or `tokenizer` is not the server's.
            TransientError: It does not answer.
        """
        if self._found is None:
            await self.reconnect()

    async def reconnect(self) -> None:
        """Find out anew what the server serves, which may be another after it was away; raises as `connect` does."""
        version = await ask_version(self.endpoint, OLDEST)
        served = await ask_served(self.endpoint, self._model)
        await self._language.connect(served.model)
        form, classes = await find_form(self.endpoint, self._language, served.model, self._step_tag)
        if form is None and not await generates(self.endpoint, served.model):
            raise BackendError(
                f"{self.endpoint.name} gives no scores: serve a reward model with {CLASSIFY}, or a language model with "
                f"{GENERATE}"
            )
        asked: Form = form or NextToken()
        await check_fields(self.endpoint, asked.path, asked.fields)
        able = replace(
            self._suggested,
            name=f"vllm/{served.model}",
            classes=classes,
            context=served.context,
            labels=form is None,
            fingerprint={
                "engine": f"vllm {version}",
                "model": served.root,
                "template": self._language.template,
                "context": served.context,
                "scores": asked.name,
            },
        )
        if self._found is None or self._found.able != able:
            self._lines = {}
            self._texts = Coalescer(self._read_text, _itself, TEXTS)
        self._found = _Found(served.model, form, able)

    @property
    def capabilities(self) -> ScorerCapabilities:
        """What it can do.

        Raises:
            BackendError: It has not been asked; `solve` does so, other code awaits `connect` first.
        """
        return self._known().able

    async def encode(self, messages: Sequence[Message]) -> Sequence[int]:
        """Render a conversation into token ids; what has been rendered lately is not asked for again.

        Raises:
            ProblemError: The template refuses it.
        """
        return (await self._texts.ask([tuple(messages)]))[0]

    async def tokenize(self, text: str) -> Sequence[int]:
        """Return the token ids of `text`, to be appended to a rendered conversation."""
        return (await self._texts.ask([text]))[0]

    async def probabilities(
        self,
        sequences: Sequence[Sequence[int]],
        positions: Sequence[Sequence[int]],
        *,
        labels: Sequence[int] | None = None,
    ) -> Sequence[Sequence[Sequence[float]]]:
        """Return probabilities at each asked position of each sequence: of classes, or of `labels` as next tokens.

        Raises:
            NeedsError: The server does not give what is asked for; says how to serve what does.
            ParameterError: A sequence, position or label is out of range, or the server refuses it.
            ScoreCountError: The server does not answer for each position.
            ScoreValueError: It answers with something that is no probability.
            TransientError: A fault that may pass; rows that have come are kept.
            BackendError: The server is no more, or not what it was.
        """
        if len(sequences) != len(positions):
            raise ParameterError(f"{len(sequences)} sequences, but positions for {len(positions)}")
        form = self._form(labels)
        asked = [self._prefixes(form, sequence, places) for sequence, places in zip(sequences, positions, strict=True)]
        rows = iter(await self._line(form).ask([prefix for several in asked for prefix in several]))
        return [list(islice(rows, len(several))) for several in asked]

    async def aclose(self) -> None:
        """Close the connections."""
        await self.endpoint.aclose()

    def _known(self) -> _Found:
        if self._found is None:
            raise BackendError(f"{self.endpoint.name} has not been asked what it can do: await connect() first")
        return self._found

    def _form(self, labels: Sequence[int] | None) -> Form:
        found = self._known()
        if labels is None:
            if found.form is None:
                raise NeedsError(
                    f"{found.able.name} generates, and gives no probabilities of classes: ask for labels, or serve a "
                    f"reward model with {CLASSIFY}"
                )
            return found.form
        if not found.able.labels:
            raise NeedsError(
                f"{found.able.name} gives probabilities of {found.able.classes} classes and takes no labels: leave "
                f"them out, or serve a language model with {GENERATE}"
            )
        wanted = tuple(map(int, labels))
        if not wanted or min(wanted) < 0:
            raise ParameterError(f"labels {list(wanted)} are no token ids")
        return NextToken(wanted)

    def _line(self, form: Form) -> Coalescer[Prefix, Row]:
        """Return where a form's questions are gathered: those of one request must have the same labels."""

        async def ask(asked: Sequence[Prefix]) -> list[Row]:
            return await self._ask(form, asked)

        if form not in self._lines:
            self._lines[form] = Coalescer(ask, attrgetter("digest"), self._sizes)
        return self._lines[form]

    def _prefixes(self, form: Form, sequence: Sequence[int], places: Sequence[int]) -> list[Prefix]:
        able = self._known().able
        if places and not 0 <= min(places) <= max(places) < len(sequence):
            raise ParameterError(f"positions {list(places)} do not lie in a sequence of {len(sequence)} tokens")
        length = max(places, default=-1) + 1 + form.sampled
        if able.context is not None and length > able.context:
            more = f" and {form.sampled} to sample" if form.sampled else ""
            raise ParameterError(
                f"{length - form.sampled} tokens{more} are more than the {able.context} that {able.name} holds"
            )
        if isinstance(form, EveryToken) and not set(places) <= set(form.places(sequence)):
            untagged = sorted(set(places) - set(form.places(sequence)))
            raise ParameterError(
                f"{able.name} scores at its step tag, token {form.tag}, alone; positions {untagged} hold others"
            )
        return prefixes(list(map(int, sequence)), places)

    async def _read_text(self, items: Sequence[str | tuple[Message, ...]]) -> list[tuple[int, ...]]:
        (item,) = items
        language = self._language
        return [tuple(await (language.tokenize(item) if isinstance(item, str) else language.read(item)))]

    async def _ask(self, form: Form, asked: Sequence[Prefix]) -> list[Row]:
        found, where = self._known(), f"{self.endpoint.name}{form.path}"
        wide = len(form.labels) if isinstance(form, NextToken) else found.able.classes
        sequences, told_by = joined(form, asked)
        self.sent += len(sequences)
        said = await self.endpoint.post(form.path, form.body(found.model, sequences))
        rows = read(self.endpoint.name, form, said, sequences)
        return [
            check_row(f"{where}, position {prefix.end - 1}", rows[index][prefix.end - 1], wide)
            for prefix, index in zip(asked, told_by, strict=True)
        ]


def _itself(item: str | tuple[Message, ...]) -> str | tuple[Message, ...]:
    return item
