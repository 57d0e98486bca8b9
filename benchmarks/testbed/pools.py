"""Pools: whole samples of each problem, cut into parts, with exact labels and the verifier's scores."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from tts.affinity import on_behalf_of
from tts.benchmarks.testbed.drawing import Spent, draw, each, score, seed_of
from tts.errors import NeedsError, ParameterError
from tts.graph import ThinkingSplitter
from tts.protocols import Path
from tts.run import resolve_caps
from tts.setup import render
from tts.steps import split_steps
from tts.types import Finish

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from tts.benchmarks.testbed.settings import Settings
    from tts.capabilities import VerifierCapabilities
    from tts.setup import Setup
    from tts.tasks import Item, LabelledTask
    from tts.types import Completion, Prompt

ANSWER = "answer"
STUCK = "giving up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One sample.

    Attributes:
        steps: Its parts, whose texts joined are the sample; a part keeps the delimiter that ends it.
        finished: Whether the model ended it, rather than the cap on tokens.
        tokens: Tokens sampled, end of sequence included.
        token_ids: Their ids, empty where the engine shows none.
        answer: Its final answer, or None; one that was cut off has none.
        key: What equal answers share; None where the answer cannot vote.
        right: Whether the answer is right.
        labels: Whether each part is good, exactly.
        scores: The verifier's word on each part, in [0, 1].
    """

    steps: tuple[str, ...]
    finished: bool
    tokens: int
    token_ids: tuple[int, ...] = ()
    answer: str | None = None
    key: Hashable | None = None
    right: bool = False
    labels: tuple[bool, ...] = ()
    scores: tuple[float, ...] = ()

    @property
    def stuck(self) -> bool:
        """Whether the model ended it without an answer."""
        return self.finished and self.answer is None

    @property
    def step_ends(self) -> range:
        """Places of the parts after which something else came: the steps from which the attempt went on."""
        return range(len(self.steps) - 1)

    def name_of(self, place: int) -> str:
        """Return how results name a part: "step 1" and so on; the last one states the answer, or that there is none."""
        if self.finished and place == len(self.steps) - 1:
            return STUCK if self.answer is None else ANSWER
        return f"step {place + 1}"

    @property
    def first_error(self) -> int | None:
        """The place of the first part that is not good, or None."""
        return self.labels.index(False) if False in self.labels else None


@dataclass(frozen=True, slots=True)
class Pool:
    """A problem, the prompt that was read, its samples in the order of their seeds, and the likeliest tokens alone."""

    item: Item
    prompt: Prompt
    attempts: tuple[Attempt, ...]
    greedy: Attempt


@dataclass(frozen=True, slots=True)
class Bench:
    """What a task is measured with, and what its verifier has taken so far."""

    task: LabelledTask
    setup: Setup
    settings: Settings
    spent: Spent = field(default_factory=Spent)

    def cap(self, prompt: Prompt) -> int:
        """Return how many tokens a path may have."""
        return resolve_caps(self.setup.sampling, self.setup.generator.capabilities, prompt).path

    def read(self, item: Item, prompt: Prompt, text: str, finish: Finish) -> Attempt:
        """Cut a sample into parts and read its answer, as the library reads a path's."""
        sampling = self.setup.sampling
        steps = tuple(split_steps(text, sampling.delimiters))
        attempt = Attempt(steps=steps, finished=finish in (Finish.EOS, Finish.STOP), tokens=0)
        if not attempt.finished:
            return attempt
        visible = ThinkingSplitter(sampling.thinking_open, sampling.thinking_close)(prompt.text, text)[1]
        answer = self.task.reader.extract(visible)
        if answer is None:
            return attempt
        return replace(
            attempt, answer=answer, key=self.task.reader.key(answer), right=self.task.grade(item, answer)
        )  # fmt: skip


async def draw_pools(bench: Bench, items: Sequence[Item]) -> list[Pool]:
    """Draw, label and score the pool of each problem.

    Raises:
        BackendError: The generator failed for good.
        VerifierError: The verifier failed for good.
        ParameterError: The task did not label every part.
    """
    return await each(items, lambda item: _draw_pool(bench, item), bench.settings.in_flight)


async def _draw_pool(bench: Bench, item: Item) -> Pool:
    setup, settings = bench.setup, bench.settings
    with on_behalf_of(item.problem.id):
        prompt = await render(setup, item.problem)
        cap, about = bench.cap(prompt), (settings.seed, bench.task.name, item.problem.id)
        likeliest = setup.sampling.model_copy(update={"temperature": 0.0})
        greedy = await draw(setup, prompt, likeliest, count=1, seed=seed_of(*about, "greedy"), max_tokens=cap)
        drawn = await draw(
            setup, prompt, setup.sampling, count=settings.samples, seed=seed_of(*about, "pool"), max_tokens=cap
        )
        judged = await judge(bench, item, prompt, [*greedy, *drawn])
    return Pool(item, prompt, tuple(judged[1:]), judged[0])


async def judge(bench: Bench, item: Item, prompt: Prompt, drawn: Sequence[Completion]) -> list[Attempt]:
    """Read and score samples; those that say the same once. Parts are labelled where the verifier judges parts.

    What the verifier cannot judge has no scores: a sample of no parts, or one cut off where it judges finished ones.

    Raises:
        VerifierError: The verifier failed for good.
        ParameterError: The task did not label every part.
    """
    able = capabilities_of_judge(bench.setup)
    distinct: dict[tuple[str, Finish], Completion] = {}
    for completion in drawn:
        distinct.setdefault((completion.text, completion.finish), completion)
    known = {said: bench.read(item, prompt, *said) for said in distinct}
    if able.steps:
        known = {said: _label(bench, item, attempt) for said, attempt in known.items()}
    judged = [said for said, attempt in known.items() if attempt.steps and (attempt.finished or able.partial)]
    paths = [_path(able, prompt, known[said], distinct[said]) for said in judged]
    for said, scores in zip(judged, await score(bench.setup, paths, bench.spent), strict=True):
        known[said] = replace(known[said], scores=scores)
    return [
        replace(
            known[completion.text, completion.finish],
            tokens=completion.tokens,
            token_ids=tuple(completion.token_ids or ()),
        )
        for completion in drawn
    ]


def capabilities_of_judge(setup: Setup) -> VerifierCapabilities:
    """Return what the verifier can do.

    Raises:
        NeedsError: There is no verifier.
    """
    if setup.verifier is None:
        raise NeedsError("nothing can be scored without a verifier")
    return setup.verifier.capabilities


def _path(able: VerifierCapabilities, prompt: Prompt, attempt: Attempt, completion: Completion) -> Path:
    return Path(
        prompt.messages,
        attempt.steps,
        attempt.finished,
        logprobs=tuple(completion.logprobs or ()) if able.logprobs else None,
        top_logprobs=tuple(completion.top_logprobs or ()) if able.top_logprobs else None,
    )


def _label(bench: Bench, item: Item, attempt: Attempt) -> Attempt:
    labels = tuple(bench.task.label_steps(item, attempt.steps))
    if len(labels) != len(attempt.steps):
        raise ParameterError(
            f"task {bench.task.name} gave {len(labels)} labels for the {len(attempt.steps)} parts of a sample of "
            f"{item.problem.id}"
        )
    return replace(attempt, labels=labels)


def as_labelled(task: Any) -> LabelledTask:
    """Return a task that can label steps.

    Raises:
        ParameterError: It cannot.
    """
    if not callable(getattr(task, "label_steps", None)):
        raise ParameterError(f"task {task.name} cannot label steps: it has no label_steps (see tts.tasks.LabelledTask)")
    return cast("LabelledTask", task)
