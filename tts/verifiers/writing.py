"""How judges have a language model write: after a conversation, within its context, parted into thinking and words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tts.errors import NeedsError, VerifierError
from tts.protocols import SEED_BLOCK, GenerationRequest, connect
from tts.seeds import derive
from tts.types import Finish
from tts.verifiers.asking import check_length

if TYPE_CHECKING:
    from tts.protocols import Generator
    from tts.types import Completion, Prompt, Sampling
    from tts.verifiers.asking import Conversation


def base_seed(*parts: object) -> int:
    """Return a request's seed by what it asks, and nothing that is asked beside it."""
    return derive(*parts) // SEED_BLOCK * SEED_BLOCK


@dataclass(slots=True)
class _Received:
    """A sink that keeps what was sampled, by its place, and counts the prompt."""

    completions: dict[int, Completion] = field(default_factory=dict)
    prompted: int = 0

    def prompt(self, *, cached: int, computed: int) -> None:
        """Count prompt tokens, cached or not."""
        self.prompted += cached + computed

    def progress(self, index: int, tokens: int) -> None:
        """Nothing is stopped midway."""

    def finish(self, index: int, completion: Completion) -> None:
        """Keep a sample."""
        self.completions[index] = completion


@dataclass(frozen=True, slots=True)
class Sample:
    """What a judge wrote, the opening before it.

    Attributes:
        thought: Its thinking, with the marks around it; empty if there is none.
        said: What comes after that; None where it does not come to the end of its thinking.
        cut_off: It was ended by its cap.
        tokens: How many were sampled.
    """

    thought: str
    said: str | None
    cut_off: bool
    tokens: int

    @property
    def text(self) -> str:
        """All of it."""
        return self.thought + (self.said or "")


@dataclass(frozen=True, slots=True)
class Written:
    """What a generator wrote, in the order of its seeds, and how many tokens it read and wrote: the prompt once."""

    samples: tuple[Sample, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """A rendered conversation, with the beginning of the answer, that something can be written after."""

    prompt: Prompt
    opening: tuple[int, ...]


class Writer:
    """Samples text after a conversation, with a cap that fits into the context."""

    def __init__(self, generator: Generator, sampling: Sampling, cap: int, opening: str = "") -> None:
        """Say how to draw.

        Args:
            generator: The model.
            sampling: Temperature, stops and the rest.
            cap: Tokens of each sample, where the sampling names no `max_tokens`.
            opening: Text with which each sample begins.
        """
        self.generator = generator
        self.cap = sampling.max_tokens or cap
        self.sampling = sampling.model_copy(update={"max_tokens": self.cap})
        self._opening = opening

    async def connect(self) -> None:
        """Let the generator find out what it can do.

        Raises:
            NeedsError: It cannot go on with a text that was begun, and an opening is given.
        """
        await connect(self.generator)
        able = self.generator.capabilities
        if self._opening and not able.continuation:
            raise NeedsError(f"{able.name} cannot go on after {self._opening!r}: leave the prompt's opening out")

    async def prepare(self, conversation: Conversation, where: str) -> Sheet:
        """Render a conversation, and see whether it and what is to be written fit.

        Raises:
            ParameterError: They do not.
        """
        prompt = await self.generator.encode(conversation)
        opening = tuple(await self.generator.tokenize(self._opening)) if self._opening else ()
        check_length(self.generator.capabilities, where, len(prompt.token_ids) + len(opening), writing=self.cap)
        return Sheet(prompt, opening)

    async def write(self, sheet: Sheet, *, count: int, seed: int, where: str) -> Written:
        """Draw so many samples, whose texts come after the opening.

        Raises:
            VerifierError: The generator gave fewer, or one in which nothing is said.
        """
        received = _Received()
        await self.generator.generate(
            GenerationRequest(
                prompt=sheet.prompt, text=self._opening, token_ids=sheet.opening, count=count, seed=seed,
                max_tokens=self.cap, delimiters=(), sampling=self.sampling,
            ),
            received,
        )  # fmt: skip
        name, found = self.generator.capabilities.name, received.completions
        if sorted(found) != list(range(count)):
            raise VerifierError(f"{where}: {name} was asked for {count} verdicts and gave {len(found)}")
        if not any(completion.text.strip() for completion in found.values()):
            raise VerifierError(
                f"{where}: {name} said nothing in {count} verdicts: see whether it follows the prompt, or give another "
                "judge"
            )
        read = len(sheet.prompt.token_ids) + len(sheet.opening) if sheet.prompt.token_ids else received.prompted
        return Written(
            tuple(self._parted(sheet, found[place]) for place in range(count)),
            read + sum(completion.tokens for completion in found.values()),
        )

    def _parted(self, sheet: Sheet, completion: Completion) -> Sample:
        text, marks = self._opening + completion.text, self.sampling
        opened, closed = text.rfind(marks.thinking_open), text.rfind(marks.thinking_close)
        begun_by_prompt = sheet.prompt.text.rstrip().endswith(marks.thinking_open)
        cut_off = completion.finish is Finish.LENGTH
        if closed < opened or (closed < 0 and begun_by_prompt):
            return Sample(text, None, cut_off, completion.tokens)
        end = closed + len(marks.thinking_close) if closed >= 0 else 0
        return Sample(text[:end], text[end:], cut_off, completion.tokens)
