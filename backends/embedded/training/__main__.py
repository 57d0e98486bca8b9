"""Train and measure the bundled models: `python -m tts.backends.embedded.training --work FOLDER [STAGE ...]`.

A stage whose output exists in the work folder is skipped, so that an interrupted run goes on where it stopped.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

import torch

from tts.backends.embedded.training import corpus, evaluation, model, rollouts
from tts.backends.embedded.training.optimisation import Schedule
from tts.backends.embedded.training.policy import train_policy
from tts.backends.embedded.training.reward import train_reward_model
from tts.backends.embedded.training.rows import Rows

TEMPERATURE = 0.8
CORPUS_SIZE, RANDOM_SHARE, CORPUS_SEED = 240_000, 0.3, 1
POLICY_SCHEDULE = Schedule(steps=4000, warm_up=50, matrix_rate=0.02, other_rate=3e-3)
POLICY_BATCH, POLICY_SEED = 64, 0
ATTEMPTS, FIRST_STEPS, SLIP_SHARE = 60_000, 120_000, 0.1
ATTEMPTS_SEED, FIRST_STEPS_SEED = 11, 12
REWARD_SCHEDULE = Schedule(steps=3000, warm_up=100, matrix_rate=0.01, other_rate=1e-3)
ATTEMPTS_BATCH, FIRST_STEPS_BATCH, REWARD_SEED = 64, 128, 0
PROBLEMS, EVALUATION_SEED = 300, 7


def data(work: Path) -> None:
    """Write the policy's corpus."""
    corpus.build(CORPUS_SIZE, RANDOM_SHARE, CORPUS_SEED).save(work / "corpus.npz")


def policy(work: Path) -> None:
    """Train the policy."""
    trained = train_policy(Rows.load(work / "corpus.npz"), POLICY_SCHEDULE, POLICY_BATCH, POLICY_SEED)
    model.save(trained, work / "countdown-policy")


def attempts(work: Path) -> None:
    """Sample and label whole attempts of the policy."""
    _sample(work / "attempts.npz", ATTEMPTS, None, SLIP_SHARE, ATTEMPTS_SEED)


def first_steps(work: Path) -> None:
    """Sample and label first steps alone: the hardest to judge, and the cheapest to sample."""
    _sample(work / "first_steps.npz", FIRST_STEPS, 1, 0.0, FIRST_STEPS_SEED)


def prm(work: Path) -> None:
    """Train the reward model."""
    pools = [
        (Rows.load(work / "attempts.npz"), ATTEMPTS_BATCH),
        (Rows.load(work / "first_steps.npz"), FIRST_STEPS_BATCH),
    ]
    start = model.load_policy(work / "countdown-policy")
    trained = train_reward_model(start, pools, REWARD_SCHEDULE, REWARD_SEED)
    model.save(trained, work / "countdown-prm")


def evaluate(work: Path) -> None:
    """Measure both models on held-out problems."""
    figures = evaluation.evaluate(
        model.load_policy(work / "countdown-policy"),
        model.load_reward_model(work / "countdown-prm"),
        problems=PROBLEMS,
        temperature=TEMPERATURE,
        seed=EVALUATION_SEED,
    )
    text = json.dumps(figures, indent=2)
    (work / "figures.json").write_text(text + "\n")
    print(text)


STAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "data": (data, "corpus.npz"),
    "policy": (policy, "countdown-policy"),
    "attempts": (attempts, "attempts.npz"),
    "first-steps": (first_steps, "first_steps.npz"),
    "prm": (prm, "countdown-prm"),
    "evaluate": (evaluate, "figures.json"),
}


def _sample(file: Path, count: int, steps: int | None, slip_share: float, seed: int) -> None:
    sampler = model.load_policy(file.parent / "countdown-policy")
    sampled = rollouts.build(sampler, count, steps=steps, slip_share=slip_share, temperature=TEMPERATURE, seed=seed)
    sampled.save(file)


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="python -m tts.backends.embedded.training")
    parser.add_argument("--work", type=Path, required=True, help="folder of everything that the stages write")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; all when none is named")
    arguments = parser.parse_args()
    unknown = [stage for stage in arguments.stages if stage not in STAGES]
    if unknown:
        parser.error(f"no stage {unknown[0]!r}; one of {', '.join(STAGES)}")
    return arguments


def main() -> None:
    """Run the stages in order; one thread, so that a repetition gives the same weights."""
    arguments = _arguments()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name in arguments.stages or STAGES:
        stage, output = STAGES[name]
        if (arguments.work / output).exists():
            print(f"{name}: {output} exists, skipped")
        else:
            print(f"{name}:", flush=True)
            stage(arguments.work)


if __name__ == "__main__":
    main()
