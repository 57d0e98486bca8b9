"""The stages of the training, with every size, step count, learning rate and seed."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tts.backends.embedded.export import export
from tts.backends.embedded.training import corpus, model, paths, rollouts
from tts.backends.embedded.training.optimisation import Schedule, together, worker
from tts.backends.embedded.training.reward import train_reward_model
from tts.backends.embedded.training.rows import Rows
from tts.backends.embedded.training.trunk import Corpora, joined, new_trunk, train_trunk

TEMPERATURE = 0.8
KINDS = ("four", "five", "words")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """One stage of the trunk.

    Attributes:
        attempts: How many of each kind are made, and their seed.
        careless: How often a choice of Countdown is any legal move.
        slips: How often a step of a word problem slips.
        turns: The kinds, in the order in which training steps take them.
        batch: Attempts of a kind in one training step.
        schedule: How long and how fast the stage learns.
        seed: Of the order of the data.
    """

    attempts: dict[str, tuple[int, int]]
    careless: float
    slips: float
    turns: tuple[str, ...]
    batch: dict[str, int]
    schedule: Schedule
    seed: int


TURNS = ("four", "words", "five", "drills")
BATCH = {"four": 80, "words": 60, "five": 60, "drills": 60}
BROAD = Lessons(
    attempts={"four": (240_000, 1), "five": (120_000, 2), "words": (120_000, 3), "drills": (120_000, 4)},
    careless=0.25,
    slips=0.25,
    turns=TURNS,
    batch=BATCH,
    schedule=Schedule(steps=7000, warm_up=100, matrix_rate=0.02, other_rate=3e-3),
    seed=0,
)
"""Many mistakes, so that the reward model sees all kinds of them."""
SHARP = Lessons(
    attempts={"four": (200_000, 21), "five": (120_000, 22), "words": (120_000, 23), "drills": (120_000, 24)},
    careless=0.1,
    slips=0.2,
    turns=TURNS,
    batch=BATCH,
    schedule=Schedule(steps=7000, warm_up=100, matrix_rate=0.01, other_rate=1.5e-3),
    seed=5,
)
"""Fewer mistakes."""
FINE = Lessons(
    attempts={"four": (110_000, 31), "five": (50_000, 32), "words": (25_000, 33), "drills": (20_000, 34)},
    careless=0.0,
    slips=0.2,
    turns=("four", "five", "four", "words", "four", "five", "four", "drills"),
    batch=BATCH,
    schedule=Schedule(steps=2500, warm_up=100, matrix_rate=0.007, other_rate=1e-3),
    seed=6,
)
"""As many mistakes as the policy is to make; most of it what is hardest to learn, the choices of Countdown."""
LESSONS = {"broad": BROAD, "sharp": SHARP, "fine": FINE}
PROBLEMS, ATTEMPTS_EACH = 30_000, 4
ROLLOUT_SEEDS = {"four": 11, "five": 12, "words": 13}
REWARD = Schedule(steps=3600, warm_up=100, matrix_rate=0.005, other_rate=7e-4)
REWARD_TURNS = ("four", "words", "five", "words")
REWARD_BATCH, REWARD_SEED = {"four": 80, "five": 60, "words": 60}, 1
POLICY, PRM = "arithmetic-policy", "arithmetic-prm"
_READS = (
    "Countdown questions of four or five numbers such as 'Use 3, 5, 7, 11 to make 24.', and the word problems of the "
    "task arithmetic-words; numbers from 0 to 999 and the signs + - * / = ( )"
)
FACTS = {
    POLICY: {"task": "countdown", "max_tokens": 96, "step_tokens": 32, "reads": _READS},
    PRM: {"reads": f"{_READS}, with the steps that answer them"},
}
"""What the library is to know of the models: `tts.json` in their folders."""


@dataclass(frozen=True, slots=True)
class Run:
    """Where the stages read and write, and how much of everything they do.

    Attributes:
        work: The folder of all outputs.
        workers: Processes side by side; weights hang on their number.
        share: Of the sizes and steps above; less than one only to try the stages.
    """

    work: Path
    workers: int
    share: float

    def size(self, number: int) -> int:
        """Return how many of something this run makes, at least as many as the largest batch takes."""
        return max(*BATCH.values(), *REWARD_BATCH.values(), round(number * self.share))

    def schedule(self, full: Schedule) -> Schedule:
        """Return how long this run learns."""
        return Schedule(
            steps=max(4, round(full.steps * self.share)),
            warm_up=full.warm_up,
            matrix_rate=full.matrix_rate,
            other_rate=full.other_rate,
        )

    def rows(self, folder: str, turns: Sequence[str], batch: Mapping[str, int]) -> Corpora:
        """Read the rows of each kind, in the order of the turns, with the number of each in a batch."""
        read = {kind: Rows.load(self.work / folder / f"{kind}.npz") for kind in set(turns)}
        return [(read[kind], batch[kind]) for kind in turns]

    def make(self, folder: str, make: "Callable[[Run, str], Rows]", kinds: Sequence[str]) -> None:
        """Make the rows of each kind, several kinds side by side."""
        (self.work / folder).mkdir(exist_ok=True)
        with ProcessPoolExecutor(self.workers, mp_context=get_context("spawn")) as pool:
            for kind, rows in zip(kinds, pool.map(partial(make, self), kinds), strict=True):
                rows.save(self.work / folder / f"{kind}.npz")


def data(run: Run) -> None:
    """Make attempts without the policy, every part labelled exactly."""
    for name, lessons in LESSONS.items():
        run.make(name, partial(_lesson, lessons), tuple(lessons.attempts))


def _lesson(lessons: Lessons, run: Run, kind: str) -> Rows:
    count, seed = lessons.attempts[kind]
    if kind == "drills":
        return corpus.build_drills(run.size(count), seed)
    if kind == "words":
        return corpus.build_words(run.size(count), lessons.slips, seed)
    return paths.build({"four": 4, "five": 5}[kind], run.size(count), lessons.careless, seed)


def broad(run: Run) -> None:
    """Train the network that both models start from."""
    together(_train_trunk, run.workers, run, "broad", None)


def sharp(run: Run) -> None:
    """Go on with fewer mistakes."""
    together(_train_trunk, run.workers, run, "sharp", "broad")


def fine(run: Run) -> None:
    """Go on with the fewest; the language head is then the policy."""
    together(_train_trunk, run.workers, run, "fine", "sharp")
    export(run.work / POLICY)


def _train_trunk(run: Run, name: str, start: str | None) -> None:
    lessons = LESSONS[name]
    if start is None:
        policy, judge = new_trunk(lessons.seed)
    else:
        policy = model.load_policy(run.work / f"{start}-policy")
        policy, judge = joined(policy, model.load_reward_model(run.work / f"{start}-judge"))
    train_trunk(
        policy, judge, run.rows(name, lessons.turns, lessons.batch), run.schedule(lessons.schedule), lessons.seed
    )
    if worker() == 0:
        model.save(policy, run.work / (POLICY if name == "fine" else f"{name}-policy"))
        model.save(judge, run.work / f"{name}-judge")


def attempts(run: Run) -> None:
    """Let the policy attempt training problems, and label each part with what became of it."""
    run.make("rollouts", _rollouts, KINDS)


def _rollouts(run: Run, kind: str) -> Rows:
    problems, family = run.size(PROBLEMS), rollouts.FAMILIES[kind]
    return rollouts.build(run.work / POLICY, family, problems, ATTEMPTS_EACH, TEMPERATURE, ROLLOUT_SEEDS[kind])


def prm(run: Run) -> None:
    """Train the reward model."""
    together(_train_prm, run.workers, run)
    export(run.work / PRM)


def _train_prm(run: Run) -> None:
    start = model.load_reward_model(run.work / "fine-judge")
    corpora = run.rows("rollouts", REWARD_TURNS, REWARD_BATCH)
    trained = train_reward_model(start, corpora, run.schedule(REWARD), REWARD_SEED)
    if worker() == 0:
        model.save(trained, run.work / PRM)


# What tells that a stage is done is the last file that it writes, so that one that was killed is run again.
STAGES: dict[str, tuple[Callable[[Run], None], str]] = {
    "data": (data, "fine/drills.npz"),
    "broad": (broad, "broad-judge/tokenizer_config.json"),
    "sharp": (sharp, "sharp-judge/tokenizer_config.json"),
    "fine": (fine, f"{POLICY}/model.onnx"),
    "attempts": (attempts, "rollouts/words.npz"),
    "prm": (prm, f"{PRM}/model.onnx"),
}


def bundle(work: Path, target: Path) -> None:
    """Copy trained models to where the library looks for them, with what it is to know of them."""
    for name, facts in FACTS.items():
        shutil.copytree(work / name, target / name, dirs_exist_ok=True)
        (target / name / "tts.json").write_text(json.dumps(facts, indent=2) + "\n")
