"""The reward model's own lessons: attempts of the policy, each part labelled with how often it ends well from there.

Attempts are drawn by the embedded engine, several a problem. A part's label is the share of right answers among the
attempts at its problem that came through the same point: the same values left, or the same steps taken. From where no
right answer can be reached it is zero.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random

import anyio
import numpy as np

from tts.backends.embedded import EmbeddedGenerator
from tts.backends.embedded.training import vocabulary
from tts.backends.embedded.training.rows import Rows, padded
from tts.benchmarks.tasks import countdown, words
from tts.protocols import GenerationRequest
from tts.types import Completion, Message, Sampling

_IN_FLIGHT = 32
_SEED_BLOCK = 4096


Judge = Callable[[Sequence[str]], tuple[bool, ...]]
"""Labels the parts of an attempt at one problem."""


@dataclass(frozen=True, slots=True)
class Family:
    """Problems of one kind, and what can be said of attempts at them.

    Attributes:
        draw: Yields training problems without end: the question, and the judge of attempts at it.
        point: Returns what two attempts at a problem share where they have come to the same, given their parts so far.
        longest: Tokens of an attempt, at most.
    """

    draw: Callable[[Random], Iterator[tuple[str, Judge]]]
    point: Callable[[Sequence[str]], Hashable]
    longest: int


def _countdown(size: int, rng: Random) -> Iterator[tuple[str, Judge]]:
    for instance in countdown.training_instances(rng, size):
        yield countdown.question(instance), partial(countdown.label_steps, instance)


def values_left(parts: Sequence[str]) -> Hashable:
    """Return what a step of Countdown leaves, in any order."""
    return tuple(sorted(parts[-1].partition("(left: ")[2].rstrip(")\n").split(", ")))


def _words(rng: Random) -> Iterator[tuple[str, Judge]]:
    for instance in words.training_instances(rng):
        yield words.question(instance), partial(words.label_steps, instance)


def _steps_taken(parts: Sequence[str]) -> Hashable:
    return tuple(sorted(parts))


FAMILIES = {
    "four": Family(partial(_countdown, 4), values_left, 80),
    "five": Family(partial(_countdown, 5), values_left, 80),
    "words": Family(_words, _steps_taken, 50),
}


@dataclass(slots=True)
class _Attempts:
    """A sink that keeps the completions of one request."""

    found: list[Completion] = field(default_factory=list)

    def prompt(self, *, cached: int, computed: int) -> None:
        """Nothing is counted."""

    def progress(self, index: int, tokens: int) -> None:
        """Nothing is cancelled."""

    def finish(self, index: int, completion: Completion) -> None:
        """Keep a completion."""
        self.found.append(completion)


def build(policy: Path, family: Family, problems: int, attempts: int, temperature: float, seed: int) -> Rows:
    """Return labelled attempts of the policy at training problems, and as many each.

    Args:
        policy: its folder, exported.
        family: of the problems.
        problems: their number.
        attempts: for each problem.
        temperature: of the policy.
        seed: of problems and attempts.
    """
    drawn = list(islice(family.draw(Random(seed)), problems))
    texts = anyio.run(_sample, policy, [question for question, _ in drawn], attempts, family.longest, temperature, seed)
    examples: list[tuple[list[int], dict[int, float]]] = []
    for (question, judge), found in zip(drawn, texts, strict=True):
        examples += label(question, judge, found, family.point)
    tokens = padded([row for row, _ in examples])
    labels = np.full(tokens.shape, np.nan, np.float16)
    for line, (_, said) in zip(labels, examples, strict=True):
        line[list(said)] = list(said.values())
    return Rows.of(tokens, np.zeros(tokens.shape, bool), labels)


async def _sample(
    policy: Path, questions: Sequence[str], attempts: int, longest: int, temperature: float, seed: int
) -> list[list[str]]:
    """Return the texts of so many attempts at each question."""
    generator = EmbeddedGenerator(policy)
    found: list[list[str]] = [[] for _ in questions]
    waiting = iter(enumerate(questions))

    async def work() -> None:
        for number, question in waiting:
            sink = _Attempts()
            await generator.generate(
                GenerationRequest(
                    prompt=await generator.encode([Message(role="user", content=question)]),
                    text="",
                    token_ids=(),
                    count=attempts,
                    seed=(seed * len(questions) + number) * _SEED_BLOCK,
                    max_tokens=longest,
                    delimiters=(),
                    sampling=Sampling(temperature=temperature),
                ),
                sink,
            )
            found[number] = [completion.text for completion in sink.found]

    async with anyio.create_task_group() as tasks:
        for _ in range(_IN_FLIGHT):
            tasks.start_soon(work)
    await generator.aclose()
    return found


def label(
    question: str,
    judge: Judge,
    texts: Sequence[str],
    point: Callable[[Sequence[str]], Hashable],
) -> Iterator[tuple[list[int], dict[int, float]]]:
    """Yield each attempt as tokens with the labels of its parts."""
    split = [parts for parts in map(parts_of, texts) if parts]
    labels = [judge(parts) for parts in split]
    outcomes: dict[Hashable, list[bool]] = defaultdict(list)
    for parts, good in zip(split, labels, strict=True):
        for end in range(1, len(parts)):
            outcomes[end, point(parts[:end])].append(good[-1] and good[end - 1])
    for parts, good in zip(split, labels, strict=True):
        shares = [float(np.mean(outcomes[end, point(parts[:end])])) for end in range(1, len(parts))]
        row, _, ends = vocabulary.encoded(question, parts)
        said = dict(zip(ends, [*shares, float(good[-1])], strict=True))
        if parts[-1] == vocabulary.STUCK:
            del said[ends[-1]]
        yield row, said


def parts_of(text: str) -> list[str]:
    """Split an attempt into its steps, each with its end, and its answer."""
    *steps, last = text.split(countdown.STEP_END)
    return [*(step + countdown.STEP_END for step in steps), *([last] if last else [])]
