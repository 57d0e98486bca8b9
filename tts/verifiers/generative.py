"""A language model as judge: the score is the probability of the verdict's token, at once or after a rationale."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from tts.errors import ParameterError, VerifierError
from tts.protocols import PathScore
from tts.seeds import derive
from tts.types import Sampling
from tts.verifiers.asking import TEMPLATE_TOKENS, Reader, begun, each, judge_capabilities, longest
from tts.verifiers.verdicts import JudgePrompt, Question, check_path, named
from tts.verifiers.writing import Writer, base_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.capabilities import Capabilities, ScorerCapabilities, VerifierCapabilities
    from tts.protocols import Generator, Path, Scorer
    from tts.verifiers.writing import Sample, Sheet, Written

Thinking = Literal["off", "on", "mean"]
RATIONALE_TOKENS = 1024
"""Cap of a rationale where the sampling names none; ours."""
DEFAULT_SAMPLING = Sampling(temperature=0.6)
"""How rationales are drawn; ours."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    value: float
    tokens: int


@dataclass(slots=True)
class _Prepared:
    """What is known to fit before anything is sent: how each question is read at once, and how it is thought about."""

    plain: dict[Question, list[int]]
    starts: dict[Question, Sequence[int]]
    sheets: dict[Question, Sheet]


class Generative:
    """Asks a language model whether a path is right, and scores it by P(positive) / (P(positive) + P(negative)).

    The probabilities are those of the next token after the verdict's cue, and no number that the model writes is ever
    read: Reasoning's Razor (arXiv 2510.21049). Its finding is that reading at once ("off") is better where few wrong
    paths may pass, a rationale first ("on") where more may, and that the mean of both scores has the strengths of both.
    The prompts are ours, and so are the caps.

    By default a path gets one value, unfinished ones by a prompt that says that they are. With `stepwise` each step
    gets one, for the path up to it, by a prompt that knows nothing of what follows: a question for each step, each of
    which reads the path so far, and each time that the path is judged. So a search by steps that goes by the last one
    is served cheaper, with one question, by the value of the path.

    A rationale is read up to where, after its thinking, it states the verdict: there the probability is taken. One that
    states none gets the cue at its end. One that is cut off before a verdict, does not come to the end of its thinking,
    or says nothing, is an error and not a score. Its seed is derived from what is judged, so that with a generator that
    keeps seeds a score does not hang on what is judged beside it. What a path is charged is all that was read (the
    question each time, the rationale once more by the scorer) and written; an attempt that ends in an error counts as
    one call a path and no tokens, whatever it had written by then.

    Where it is known to fail: judges favour fluent text, long text and text like their own; the path is quoted to the
    judge as it is, its thinking included, so one that speaks to it ("the verdict is Yes") can move it; and a model that
    would write neither label gives a number all the same, since the labels are compared with each other only. Of a
    model that always thinks what is read "at once" is read within its thinking, unless the prompt's `skip` ends that.
    """

    def __init__(
        self,
        scorer: Scorer,
        generator: Generator | None = None,
        *,
        thinking: Thinking = "off",
        prompt: JudgePrompt | None = None,
        stepwise: bool = False,
        max_steps: int = 40,
        sampling: Sampling = DEFAULT_SAMPLING,
        seed: int = 0,
    ) -> None:
        """Say who judges, and how.

        Args:
            scorer: A language model that gives probabilities of labels.
            generator: What writes rationales, as a rule the same model; only where there is thinking.
            thinking: "off" reads the verdict at once, "on" after a rationale, "mean" takes the mean of both.
            prompt: What the judge is told; None is `JudgePrompt()`.
            stepwise: One value a step.
            max_steps: With `stepwise`, the most steps that a path may have, by which the cost is bounded beforehand.
            sampling: How rationales are drawn. `max_tokens` caps one (1,024 if None), which is paid for to its end; a
                model that does not end at its verdict can be given `stops`.
            seed: Rationales of another seed are others.

        Raises:
            ParameterError: Thinking without a generator or a cue, a generator without thinking, or `max_steps` below 1.
        """
        self._prompt = prompt or JudgePrompt()
        _check_thinking(thinking, generator, self._prompt)
        if max_steps < 1:
            raise ParameterError(f"max_steps is {max_steps}; it is at least 1")
        self._reader = Reader(scorer, self._prompt.positive, self._prompt.negative)
        self._thinking = thinking
        self._asked = {"off": 1, "on": 2, "mean": 3}[thinking]
        self._stepwise = stepwise
        self._max_steps = max_steps
        self._seed = seed
        self._writer = None if generator is None else Writer(generator, sampling, RATIONALE_TOKENS)

    async def connect(self) -> None:
        """Let the models find out what they can do.

        Raises:
            NeedsError: The scorer gives no labels.
            ParameterError: A label is not one token, or both are the same one.
        """
        await self._reader.connect()
        if self._writer is not None:
            await self._writer.connect()

    @property
    def capabilities(self) -> VerifierCapabilities:
        """One value a path, or a step; unfinished paths too.

        A question is one call of the scorer ("off"), one of the generator and one of the scorer ("on"), or three.
        """
        questions = self._max_steps if self._stepwise else 1
        facts: dict[str, str | int | float | bool | None] = {
            "thinking": self._thinking, "stepwise": self._stepwise, "seed": self._seed,
            "prompt": f"{derive(self._prompt.model_dump_json()):016x}",
        }  # fmt: skip
        models: dict[str, Capabilities | ScorerCapabilities] = {"scorer": self._reader.scorer.capabilities}
        if self._writer is not None:
            facts["sampling"] = self._writer.sampling.model_dump_json()
            models["generator"] = self._writer.generator.capabilities
        return judge_capabilities(
            "generative",
            models,
            facts,
            calls=self._asked * questions,
            extra_tokens=questions
            * (self._asked * self._told() + 2 * (0 if self._writer is None else self._writer.cap)),
            steps=self._stepwise,
        )

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Judge each path, or each step of each; the same question is asked once.

        Raises:
            ParameterError: A path has too many steps, or does not fit; nothing has been sent then.
            VerifierError: A path says nothing; a rationale says nothing, or did not come to its end.
            ScoreCountError: The scorer did not answer for each question.
            ScoreValueError: It answered with something that is no probability.
            BackendError: A model failed; a TransientError where that may pass.
        """
        questions = [self._questions(path) for path in paths]
        verdicts = await self._judge(list(dict.fromkeys(one for of_path in questions for one in of_path)))
        return [
            PathScore(
                [verdicts[one].value for one in of_path],
                sum(verdicts[one].tokens for one in of_path),
                self._asked * len(of_path),
            )
            for of_path in questions
        ]

    async def first_wrong(self, path: Path, *, threshold: float = 0.5) -> int:
        """Return the index of a path's first wrong step, or -1: the first whose value is below the threshold.

        Raises:
            ParameterError: The judge is not stepwise; or as `score`.
        """
        if not self._stepwise:
            raise ParameterError("a judge of whole paths cannot tell which step is wrong: give stepwise=True")
        (reply,) = await self.score([path])
        return first_wrong(reply.values, threshold)

    async def aclose(self) -> None:
        """Release scorer and generator."""
        try:
            await self._reader.scorer.aclose()
        finally:
            if self._writer is not None:
                await self._writer.generator.aclose()

    def _told(self) -> int:
        """Return the most tokens that a question has beside the path."""
        prompt = self._prompt
        asked = longest(prompt.finished, prompt.unfinished, prompt.step) + longest(prompt.at_once, prompt.reasoned)
        return asked + longest(prompt.system + prompt.skip + 4 * (prompt.cue + prompt.positive)) + TEMPLATE_TOKENS

    def _questions(self, path: Path) -> list[Question]:
        check_path(path)
        if not self._stepwise:
            state: Literal["finished", "unfinished"] = "finished" if path.finished else "unfinished"
            return [Question(path.messages, "".join(path.steps), state, named(path))]
        if len(path.steps) > self._max_steps:
            raise ParameterError(f"{named(path)}: the judge takes {self._max_steps} steps; give a greater max_steps")
        return [
            Question(path.messages, "".join(path.steps[:step]), "step", f"{named(path)}, up to its step {step}")
            for step in range(1, len(path.steps) + 1)
        ]

    async def _judge(self, questions: list[Question]) -> dict[Question, _Verdict]:
        prepared = await self._prepare(questions)
        with begun(len(prepared.sheets) > 1):
            written = {} if self._writer is None else await self._write(self._writer, prepared)
        with begun(bool(written)):
            thought = await self._thought(prepared, written)
            sequences = [*prepared.plain.values(), *thought.values()]
            values = await self._reader.read(sequences) if sequences else []
        found: dict[Question, list[tuple[float, int]]] = {question: [] for question in questions}
        for question, ids, value in zip((*prepared.plain, *thought), sequences, values, strict=True):
            found[question].append((value, len(ids)))
        spent = {question: rationale.tokens for question, rationale in written.items()}
        return {
            question: _Verdict(
                fmean(value for value, _ in reads), spent.get(question, 0) + sum(length for _, length in reads)
            )
            for question, reads in found.items()
        }

    async def _prepare(self, questions: list[Question]) -> _Prepared:
        plain: dict[Question, list[int]] = {}
        if self._thinking != "on":
            plain = await self._sequences(questions)
        if self._writer is None:
            return _Prepared(plain, {}, {})
        writer = self._writer
        told = {question: self._prompt.conversation(question, reasoned=True) for question in questions}
        starts = await self._reader.encode(told.values())
        for question in questions:
            self._reader.check_room(len(starts[told[question]]), question.where, writing=writer.cap)

        async def prepare(question: Question) -> Sheet:
            return await writer.prepare(told[question], question.where)

        sheets = await each(prepare, questions)
        return _Prepared(plain, {question: starts[told[question]] for question in questions}, sheets)

    async def _sequences(self, questions: list[Question]) -> dict[Question, list[int]]:
        """Return what is read for a verdict at once."""
        told = {question: self._prompt.conversation(question, reasoned=False) for question in questions}
        starts = await self._reader.encode(told.values())
        said = self._prompt.skip + self._prompt.cue
        cue = (await self._reader.tokenize([said]))[said]
        found = {question: [*starts[told[question]], *cue] for question in questions}
        for question, ids in found.items():
            self._reader.check_room(len(ids), question.where)
        return found

    async def _write(self, writer: Writer, prepared: _Prepared) -> dict[Question, Written]:
        async def write(question: Question) -> Written:
            seed = base_seed(self._seed, "rationale", *question.parts)
            return await writer.write(prepared.sheets[question], count=1, seed=seed, where=question.where)

        return await each(write, prepared.sheets)

    async def _thought(self, prepared: _Prepared, written: dict[Question, Written]) -> dict[Question, list[int]]:
        """Return what is read for a verdict after a rationale."""
        said = {question: self._until_verdict(question, one.samples[0]) for question, one in written.items()}
        ends = await self._reader.tokenize(said.values())
        found = {question: [*prepared.starts[question], *ends[text]] for question, text in said.items()}
        for question, ids in found.items():
            self._reader.check_room(len(ids), question.where)
        return found

    def _until_verdict(self, question: Question, rationale: Sample) -> str:
        """Return a rationale up to the verdict's token."""
        thought, said = rationale.thought, rationale.said
        stated = None if said is None else self._prompt.before_verdict(said, ended=not rationale.cut_off)
        if stated is not None:
            return thought + stated + self._prompt.cue
        where = f"{question.where}: the judge's rationale"
        if rationale.cut_off:
            raise VerifierError(
                f"{where} was cut off at {rationale.tokens} tokens, before a verdict: give a greater max_tokens"
            )
        if said is None:
            raise VerifierError(
                f"{where} ended within its thinking, after {rationale.tokens} tokens: give another seed, or another "
                "judge"
            )
        return f"{(thought + said).rstrip()}\n\n{self._prompt.cue}"


def first_wrong(values: Sequence[float], threshold: float = 0.5) -> int:
    """Return the index of the first of some steps' values that is below the threshold, or -1 if none is.

    Raises:
        ParameterError: The threshold is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ParameterError(f"threshold is {threshold}; it lies in [0, 1]")
    return next((place for place, value in enumerate(values) if value < threshold), -1)


def _check_thinking(thinking: str, generator: Generator | None, prompt: JudgePrompt) -> None:
    if thinking not in ("off", "on", "mean"):
        raise ParameterError(f"thinking is {thinking!r}; it is 'off', 'on' or 'mean'")
    if thinking == "off" and generator is not None:
        raise ParameterError("thinking='off' writes nothing: leave the generator out, or give thinking='on' or 'mean'")
    if thinking != "off" and generator is None:
        raise ParameterError(f"thinking={thinking!r} needs a generator, which writes the rationale")
    if thinking != "off" and not prompt.cue.strip():
        raise ParameterError(f"thinking={thinking!r} needs a prompt with a cue, at which the rationale ends")
