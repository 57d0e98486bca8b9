"""Scores from real servers: their clauses, the same weights in another engine, and nothing scored twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tts
from tests.laws.watched import QUESTION, STEPS
from tests.vllm.served import BLOCK, Server, settled
from tests.vllm.test_counters import PROBLEMS
from tts.backends.embedded import EmbeddedScorer
from tts.backends.vllm_scorer import VLLMScorer
from tts.protocols import connect
from tts.setup import as_problem
from tts.strategies.particle_filter import ParticleFilter
from tts.testing import check_scorer, check_verifier
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.backends.vllm_server import VLLMServer
    from tts.protocols import Scorer

FORMS = ("prm", "prm_of_every_token")
CLOSE = 1e-3
"""How far two engines may lie apart in single precision."""


@pytest.fixture(params=FORMS)
def scores(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


async def rows_of(scorer: Scorer, labels: Sequence[int] | None = None) -> Sequence[Sequence[float]]:
    """Score every prefix of a path that ends a step."""
    await connect(scorer)
    path = list(await scorer.encode(as_problem(QUESTION).messages))
    positions = []
    for step in STEPS:
        path += await scorer.tokenize(step)
        positions.append(len(path) - 1)
    rows = (await scorer.probabilities([path], [positions], labels=labels))[0]
    await scorer.aclose()
    return rows


async def test_the_clauses_are_kept(scores: Server) -> None:
    await check_scorer(lambda: VLLMScorer(scores.url), QUESTION, STEPS)
    await check_verifier(lambda: ProcessReward(VLLMScorer(scores.url)), QUESTION, STEPS)


async def test_a_language_model_gives_verdicts(policy: Server) -> None:
    await check_scorer(lambda: VLLMScorer(policy.url), QUESTION, STEPS, labels=(5, 9, 17))


async def test_the_same_weights_give_the_same_scores_in_another_engine(scores: Server) -> None:
    here, there = await rows_of(EmbeddedScorer()), await rows_of(VLLMScorer(scores.url))
    assert len(here) == len(there) == len(STEPS)
    for row, other in zip(here, there, strict=True):
        assert row == pytest.approx(other, abs=CLOSE)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_no_prefix_is_scored_twice_and_the_cache_is_read(prm: Server, generator: VLLMServer) -> None:
    scorer = VLLMScorer(prm.url)
    await scorer.connect()
    before = await settled(prm)
    paths: set[tuple[str, str]] = set()
    async with tts.solve_many(
        PROBLEMS[:16], strategy=ParticleFilter(n=8), generator=generator, verifier=ProcessReward(scorer), seed=5
    ) as outcomes:
        async for outcome in outcomes:
            assert outcome.error is None and outcome.graph is not None
            nodes = [node for node in outcome.graph if node.scores]
            paths |= {(outcome.problem, "".join(step.text for step in node.path())) for node in nodes}
    after = await settled(prm)
    assert scorer.sent == len(paths)
    asked = after["request_success_total"] - before["request_success_total"]
    assert asked == scorer.sent
    assert after.cached - before.cached >= BLOCK * len(PROBLEMS[:16])
