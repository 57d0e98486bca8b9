"""Step ends of the pools: what became of the samples that they belong to, and of fresh completions from them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from tts.affinity import on_behalf_of
from tts.benchmarks.testbed.calibration import Outcomes
from tts.benchmarks.testbed.drawing import draw, each, seed_of
from tts.errors import ProblemError
from tts.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.benchmarks.testbed.pools import Bench, Pool


@dataclass(frozen=True, slots=True)
class Prefix:
    """A path that ends with a step and goes on.

    Attributes:
        problem: Which problem, by its place among the pools.
        text: What the path says.
        steps: How many steps it has.
        score: The verifier's word on its last step, in [0, 1].
        token_ids: Token ids of the sample that it was cut from, which goes on after it.
    """

    problem: int
    text: str
    steps: int
    score: float
    token_ids: tuple[int, ...]


def distinct_prefixes(pools: Sequence[Pool]) -> list[Prefix]:
    """Return every step end of the pools after which the sample went on, each once, in order.

    The last part of a sample, which states an answer or that there is none, is no step to go on from.
    """
    found: dict[tuple[int, str], Prefix] = {}
    for problem, pool in enumerate(pools):
        for attempt in pool.attempts:
            text = ""
            for place in attempt.step_ends:
                text += attempt.steps[place]
                prefix = Prefix(problem, text, place + 1, attempt.scores[place], attempt.token_ids)
                found.setdefault((problem, text), prefix)
    return list(found.values())


def choose(prefixes: Sequence[Prefix], count: int, seed: int) -> list[Prefix]:
    """Return `count` of them, drawn without replacement, in their order, so that those of a problem are together."""
    if count >= len(prefixes):
        return list(prefixes)
    places = np.random.default_rng(derive(seed, "prefixes")).choice(len(prefixes), count, replace=False)
    return [prefixes[place] for place in sorted(places)]


def pool_outcomes(pools: Sequence[Pool]) -> Outcomes:
    """Return, for every step end of every sample, whether that sample was right in the end."""
    rows = [
        (attempt.scores[place], float(attempt.right), problem, place + 1)
        for problem, pool in enumerate(pools)
        for attempt in pool.attempts
        for place in attempt.step_ends
    ]
    return _as_columns(rows, draws=1)


async def fresh_outcomes(bench: Bench, pools: Sequence[Pool]) -> tuple[Outcomes, int]:
    """Draw completions from a random choice of step ends; return what became of them, and how many were left out.

    One is left out where its text does not read back as the tokens that were sampled: a search would continue other
    tokens than those.

    Raises:
        BackendError: The generator failed for good.
    """
    chosen = choose(distinct_prefixes(pools), bench.settings.prefixes, bench.settings.seed)
    shares = await each(chosen, lambda prefix: _complete(bench, pools, prefix), bench.settings.in_flight)
    rows = [
        (prefix.score, share, prefix.problem, prefix.steps)
        for prefix, share in zip(chosen, shares, strict=True)
        if share is not None
    ]
    return _as_columns(rows, bench.settings.completions), shares.count(None)


def _as_columns(rows: Sequence[tuple[float, float, int, int]], draws: int) -> Outcomes:
    columns = np.asarray(rows, dtype=float).reshape(-1, 4).T
    return Outcomes(columns[0], columns[1], columns[2].astype(np.int64), columns[3].astype(np.int64), draws)


async def _complete(bench: Bench, pools: Sequence[Pool], prefix: Prefix) -> float | None:
    """Return the share of completions that are right, or None where the prefix cannot be continued as it was."""
    item, prompt, settings = pools[prefix.problem].item, pools[prefix.problem].prompt, bench.settings
    ids = await _tokens(bench, prefix)
    if ids is None:
        return None
    room = bench.cap(prompt) - len(ids)
    if room < 1:
        return 0.0
    seed = seed_of(settings.seed, bench.task.name, item.problem.id, "completions", prefix.text)
    with on_behalf_of(item.problem.id):
        drawn = await draw(
            bench.setup, prompt, bench.setup.sampling, count=settings.completions, seed=seed, max_tokens=room,
            text=prefix.text, token_ids=ids,
        )  # fmt: skip
    return fmean(bench.read(item, prompt, prefix.text + one.text, one.finish).right for one in drawn)


async def _tokens(bench: Bench, prefix: Prefix) -> tuple[int, ...] | None:
    """Return the tokens with which a search would go on: those that were sampled; none where the engine shows none."""
    generator = bench.setup.generator
    if not (generator.capabilities.token_ids and prefix.token_ids):
        return ()
    try:
        ids = tuple(await generator.tokenize(prefix.text))
    except ProblemError:
        return None
    return ids if prefix.token_ids[: len(ids)] == ids else None
