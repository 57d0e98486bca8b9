"""What goes to vLLM for scores and what comes back, without any input or output of its own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from array import array
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar

from tts.backends.vllm_children import NEUTRAL
from tts.errors import BackendError, ScoreCountError, ScoreValueError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Row = tuple[float, ...]
TOLERANCE = 1e-2
"""How far the sum of a row may be from 1; probabilities of half precision are this far off at most."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first `end` tokens of a sequence, told from others by a digest of them."""

    digest: bytes
    sequence: Sequence[int]
    end: int

    @property
    def tokens(self) -> list[int]:
        """The tokens."""
        return list(self.sequence[: self.end])


def prefixes(sequence: Sequence[int], positions: Sequence[int]) -> list[Prefix]:
    """Return the prefix that ends with each position."""
    found: dict[int, Prefix] = {}
    digest, begin = blake2b(digest_size=16), 0
    for place in sorted(set(positions)):
        digest.update(array("q", sequence[begin : place + 1]).tobytes())
        begin = place + 1
        found[place] = Prefix(digest.digest(), sequence, begin)
    return [found[place] for place in positions]


class Form(ABC):
    """One way in which a server gives scores.

    Attributes:
        path: Where it is asked.
        fields: What is sent.
        sampled: Tokens that the engine samples for each sequence.
        joins: Whether what is said of a sequence holds for its prefixes too.
    """

    path: ClassVar[str]
    fields: ClassVar[tuple[str, ...]] = ("model", "input")
    sampled: ClassVar[int] = 0
    joins: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """How results name it."""

    def body(self, model: str, sequences: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Return the request."""
        return {"model": model, "input": [list(sequence) for sequence in sequences]}

    def entries(self, said: Any) -> Any:
        """Return what a reply lists, one for each sequence."""
        return said["data"]

    @abstractmethod
    def rows(self, entry: Any, sequence: Sequence[int]) -> Mapping[int, Sequence[float]]:
        """Return what an entry says, by position.

        Raises:
            ScoreCountError: That is more or less than what was asked for.
        """


@dataclass(frozen=True, slots=True)
class LastToken(Form):
    """Classes at the last token, from `/classify`: each prefix is a sequence, and begins where the cache ends."""

    path: ClassVar[str] = "/classify"

    @property
    def name(self) -> str:
        """How results name it."""
        return "classify"

    def rows(self, entry: Any, sequence: Sequence[int]) -> Mapping[int, Sequence[float]]:
        """Return the one row."""
        return {len(sequence) - 1: entry["probs"]}


@dataclass(frozen=True, slots=True)
class EveryToken(Form):
    """Classes at every token, from `/pooling`, or at the tokens that are the server's step tag."""

    path: ClassVar[str] = "/pooling"
    joins: ClassVar[bool] = True
    tag: int | None = None

    @property
    def name(self) -> str:
        """How results name it."""
        return "token_classify" if self.tag is None else f"step tag {self.tag}"

    def places(self, sequence: Sequence[int]) -> list[int]:
        """Return the positions that the server speaks of."""
        return [place for place, token in enumerate(sequence) if self.tag is None or token == self.tag]

    def rows(self, entry: Any, sequence: Sequence[int]) -> Mapping[int, Sequence[float]]:
        """Return a row for each token, or for each step tag."""
        places, rows = self.places(sequence), entry["data"]
        if len(rows) != len(places):
            raise ScoreCountError(f"{len(rows)} rows for {len(places)} places of {len(sequence)} tokens ({self.name})")
        return dict(zip(places, rows, strict=True))


@dataclass(frozen=True, slots=True)
class NextToken(Form):
    """Labels as the next token, from `/v1/completions`: the engine samples one token for each verdict."""

    path: ClassVar[str] = "/v1/completions"
    fields: ClassVar[tuple[str, ...]] = (
        *NEUTRAL, "model", "prompt", "n", "max_tokens", "temperature", "top_p", "top_k", "logprobs",
        "logprob_token_ids", "return_tokens_as_token_ids",
    )  # fmt: skip
    sampled: ClassVar[int] = 1
    labels: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """How results name it."""
        return "next token"

    def body(self, model: str, sequences: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Return the request."""
        return {
            "model": model, "prompt": [list(sequence) for sequence in sequences], "n": 1, "max_tokens": 1,
            "temperature": 0, "top_p": 1, "top_k": 0, "logprobs": 1, "logprob_token_ids": list(self.labels),
            "return_tokens_as_token_ids": True, **NEUTRAL,
        }  # fmt: skip

    def entries(self, said: Any) -> Any:
        """Return the choices."""
        return said["choices"]

    def rows(self, entry: Any, sequence: Sequence[int]) -> Mapping[int, Sequence[float]]:
        """Return the labels' probabilities, those of other tokens left aside."""
        told = entry["logprobs"]["top_logprobs"][0]
        missing = [label for label in self.labels if f"token_id:{label}" not in told]
        if missing:
            raise ScoreCountError(f"no log-probabilities of the labels {missing}: it ignores logprob_token_ids")
        values = [float(told[f"token_id:{label}"]) for label in self.labels]
        weights = [math.exp(value - max(values)) for value in values]
        return {len(sequence) - 1: [weight / math.fsum(weights) for weight in weights]}


def joined(form: Form, asked: Sequence[Prefix]) -> tuple[list[list[int]], list[int]]:
    """Return the sequences to send, and for each prefix which of them tells its row."""
    tokens = [prefix.tokens for prefix in asked]
    if not form.joins:
        return tokens, list(range(len(asked)))
    # In this order all that begin with a prefix come right after it.
    order = sorted(range(len(asked)), key=tokens.__getitem__, reverse=True)
    sequences: list[list[int]] = []
    where = [0] * len(asked)
    for index in order:
        if not sequences or sequences[-1][: len(tokens[index])] != tokens[index]:
            sequences.append(tokens[index])
        where[index] = len(sequences) - 1
    return sequences, where


def read(server: str, form: Form, said: Any, sequences: Sequence[Sequence[int]]) -> list[Mapping[int, Sequence[float]]]:
    """Return what a reply says of each sequence, by position.

    Raises:
        ScoreCountError: It does not speak of each sequence once, or of each place in it.
        BackendError: It is not of the form that is known, or the prompts have been changed on the way.
    """
    try:
        _check_usage(said.get("usage") or {}, sum(map(len, sequences)))
        entries = sorted(form.entries(said), key=lambda entry: int(entry["index"]))
        if [entry["index"] for entry in entries] != list(range(len(sequences))):
            spoken = [entry["index"] for entry in entries]
            raise ScoreCountError(f"{len(sequences)} sequences sent, replies for those of index {spoken} came")
        return [form.rows(entry, sequence) for entry, sequence in zip(entries, sequences, strict=True)]
    except (ScoreCountError, BackendError) as error:
        raise type(error)(f"{server}{form.path}: {error}") from None
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise BackendError(f"{server}{form.path}: a reply of another form ({error!r}): {str(said)[:200]}") from None


def _check_usage(usage: Mapping[str, Any], sent: int) -> None:
    told = usage.get("prompt_tokens")
    if told not in (sent, None):
        raise BackendError(f"{told} tokens were read where {sent} were sent: something on the way changes prompts")


def check_row(where: str, row: Sequence[float], classes: int) -> Row:
    """Return a row as it should be.

    Raises:
        ScoreCountError: It is of another number of classes.
        ScoreValueError: It holds no probabilities that sum to 1; a single class has one probability of its own.
    """
    if not isinstance(row, list) or len(row) != classes:
        raise ScoreCountError(f"{where}: {row!r} is not one probability for each of {classes} classes")
    fair = all(isinstance(value, (int, float)) and 0 <= value <= 1 for value in row)
    if not fair or (classes > 1 and abs(math.fsum(row) - 1) > TOLERANCE):
        raise ScoreValueError(f"{where}: {row!r} are no probabilities; does the server apply the model's activation?")
    return tuple(map(float, row))
