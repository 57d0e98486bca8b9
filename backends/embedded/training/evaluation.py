"""What the two models measure on held-out problems."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from random import Random
from statistics import mean, stdev

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaForCausalLM, LlamaForTokenClassification

from tts.backends.embedded.training.reward import score
from tts.backends.embedded.training.rollouts import attempt_texts, parts_of, slip
from tts.backends.embedded.training.sampling import prompts, sample
from tts.benchmarks.tasks.countdown import Instance, answer_of, held_out, label_steps
from tts.benchmarks.tasks.expressions import normal_form

SAMPLE_COUNTS = (1, 4, 16, 64)
_STEPS = 3
_SLIP_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sample: the normal form of its answer, the exact labels of its parts and the scores of the reward model."""

    answer: str | None
    labels: tuple[bool, ...]
    scores: tuple[float, ...]

    @property
    def right(self) -> bool:
        """Whether the answer is right; an attempt without one is wrong."""
        return self.answer is not None and self.labels[-1]


Pool = Sequence[Attempt]


def evaluate(
    policy: LlamaForCausalLM,
    reward_model: LlamaForTokenClassification,
    *,
    problems: int,
    temperature: float,
    seed: int,
) -> dict[str, object]:
    """Return every figure of the model card, as shares of problems."""
    instances = held_out(problems, seed)
    generator = torch.Generator().manual_seed(seed)
    samples = max(SAMPLE_COUNTS)
    repeated = [instance for instance in instances for _ in range(samples)]
    attempts: list[Attempt] = []
    for start in range(0, len(repeated), samples * 10):
        batch = repeated[start : start + samples * 10]
        rows = sample(policy, prompts(batch), temperature=temperature, generator=generator).numpy()
        attempts += judge(reward_model, batch, rows)
    pools = [attempts[start : start + samples] for start in range(0, len(attempts), samples)]
    greedy_rows = sample(policy, prompts(instances), temperature=0, generator=generator).numpy()
    greedy = [attempt.right for attempt in judge(reward_model, instances, greedy_rows)]
    return {
        "problems": problems,
        "samples_per_problem": samples,
        "temperature": temperature,
        "seed": seed,
        "greedy": _figure([float(right) for right in greedy]),
        **_curves(pools),
        "auc_by_part": auc_by_part(attempts),
        "errors_of_samples": errors(attempts),
        "slips_noticed": slips_noticed(
            policy, reward_model, repeated[:: samples // _SLIP_SAMPLES], temperature, generator
        ),
    }


def judge(
    reward_model: LlamaForTokenClassification, instances: Sequence[Instance], rows: NDArray[np.int64]
) -> list[Attempt]:
    """Label and score one attempt per instance."""
    attempts: list[Attempt] = []
    for instance, text, scores in zip(instances, attempt_texts(rows), score(reward_model, rows), strict=True):
        parts = parts_of(text)
        expression = answer_of(parts[-1])
        answer = None if expression is None else normal_form(expression)
        attempts.append(Attempt(answer, label_steps(instance, parts), tuple(scores)))
    return attempts


def best_of(pool: Pool) -> bool:
    """Return whether the attempt of the highest last score is right."""
    return max(pool, key=lambda attempt: attempt.scores[-1]).right


def weighted_vote(pool: Pool) -> bool:
    """Return whether the answer with the largest sum of last scores is right."""
    return _vote(pool, lambda attempt: attempt.scores[-1])


def majority_vote(pool: Pool) -> bool:
    """Return whether the most frequent answer is right."""
    return _vote(pool, lambda _: 1.0)


def _vote(pool: Pool, weight: Callable[[Attempt], float]) -> bool:
    totals: dict[str, float] = defaultdict(float)
    right: dict[str, bool] = {}
    for attempt in pool:
        if attempt.answer is not None:
            totals[attempt.answer] += weight(attempt)
            right[attempt.answer] = attempt.right
    return bool(totals) and right[max(totals, key=lambda answer: totals[answer])]


def _curves(pools: Sequence[Pool]) -> dict[str, dict[str, dict[str, float]]]:
    """Return each figure by the number of samples; smaller numbers use every disjoint group of a pool."""
    selections = {"best_of_last_score": best_of, "weighted_vote": weighted_vote, "majority_vote": majority_vote}
    curves: dict[str, dict[str, dict[str, float]]] = {
        "pass_at": {str(count): _figure([pass_at(pool, count) for pool in pools]) for count in SAMPLE_COUNTS}
    }
    for name, selection in selections.items():
        curves[name] = {
            str(count): _figure([mean(selection(group) for group in _groups(pool, count)) for pool in pools])
            for count in SAMPLE_COUNTS[1:]
        }
    return curves


def _groups(pool: Pool, count: int) -> list[Pool]:
    return [pool[start : start + count] for start in range(0, len(pool), count)]


def pass_at(pool: Pool, count: int) -> float:
    """Return the unbiased estimate of the chance that one of `count` samples is right."""
    wrong = sum(not attempt.right for attempt in pool)
    return 1 - comb(wrong, count) / comb(len(pool), count)


def _figure(values: Sequence[float]) -> dict[str, float]:
    """Return the mean over problems and its standard error."""
    return {"mean": round(mean(values), 4), "standard_error": round(stdev(values) / sqrt(len(values)), 4)}


def auc_by_part(attempts: Pool) -> dict[str, float]:
    """Return the chance that a good part outscores a bad one, by position and over all."""
    figures: dict[str, float] = {}
    scored: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for attempt in attempts:
        for index, (value, label) in enumerate(zip(attempt.scores, attempt.labels, strict=True)):
            scored[f"step {index + 1}" if index < _STEPS else "answer"].append((value, label))
            scored["all"].append((value, label))
    for name, pairs in scored.items():
        figures[name] = round(_auc(pairs), 4)
    return figures


def _auc(pairs: Sequence[tuple[float, bool]]) -> float:
    values, labels = np.array([value for value, _ in pairs]), np.array([label for _, label in pairs])
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    good = int(labels.sum())
    return float((ranks[labels].sum() - good * (good + 1) / 2) / (good * (len(labels) - good)))


def slips_noticed(
    policy: LlamaForCausalLM,
    reward_model: LlamaForTokenClassification,
    instances: Sequence[Instance],
    temperature: float,
    generator: torch.Generator,
) -> dict[str, float]:
    """Return how often a score below one half meets the step of a right attempt in which one number was changed."""
    rng = Random(generator.initial_seed())
    rows = sample(policy, prompts(instances), temperature=temperature, generator=generator).numpy()
    right = [index for index, attempt in enumerate(judge(reward_model, instances, rows)) if all(attempt.labels)]
    rows = rows[right]
    for row in rows:
        slip(row, rng)
    slipped = judge(reward_model, [instances[index] for index in right], rows)
    noticed = [
        attempt.scores[attempt.labels.index(False)] < 0.5 for attempt in slipped if False in attempt.labels[:_STEPS]
    ]
    return {"slips": len(noticed), "noticed": round(mean(noticed), 4)}


def errors(attempts: Pool) -> dict[str, float]:
    """Return the share of all samples that first go wrong at each part."""
    firsts = [attempt.labels.index(False) if False in attempt.labels else None for attempt in attempts]
    names = [*(f"step {index + 1}" for index in range(_STEPS)), "answer"]
    return {name: round(firsts.count(index) / len(firsts), 4) for index, name in enumerate(names)}
