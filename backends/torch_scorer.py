"""The scorer over transformers, in this process: reward models of any size that torch holds."""

from __future__ import annotations

import math
from collections import deque
from functools import cached_property, lru_cache
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from tts.backends.coalesce import Coalescer, Sizes
from tts.backends.language import TemplateRenderer
from tts.backends.optional import need
from tts.backends.torch_network import DTYPES, EXTRA, TorchNetwork, find_model, load, load_tokenizer
from tts.backends.vllm_scores import EveryToken, Prefix, Row, joined, prefixes
from tts.backends.worker import Mailbox, Worker
from tts.capabilities import ScorerCapabilities
from tts.errors import NeedsError, ParameterError, ScoreValueError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tts.types import Message

REMEMBERED = 131072
"""Rows that are kept, some 40 MB; those not asked for the longest time go first. Each set of labels has its own."""
TEXTS = 4096
"""Conversations and texts whose tokens are kept."""
Labels = tuple[int, ...] | None


class TorchScorer:
    """Scores token sequences with a reward model in this process, loaded by transformers without code of its own.

    Which heads there are (`head`), and what each gives:

    - "token-classification" and "sequence-classification": probabilities of the classes, at every token. The head of
      the second was trained at the last token, so asking at a token asks about the prefix that ends there.
    - "language": probabilities of `labels` as the next token, normalised over them.
    - "two-layer": classes, by Qwen2.5-Math-PRM's head (Linear, ReLU, Linear), its weights named score.0 and score.2.
    - "value": one number, by the value head of Skywork-o1-Open-PRM, its weights named v_head.summary.

    A model with a single output gives rows of one probability, its sigmoid; with `activation="none"` rows of the raw
    reward, any finite number, which only `OutcomeReward` takes, by a map that it is told. This is the one departure
    from the clauses of `Scorer`, and `capabilities.fingerprint["activation"]` says so.

    The model runs on a thread of its own. Sequences of concurrent callers go through it together, padded on the right,
    and the result for one does not depend on the others but for rounding. A prefix is asked about once as long as its
    row is remembered (`REMEMBERED`); a new step's pass reads the path from its beginning, since keys and values are not
    kept. Only models that read from left to right are taken: in others a step's score would hang on later steps.

    Attributes:
        read: Sequences that the model has read.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        head: str | None = None,
        activation: Literal["auto", "none"] = "auto",
        template: str | None = None,
        dtype: str = "auto",
        device: str = "cpu",
        rows: int = 8,
        batch: int = 64,
        remembered: int = REMEMBERED,
    ) -> None:
        """Load a model.

        Args:
            model: A folder with its weights as safetensors, its configuration and its tokenizer; or its name on the
                hub, from which it is fetched.
            head: How scores come out of it; None for what its configuration's architecture says.
            activation: "auto" for softmax over classes and sigmoid of a single output; "none" for raw rewards.
            template: A chat template (Jinja) instead of the model's own.
            dtype: Of its weights: "float32", "bfloat16", "float16", or "auto" for that in which they were saved.
            device: Where it runs, as torch names it, such as "cuda:0".
            rows: Sequences in one pass, at most; others wait.
            batch: Positions of concurrent callers asked about at a time, at most.
            remembered: Rows that are kept; 0 for none.

        Raises:
            UnknownNameError: There is no such head.
            ParameterError: A number is out of range, there is no such device, or the folder cannot be loaded; says why.
            MissingExtraError: The extra "torch" is not installed.
        """
        if rows < 1:
            raise ParameterError(f"rows is {rows}; it is at least 1")
        if activation not in ("auto", "none"):
            raise ParameterError(f"activation is {activation!r}; it is 'auto' or 'none'")
        if dtype not in DTYPES:
            raise ParameterError(f"dtype is {dtype!r}; it is one of {', '.join(DTYPES)}")
        self._sizes = Sizes(batch, 4, remembered)
        folder, self._snapshot = find_model(model)
        self._model = folder.name if self._snapshot is None else str(model)
        self._network = load(folder, head, dtype, device)
        if activation == "none" and self._network.outputs != 1:
            raise ParameterError(f"activation='none' is for a single output; {self._model} has {self._network.outputs}")
        self.read = 0
        self._raw = activation == "none"
        self._device = device
        self._tokenizer = load_tokenizer(folder)
        self._template = self._tokenizer.chat_template if template is None else template
        self._lines: dict[Labels, Coalescer[Prefix, Row]] = {}
        self._worker: Worker[Posed] = Worker(self.capabilities.name, Passes(self._network, rows))
        self._render = lru_cache(TEXTS)(self._rendered)
        self._tokens = lru_cache(TEXTS)(self._tokenized)

    @cached_property
    def capabilities(self) -> ScorerCapabilities:
        """What it can do."""
        network, language = self._network, self._network.head == "language"
        single = "none" if self._raw else "sigmoid"
        return ScorerCapabilities(
            name=f"torch/{self._model.rsplit('/', 1)[-1]}",
            classes=0 if language else network.outputs,
            context=network.context,
            flops_per_token=2.0 * network.parameters,
            fingerprint={
                "engine": f"torch {need('torch', EXTRA).__version__}, "
                f"transformers {need('transformers', EXTRA).__version__}",
                "model": self._model,
                "snapshot": self._snapshot,
                "head": network.head,
                "activation": single if network.outputs == 1 else "softmax",
                "dtype": network.dtype,
                "device": self._device,
                "template": self._template,
                "context": network.context,
            },
            labels=language,
            local=True,
        )

    async def encode(self, messages: Sequence[Message]) -> Sequence[int]:
        """Render a conversation into token ids; an answer that was begun is left as the template renders it.

        Raises:
            ParameterError: There is no chat template.
            ProblemError: The template refuses it.
        """
        return self._render(tuple(messages))

    async def tokenize(self, text: str) -> Sequence[int]:
        """Return the token ids of `text`, to be appended to a rendered conversation; special tokens only as written."""
        return self._tokens(text)

    async def probabilities(
        self,
        sequences: Sequence[Sequence[int]],
        positions: Sequence[Sequence[int]],
        *,
        labels: Sequence[int] | None = None,
    ) -> Sequence[Sequence[Sequence[float]]]:
        """Return probabilities at each asked position of each sequence: of classes, or of `labels` as next tokens.

        Raises:
            NeedsError: The model does not give what is asked for.
            ParameterError: A sequence, position or label is out of range; one longer than the context says so.
            ScoreValueError: The model says something that is no finite number.
            EngineDeadError: The model failed, or was closed.
        """
        if len(sequences) != len(positions):
            raise ParameterError(f"{len(sequences)} sequences, but positions for {len(positions)}")
        wanted = self._checked(labels)
        for sequence, places in zip(sequences, positions, strict=True):
            self._check(sequence, places)
        asked = [prefixes(list(map(int, ids)), places) for ids, places in zip(sequences, positions, strict=True)]
        rows = iter(await self._line(wanted).ask([prefix for several in asked for prefix in several]))
        return [list(islice(rows, len(several))) for several in asked]

    async def aclose(self) -> None:
        """Fail what is running and end the model's thread."""
        await self._worker.aclose()

    def _rendered(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        if not isinstance(self._template, str):
            raise ParameterError(f"{self.capabilities.name} has no chat template: give one as template=")
        return self._tokens(TemplateRenderer(self._template, self._tokenizer.special_tokens_map).render(messages))

    def _tokenized(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _checked(self, labels: Sequence[int] | None) -> Labels:
        name, network = self.capabilities.name, self._network
        if (labels is not None) != (network.head == "language"):
            gives = "next tokens: give labels" if labels is None else f"{network.outputs} classes, and takes no labels"
            raise NeedsError(f"{name} gives probabilities of {gives}")
        wanted = None if labels is None else tuple(map(int, labels))
        if wanted is not None and not (wanted and 0 <= min(wanted) <= max(wanted) < network.vocabulary):
            raise ParameterError(f"labels {list(wanted)} are not token ids below {network.vocabulary}")
        return wanted

    def _check(self, sequence: Sequence[int], places: Sequence[int]) -> None:
        name, context, vocabulary = self.capabilities.name, self._network.context, self._network.vocabulary
        if places and not 0 <= min(places) <= max(places) < len(sequence):
            raise ParameterError(f"positions {list(places)} do not lie in a sequence of {len(sequence)} tokens")
        if context is not None and max(places, default=-1) >= context:
            raise ParameterError(f"{max(places) + 1} tokens are more than the {context} that {name} holds")
        if sequence and not 0 <= min(sequence) <= max(sequence) < vocabulary:
            raise ParameterError(f"token ids lie in {min(sequence)} to {max(sequence)}; {name} knows {vocabulary}")

    def _line(self, labels: Labels) -> Coalescer[Prefix, Row]:
        """Return where questions with the same labels are gathered and remembered."""

        async def ask(asked: Sequence[Prefix]) -> list[Row]:
            return await self._ask(labels, asked)

        if labels not in self._lines:
            self._lines[labels] = Coalescer(ask, attrgetter("digest"), self._sizes)
        return self._lines[labels]

    async def _ask(self, labels: Labels, asked: Sequence[Prefix]) -> list[Row]:
        sequences, told_by = joined(EveryToken(), asked)
        places: list[list[int]] = [[] for _ in sequences]
        for prefix, index in zip(asked, told_by, strict=True):
            places[index].append(prefix.end - 1)
        posed = Posed(sequences, places, labels, self._raw)
        await self._worker.run(posed)
        self.read += len(sequences)
        found = [dict(zip(at, rows, strict=True)) for at, rows in zip(places, posed.rows, strict=True)]
        rows = [found[index][prefix.end - 1] for prefix, index in zip(asked, told_by, strict=True)]
        for prefix, row in zip(asked, rows, strict=True):
            if not all(map(math.isfinite, row)):
                raise ScoreValueError(
                    f"{self.capabilities.name}, position {prefix.end - 1}: {row} are no finite numbers"
                )
        return rows


class Posed:
    """One list of questions: sequences, and the places in each at which the head is asked.

    Attributes:
        rows: For each sequence, a row for each of its places, once the mailbox is closed.
    """

    def __init__(
        self, sequences: Sequence[Sequence[int]], places: Sequence[Sequence[int]], labels: Labels, raw: bool
    ) -> None:
        self.sequences = sequences
        self.places = places
        self.labels = labels
        self.raw = raw
        self.mailbox = Mailbox()
        self.rows: list[list[Row]] = [[] for _ in sequences]
        self.unread = len(sequences)

    def answer(self, index: int, logits: Any) -> None:
        """Keep what the head says of a sequence, as probabilities unless raw numbers are wanted."""
        chosen = (logits if self.labels is None else logits[:, list(self.labels)]).double()
        if not self.raw:
            chosen = chosen.sigmoid() if chosen.shape[1] == 1 and self.labels is None else chosen.softmax(dim=1)
        self.rows[index] = [tuple(row) for row in chosen.tolist()]
        self.unread -= 1


class Passes:
    """The engine: sequences of all callers, so many at a time, in the order in which they come."""

    def __init__(self, network: TorchNetwork, rows: int) -> None:
        self._network = network
        self._rows = rows
        self._waiting: deque[tuple[Posed, int]] = deque()

    def add(self, posed: Posed) -> None:
        """Take up a list."""
        self._waiting.extend((posed, index) for index in range(len(posed.sequences)))

    def drop(self, posed: Posed) -> None:
        """Let go of a list."""
        self._waiting = deque(item for item in self._waiting if item[0] is not posed)

    def step(self) -> list[Posed]:
        """Run one pass; returns the lists that are answered."""
        items = [self._waiting.popleft() for _ in range(min(self._rows, len(self._waiting)))]
        places = [posed.places[index] for posed, index in items]
        logits = self._network.logits([posed.sequences[index] for posed, index in items], places)
        begin = 0
        for (posed, index), at in zip(items, places, strict=True):
            posed.answer(index, logits[begin : begin + len(at)])
            begin += len(at)
        return [posed for posed in dict.fromkeys(posed for posed, _ in items) if not posed.unread]
