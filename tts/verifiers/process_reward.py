"""A process reward model: one probability a step, read where the model's adapter says."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from tts.capabilities import VerifierCapabilities
from tts.errors import NeedsError, ParameterError, ScoreCountError, VerifierError
from tts.protocols import PathScore, connect
from tts.verifiers.adapters import Adapter, Chance, Layout, Place, find_adapter, grown, opened, piece
from tts.verifiers.asking import check_length, each, label_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tts.protocols import Path, Scorer
    from tts.verifiers.adapters import Asked

BEFORE = "1"
"""What a mark that is tokenized together with its step is tried behind."""
Encoded = tuple[list[int], list[int]]
"""A path's tokens, and where in them each step's score is read."""
Vocabulary = tuple[tuple[int, ...] | None, int | None]
"""The tokens of the labels, and of the mark that scores are read at."""


class ProcessReward:
    """Scores each step by the probability that the model gives to its being good.

    Let's Verify Step by Step (Lightman et al. 2023, arXiv 2305.20050). What a model reads, where its word is and how
    that becomes a probability is an `Adapter`; without one, it is the probability of the good class at each step's last
    token, in the token-classification form of Math-Shepherd (arXiv 2312.08935). How a path's score comes of its steps'
    is not decided here: that is `tts.aggregation`.

    What a path is charged (`PathScore.tokens`) is its length in tokens, however much of it the scorer has in a cache or
    reads several times, so that it does not hang on what was scored before. Marks and turns that an adapter puts in are
    counted, and are a few tokens a step more than the path has.

    It fails where a path is longer than the model's context (ParameterError), and it judges steps, not answers: a path
    of sound steps that stops short of an answer is scored as high as one that gets there.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        adapter: Adapter | str | None = None,
        good: int | None = None,
        mark: str = "",
        labels: Sequence[int | str] | None = None,
    ) -> None:
        """Say how to read a model; what is given beside an adapter overrules what that says.

        Args:
            scorer: The model.
            adapter: How it is read, or the name of one of `tts.verifiers.adapters.ADAPTERS`.
            good: The class that means a good step, from 0; None is class 1 or, with `labels`, the first of them.
            mark: Text that the model expects in place of the whitespace that ends a step, such as "<extra_0>".
            labels: For a language model: the verdicts that it may give next, as token ids or as texts of one token.

        Raises:
            UnknownNameError: There is no such adapter.
            ParameterError: What is given does not go together.
        """
        self._scorer = scorer
        self._named = adapter is not None
        base = Adapter(name="") if adapter is None else find_adapter(adapter)
        usual = 0 if labels is not None and base.labels is None else base.good
        self.adapter = replace(
            base,
            good=usual if good is None else good,
            mark=mark or base.mark,
            labels=base.labels if labels is None else tuple(labels),
            chance=base.chance if labels is None else Chance.LABELS,
        )
        self._known: Vocabulary | None = None

    async def connect(self) -> None:
        """Let the scorer find out what it can do.

        Raises:
            NeedsError: It does not give what the adapter reads; says what it gives.
            ParameterError: There is no such class; a label, the mark that scores are read at, or what begins a text, is
                not one token; or two labels are the same one.
        """
        await connect(self._scorer)
        able, labels = self._scorer.capabilities, self.adapter.labels
        if labels is not None and not able.labels:
            raise NeedsError(f"{able.name} gives {able.classes} classes and no labels: leave labels={list(labels)} out")
        if labels is None and not able.classes:
            raise NeedsError(
                f"{able.name} is a language model, which gives no classes: give labels=..., or name the server of a "
                "reward model"
            )
        classes = able.classes if labels is None else len(labels)
        if self.adapter.chance is Chance.SIGMOID and classes != 1:
            raise NeedsError(f"{self.adapter.name} reads a single output; {able.name} tells {classes} classes apart")
        if able.fingerprint.get("activation") == "none":
            raise NeedsError(f"{able.name} gives raw rewards, which are no probabilities: load it with its activation")
        if not 0 <= self.adapter.good < classes:
            raise ParameterError(f"good={self.adapter.good}, but {able.name} tells {classes} classes apart, from 0")
        await self._vocabulary()

    @cached_property
    def capabilities(self) -> VerifierCapabilities:
        """One score a step; unfinished paths too."""
        able, adapter = self._scorer.capabilities, self.adapter
        further: dict[str, str] = {"adapter": adapter.identity} if self._named else {}
        if adapter.mark:
            further["mark"] = adapter.mark
        if adapter.labels is not None:
            further["labels"] = " ".join(map(str, adapter.labels))
        return VerifierCapabilities(
            name=f"process_reward({able.name})",
            steps=True,
            dollars_per_token=able.dollars_per_token,
            flops_per_token=able.flops_per_token,
            runtimes=able.runtimes,
            fingerprint={**able.fingerprint, "good": adapter.good, **further},
        )

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Score every step of every path.

        Raises:
            ProblemError: The adapter has room for one question alone, and the conversation is longer.
            ParameterError: A path is longer than the scorer's context; or as `connect`, of tokens.
            ScoreCountError: The scorer did not return a row for each step.
            VerifierError: A path has no steps, a step no token or no mark of its own; or what was read of a path
                changes as it grows.
        """
        for place, path in enumerate(paths):
            if not path.steps:
                raise VerifierError(f"{self.capabilities.name}: path {place} of {len(paths)} has no steps to judge")
        labels, mark = await self._vocabulary()
        encoded = await self._encode(paths)
        for place, path in enumerate(paths):
            self._check(f"{self.capabilities.name}: path {place} of {len(paths)}", path, encoded[place], mark)
        sequences, positions = [ids for ids, _ in encoded], [places for _, places in encoded]
        rows = await self._scorer.probabilities(sequences, positions, labels=labels)
        if [len(row) for row in rows] != [len(places) for places in positions]:
            raise ScoreCountError(f"{self.capabilities.name}: the scorer returned another number of rows than steps")
        return [
            PathScore([float(row[self.adapter.good]) for row in path_rows], len(ids))
            for path_rows, ids in zip(rows, sequences, strict=True)
        ]

    async def _encode(self, paths: Sequence[Path]) -> list[Encoded]:
        if self.adapter.layout is not Layout.STEPS:
            prefixes = [grown(self.adapter, path.messages, path.steps) for path in paths]
            tokens = await self._read(prefix for several in prefixes for prefix in several)
            return [self._extended([tokens[prefix] for prefix in several]) for several in prefixes]
        starts = [opened(self.adapter, path.messages) for path in paths]
        tokens = await self._read(starts)
        tokens |= await self._read(text for path in paths for step in path.steps for text in piece(self.adapter, step))
        return [self._joined(tokens, start, path.steps) for start, path in zip(starts, paths, strict=True)]

    def _joined(self, tokens: dict[Asked, Sequence[int]], start: Asked, steps: Sequence[str]) -> Encoded:
        """Return a path's tokens, piece after piece."""
        ids, places = list(tokens[start]), list[int]()
        for step in steps:
            before = len(ids)
            for text in piece(self.adapter, step):
                ids += tokens[text]
            if len(ids) == before:
                raise VerifierError(f"{self.capabilities.name}: step {len(places)}, {step!r}, is no token: no place")
            places.append(len(ids) - 1)
        return ids, places

    def _extended(self, prefixes: Sequence[Sequence[int]]) -> Encoded:
        """Return the longest prefix's tokens, of which every other one is the beginning."""
        for place, (shorter, longer) in enumerate(pairwise(prefixes)):
            if not len(shorter) < len(longer) or list(longer[: len(shorter)]) != list(shorter):
                raise VerifierError(
                    f"{self.capabilities.name}: with step {place + 1} the tokens before it change, so that the score "
                    f"of step {place} would too: the template or tokenizer does not extend what adapter "
                    f"{self.adapter.name} gave it before"
                )
        return list(prefixes[-1]), [len(prefix) - 1 for prefix in prefixes]

    async def _read(self, wanted: Iterable[Asked]) -> dict[Asked, Sequence[int]]:
        """Return the tokens of each text and conversation, each looked up once."""

        async def read(asked: Asked) -> Sequence[int]:
            return await (self._scorer.tokenize(asked) if isinstance(asked, str) else self._scorer.encode(asked))

        return await each(read, wanted, beside=not self._scorer.capabilities.local)

    async def _vocabulary(self) -> Vocabulary:
        """Return the labels' tokens and the mark's, looked up once."""
        if self._known is None:
            await self._check_opening()
            labels = self.adapter.labels
            tokens = None if labels is None else await label_tokens(self._scorer, labels)
            self._known = tokens, await self._separator()
        return self._known

    async def _check_opening(self) -> None:
        """Refuse a tokenizer that would spell out what the opening takes for a token."""
        for special in self.adapter.special:
            tokens = list(await self._scorer.tokenize(special))
            if len(tokens) != 1:
                raise ParameterError(
                    f"what {self.capabilities.name} reads begins with {special!r}, which is no token of its model: "
                    f"it is {tokens}; give an Adapter with the model's own opening"
                )

    async def _separator(self) -> int | None:
        """Return the token of the mark that scores are read at; None where they are read elsewhere."""
        adapter = self.adapter
        if adapter.place is not Place.MARK:
            return None
        before = "" if adapter.mark_apart else BEFORE
        alone = list(await self._scorer.tokenize(before)) if before else []
        tokens = list(await self._scorer.tokenize(before + adapter.mark))
        if len(tokens) != len(alone) + 1 or tokens[:-1] != alone:
            raise ParameterError(
                f"{self.capabilities.name} reads scores at {adapter.mark!r}, which is no token of its model: "
                f"{before + adapter.mark!r} is {tokens}; give the model's own as mark=, or use one taught with it"
            )
        return int(tokens[-1])

    def _check(self, where: str, path: Path, encoded: Encoded, mark: int | None) -> None:
        """Refuse a path that is longer than the model reads, or that has lost its marks."""
        ids, places = encoded
        check_length(self._scorer.capabilities, where, len(ids))
        for step, place in enumerate(places if mark is not None else ()):
            if ids[place] != mark:
                raise VerifierError(
                    f"{where}: after step {step}, {path.steps[step]!r}, the mark {self.adapter.mark!r} is part of "
                    f"another token, {ids[place]}: an Adapter with mark_apart=True has it tokenized by itself"
                )

    async def aclose(self) -> None:
        """Release the scorer."""
        await self._scorer.aclose()
