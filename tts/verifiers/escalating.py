"""Fast verdicts side by side, and a slow one where they disagree (FlexiVe)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tts.errors import ParameterError, VerifierError
from tts.protocols import SEED_BLOCK, PathScore
from tts.seeds import derive
from tts.types import Sampling
from tts.verifiers.asking import TEMPLATE_TOKENS, Reader, begun, each, judge_capabilities, longest
from tts.verifiers.verdicts import LocatePrompt, check_path, named
from tts.verifiers.writing import Writer, base_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.capabilities import Capabilities, ScorerCapabilities, VerifierCapabilities
    from tts.protocols import Generator, Path, Scorer
    from tts.verifiers.writing import Sheet, Written

FAST_SAMPLING = Sampling(temperature=0.8)
SLOW_SAMPLING = Sampling(temperature=0.6)
"""How fast and slow verdicts are drawn; ours."""
FAST_TOKENS, SLOW_TOKENS = 256, 4096
"""Their caps where a sampling names none."""
STEP_LABEL = 16
"""Tokens that numbering adds to a step, at most: its bytes."""


@dataclass(frozen=True, slots=True)
class Localisation:
    """Where a path goes wrong, and how that was found.

    Attributes:
        step: Index of the first wrong step, or -1 if none is.
        verdict: What the verdict says that decided: the slow one, or the first of the fast ones with this step.
        score: How likely no step is wrong, in [0, 1]; see `Escalating`.
        share: Of all fast verdicts, how many said the step that most of them said.
        unreadable: Fast verdicts that could not be read.
        escalated: Whether the slow verdict decided.
        tokens: Read and written.
        calls: Verdicts asked for, and a reading by the scorer.
    """

    step: int
    verdict: str
    score: float
    share: float
    unreadable: int
    escalated: bool
    tokens: int
    calls: int


@dataclass(frozen=True, slots=True)
class _Prepared:
    fast: Sheet
    slow: Sheet
    start: Sequence[int]
    cue: Sequence[int]


class Escalating:
    """Takes the word of fast verdicts where they agree, and that of one slow verdict where they do not.

    FlexiVe, of Solve-Detect-Verify (arXiv 2505.11966): `verdicts` short verifications are drawn side by side, each of
    which states the first wrong step or that there is none. If one statement has a share of at least `agreement` of
    them, it holds; otherwise a single slow verification decides. The paper trains its model for this by reinforcement
    learning and chooses its values; ours, 8 and 0.8, are not from the paper, nor are the prompts.

    A path's score is how likely no step is wrong. Where the fast verdicts agree, it is the share of those that say
    "none" among those that can be read. After a slow verdict it is 1 if that says "none" and else 0; or, with a scorer,
    the probability of the positive label after the slow verdict's text and the prompt's cue. A statement that cannot be
    read for sure counts among the verdicts but is no vote, so that unreadable ones make for escalation, also where all
    are: a model that always thinks, and whose thinking the prompt's `opening` does not skip, is judged by the slow one
    alone, and the fast ones are paid for in vain. When the slow one cannot be read that is an error and not a score.

    Seeds are derived from the path, so that with a generator that keeps seeds a score does not hang on what is judged
    beside it. Charged are the prompts, once a request, and all that is written; an attempt that ends in an error counts
    as one call a path and no tokens. A path given as one step is judged as one.

    Where it is known to fail: verdicts drawn from one model err together, so that they may agree on what is wrong;
    and what `Generative` says of judges.
    """

    def __init__(
        self,
        generator: Generator,
        scorer: Scorer | None = None,
        *,
        verdicts: int = 8,
        agreement: float = 0.8,
        max_steps: int = 40,
        prompt: LocatePrompt | None = None,
        fast: Sampling = FAST_SAMPLING,
        slow: Sampling = SLOW_SAMPLING,
        seed: int = 0,
    ) -> None:
        """Say who judges, and how.

        Args:
            generator: What writes the verdicts.
            scorer: What says how likely the slow verdict is right, as a rule the same model; None takes it at its word.
            verdicts: Fast ones (k).
            agreement: The share of them with which they agree (tau), above a half: only one statement can have it.
            max_steps: The most steps that a path may have; numbering them costs tokens, which are bounded beforehand.
            prompt: What the judge is told; None is `LocatePrompt()`.
            fast: How fast verdicts are drawn; at a temperature of 0 they are all the same.
            slow: How the slow one is.
            seed: Verdicts of another seed are others.

        Raises:
            ParameterError: A number is out of range.
        """
        if not 1 <= verdicts <= SEED_BLOCK:
            raise ParameterError(f"verdicts is {verdicts}; it lies between 1 and {SEED_BLOCK}")
        if not 0.5 < agreement <= 1:
            raise ParameterError(f"agreement is {agreement}; it is above 0.5, and at most 1")
        if max_steps < 1:
            raise ParameterError(f"max_steps is {max_steps}; it is at least 1")
        self._prompt = prompt or LocatePrompt()
        self._fast = Writer(generator, fast, FAST_TOKENS, self._prompt.opening)
        self._slow = Writer(generator, slow, SLOW_TOKENS)
        self._reader = None if scorer is None else Reader(scorer, self._prompt.positive, self._prompt.negative)
        self._verdicts = verdicts
        self._agreement = agreement
        self._max_steps = max_steps
        self._seed = seed

    async def connect(self) -> None:
        """Let the models find out what they can do.

        Raises:
            NeedsError: The scorer gives no labels, or the generator cannot go on after the prompt's opening.
            ParameterError: A label is not one token, or both are the same one.
        """
        await self._fast.connect()
        if self._reader is not None:
            await self._reader.connect()

    @property
    def capabilities(self) -> VerifierCapabilities:
        """One value a path, unfinished ones too; at most as many calls as fast verdicts, a slow one, and a reading."""
        read = self._reader is not None
        models: dict[str, Capabilities | ScorerCapabilities] = {"generator": self._fast.generator.capabilities}
        if self._reader is not None:
            models["scorer"] = self._reader.scorer.capabilities
        facts: dict[str, str | int | float | bool | None] = {
            "verdicts": self._verdicts, "agreement": self._agreement, "seed": self._seed,
            "fast": self._fast.sampling.model_dump_json(), "slow": self._slow.sampling.model_dump_json(),
            "prompt": f"{derive(self._prompt.model_dump_json()):016x}",
        }  # fmt: skip
        written = self._verdicts * self._fast.cap + (2 if read else 1) * self._slow.cap
        return judge_capabilities(
            "escalating",
            models,
            facts,
            calls=self._verdicts + (2 if read else 1),
            extra_tokens=(3 if read else 2) * self._told() + written,
        )

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Judge each path, one value each.

        Raises:
            ParameterError: A path has too many steps, or does not fit; nothing has been sent then.
            VerifierError: A path says nothing; the slow verdict cannot be read, or no verdict says anything.
            ScoreCountError: The scorer did not answer.
            ScoreValueError: It answered with something that is no probability.
            BackendError: A model failed; a TransientError where that may pass.
        """
        found = await self._locate(paths)
        return [PathScore([found[path].score], found[path].tokens, found[path].calls) for path in paths]

    async def locate(self, path: Path) -> Localisation:
        """Return where a path goes wrong; raises as `score` does."""
        return (await self._locate([path]))[path]

    async def aclose(self) -> None:
        """Release generator and scorer."""
        try:
            await self._fast.generator.aclose()
        finally:
            if self._reader is not None:
                await self._reader.scorer.aclose()

    def _told(self) -> int:
        """Return the most tokens that a request has beside the path."""
        prompt = self._prompt
        asked = longest(prompt.finished, prompt.unfinished) + longest(prompt.fast, prompt.slow)
        fixed = longest(prompt.system + prompt.opening + prompt.marker + prompt.cue)
        return asked + fixed + self._max_steps * STEP_LABEL + TEMPLATE_TOKENS

    async def _locate(self, paths: Sequence[Path]) -> dict[Path, Localisation]:
        for path in paths:
            check_path(path)
            if len(path.steps) > self._max_steps:
                raise ParameterError(
                    f"{named(path)}: the judge takes {self._max_steps} steps; give a greater max_steps"
                )
        prepared = await each(self._prepare, paths)

        async def locate(path: Path) -> Localisation:
            return await self._decide(path, prepared[path])

        with begun(len(prepared) > 1):
            return await each(locate, paths)

    async def _prepare(self, path: Path) -> _Prepared:
        """Render all that may be asked, so that what does not fit is refused before anything is sent."""
        where = named(path)
        fast = await self._fast.prepare(self._prompt.conversation(path, slow=False), where)
        conversation = self._prompt.conversation(path, slow=True)
        slow = await self._slow.prepare(conversation, where)
        if self._reader is None:
            return _Prepared(fast, slow, (), ())
        start = (await self._reader.encode([conversation]))[conversation]
        cue = (await self._reader.tokenize([self._prompt.cue]))[self._prompt.cue]
        self._reader.check_room(len(start) + len(cue), where, writing=self._slow.cap)
        return _Prepared(fast, slow, start, cue)

    async def _decide(self, path: Path, prepared: _Prepared) -> Localisation:
        written = await self._write(self._fast, prepared.fast, path, "fast", self._verdicts)
        stated = self._stated(written, path)
        readable = [step for step in stated if step is not None]
        ((step, most),) = Counter(readable).most_common(1) or [(-1, 0)]
        share, unreadable = most / self._verdicts, self._verdicts - len(readable)
        if share >= self._agreement:
            score, verdict = readable.count(-1) / len(readable), written.samples[stated.index(step)].text
            return Localisation(step, verdict, score, share, unreadable, False, written.tokens, self._verdicts)
        with begun():
            return await self._escalate(path, prepared, written, share, unreadable)

    async def _escalate(
        self, path: Path, prepared: _Prepared, fast: Written, share: float, unreadable: int
    ) -> Localisation:
        slow = await self._write(self._slow, prepared.slow, path, "slow", 1)
        (said,), (step,) = slow.samples, self._stated(slow, path)
        if step is None:
            how = "was cut off" if said.cut_off else "ended"
            raise VerifierError(
                f"{named(path)}: the slow verdict {how} after {said.tokens} tokens without a step that can be read; it "
                f"ends in {said.text[-80:]!r}, where a line {self._prompt.marker!r} and a number is expected: give "
                + (f"slow=Sampling(max_tokens=...) above {said.tokens}" if said.cut_off else "another prompt or judge")
            )
        tokens, calls, score = fast.tokens + slow.tokens, self._verdicts + 1, float(step == -1)
        if self._reader is not None:
            ids = await self._after(self._reader, path, prepared, said.text)
            (score,) = await self._reader.read([ids])
            tokens, calls = tokens + len(ids), calls + 1
        return Localisation(step, said.text, score, share, unreadable, True, tokens, calls)

    async def _after(self, reader: Reader, path: Path, prepared: _Prepared, said: str) -> list[int]:
        """Return what the scorer reads after a slow verdict."""
        ids = [*prepared.start, *(await reader.tokenize([said]))[said], *prepared.cue]
        reader.check_room(len(ids), named(path))
        return ids

    async def _write(self, writer: Writer, sheet: Sheet, path: Path, kind: str, count: int) -> Written:
        turns = (part for turn in path.messages for part in (turn.role, turn.content))
        seed = base_seed(self._seed, kind, *turns, path.finished, *path.steps)
        return await writer.write(sheet, count=count, seed=seed, where=named(path))

    def _stated(self, written: Written, path: Path) -> list[int | None]:
        said = [(sample.said or "", not sample.cut_off) for sample in written.samples]
        return [self._prompt.stated(text, len(path.steps), ended=ended) for text, ended in said]
