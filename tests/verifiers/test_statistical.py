"""Judging by log-probabilities: what each measure reads, what is refused, and that searches fill the paths."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from tests.verifiers.distributions import flat, normalised
from tts import solve
from tts.checks import STEPS, check_verifier
from tts.errors import NeedsError, ParameterError, VerifierError
from tts.fakes import GENERATES, ScriptedGenerator, tree_script
from tts.graph import format_key
from tts.protocols import Path
from tts.seeds import derive
from tts.strategies.best_of_n import BestOfN
from tts.types import Message
from tts.verifiers.confidence import self_certainty, token_confidences
from tts.verifiers.statistical import TAKES, Statistical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.capabilities import VerifierCapabilities
    from tts.protocols import GenerationRequest, PathScore
    from tts.types import Completion

QUESTION = (Message(role="user", content="What is 7 times 8?"),)
K = 4


def path(logprobs: tuple[float, ...] | None, top: tuple[float, ...] | None = None) -> Path:
    return Path(QUESTION, ("7 times 8 is ", "56"), True, logprobs=logprobs, top_logprobs=top)


async def value(verifier: Statistical, one: Path) -> float:
    [score] = await verifier.score([one])
    assert (score.tokens, score.calls) == (0, 0)
    return score.values[0]


async def test_the_mean_log_probability_is_one_over_the_perplexity() -> None:
    verifier = Statistical("mean_logprob")
    assert await value(verifier, path((-1.0, -3.0))) == pytest.approx(math.exp(-2))
    assert verifier.measure(path((-1.0, -3.0))) == -2.0


async def test_each_confidence_is_its_function_brought_below_one() -> None:
    rows = [normalised([sharp, 0, 0, 0]) for sharp in (9.0, 2.0, 0.5, 4.0, 1.0)]
    tokens = token_confidences(flat(rows), K)
    expected = {
        "self_certainty": self_certainty(flat(rows), K),
        "mean_confidence": tokens.mean(),
        "tail_confidence": tokens[-2:].mean(),
        "lowest_confidence": min(tokens[place : place + 2].mean() for place in range(4)),
        "bottom_confidence": sorted(tokens[place : place + 2].mean() for place in range(4))[0],
    }
    one = path((-0.5,) * 5, tuple(flat(rows)))
    settings = {"k": K, "window": 2, "share": 0.3}
    for measure, nats in expected.items():
        verifier = Statistical(measure, **{name: settings[name] for name in TAKES[measure]})  # type: ignore[arg-type]
        assert verifier.measure(one) == pytest.approx(nats)
        assert await value(verifier, one) == pytest.approx(nats / (1 + nats))


async def test_a_path_with_more_top_log_probabilities_than_asked_for_is_judged_by_the_greatest() -> None:
    wide, narrow = normalised([5, 1, 0, -1, -2]), normalised([5, 1, 0, -1, -2])[:2]
    verifier = Statistical("mean_confidence", k=2)
    assert verifier.measure(path((-1.0,), tuple(wide))) == verifier.measure(path((-1.0,), tuple(narrow)))


@pytest.mark.parametrize("given_ones", [None, ()])
async def test_a_path_that_was_given_and_not_sampled_is_refused(given_ones: tuple[float, ...] | None) -> None:
    with pytest.raises(
        VerifierError, match=r"mean_logprob: a path has no log-probabilities: its text was given.*'7 times"
    ):
        await Statistical().score([path((-1.0,)), path(given_ones)])


async def test_top_log_probabilities_that_are_missing_are_refused() -> None:
    with pytest.raises(VerifierError, match="0 top log-probabilities for 1 tokens, where 20 a token"):
        await Statistical("mean_confidence").score([path((-1.0,))])


async def test_a_path_without_steps_is_refused_and_a_thousand_steps_are_not() -> None:
    with pytest.raises(VerifierError, match="without steps"):
        await Statistical().score([Path(QUESTION, (), True, logprobs=(-1.0,))])
    long = Path(QUESTION, ("x\n\n",) * 1000, True, logprobs=(-1.0,) * 5000)
    assert await value(Statistical(), long) == pytest.approx(math.exp(-1))


@pytest.mark.parametrize(
    ("measure", "settings", "said"),
    [
        ("entropy", {}, "there are mean_logprob, self_certainty"),
        ("mean_logprob", {"k": 5}, "k=5 has no meaning for mean_logprob"),
        ("mean_confidence", {"window": 5}, "window=5 has no meaning"),
        ("lowest_confidence", {"share": 0.2}, "share=0.2 has no meaning"),
        ("self_certainty", {"k": 1}, "k >= 2"),
        ("self_certainty", {"k": 2.5}, "k=2.5: give a whole number"),
        ("tail_confidence", {"window": 0}, "window >= 1"),
        ("tail_confidence", {"window": 64.5}, "window=64.5: give a whole number"),
        ("bottom_confidence", {"share": 0.0}, "0 < share <= 1"),
    ],
)
def test_parameters_out_of_range_are_refused(measure: str, settings: dict[str, float], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Statistical(measure, **settings)  # type: ignore[arg-type]


def test_capabilities_ask_for_what_the_measure_reads_and_cost_nothing() -> None:
    able = Statistical("bottom_confidence", k=5, window=64).capabilities
    assert (able.logprobs, able.top_logprobs, able.calls, able.steps, able.partial) == (True, 5, 0, False, True)
    assert (able.dollars_per_token, able.flops_per_token, able.extra_tokens) == (0.0, 0.0, 0)
    assert able.fingerprint == {"measure": "bottom_confidence", "k": 5, "window": 64, "share": 0.1}
    assert Statistical("tail_confidence").capabilities.fingerprint["window"] == 2048
    assert Statistical("mean_logprob").capabilities.top_logprobs == 0


class Filled:
    """Gives paths the log-probabilities that a runtime would give them, and asks."""

    def __init__(self, verifier: Statistical) -> None:
        self.verifier = verifier

    @property
    def capabilities(self) -> VerifierCapabilities:
        return self.verifier.capabilities

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        k = self.capabilities.top_logprobs
        tokens = ["".join(one.steps) for one in paths]
        return await self.verifier.score(
            [
                replace(
                    one,
                    logprobs=tuple(-(ord(letter) % 7) / 3 for letter in text),
                    top_logprobs=tuple(-(ord(letter) % 5) - place for letter in text for place in range(k)) or None,
                )
                for one, text in zip(paths, tokens, strict=True)
            ]
        )

    async def aclose(self) -> None:
        await self.verifier.aclose()


@pytest.mark.parametrize("measure", list(TAKES))
async def test_every_measure_keeps_the_clauses(measure: str) -> None:
    await check_verifier(lambda: Filled(Statistical(measure)), steps=STEPS)  # type: ignore[arg-type]


async def test_a_search_fills_the_paths_and_charges_nothing() -> None:
    generator = ScriptedGenerator(tree_script())
    outcome = await solve("What?", generator=generator, verifier=Statistical(), strategy=BestOfN(n=4))
    assert outcome.graph is not None
    nodes = outcome.graph.consumed()[1:]
    assert len(nodes) == 4
    for node in nodes:
        assert node.score == pytest.approx(math.exp(node.mean_logprob or math.nan))
    usage = outcome.usage
    assert (usage.verifier_calls, usage.verifier_tokens) == (0, 0)
    [chosen] = [node for node in nodes if format_key(node.key) == outcome.chosen]
    assert chosen.mean_logprob == max(node.mean_logprob or -math.inf for node in nodes)


@dataclass
class TopGenerator(ScriptedGenerator):
    """Gives the log-probabilities of so many tokens at each place."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.able = replace(GENERATES, top_logprobs=5)

    def _completion(self, request: GenerationRequest, seed: int) -> Completion:
        said = super()._completion(request, seed)
        rows = [normalised([derive(seed, place) % 11, 0, 0, 0, -1]) for place in range(said.tokens)]
        return replace(said, top_logprobs=array("f", flat([row[: request.top_logprobs] for row in rows])))


async def test_a_search_asks_for_as_many_top_log_probabilities_as_the_measure_reads() -> None:
    verifier = Statistical("lowest_confidence", k=3, window=8)
    generator = TopGenerator(tree_script())
    outcome = await solve("What?", generator=generator, verifier=verifier, strategy=BestOfN(n=4))
    assert {request.top_logprobs for request in generator.calls} == {3}
    assert outcome.graph is not None
    nodes = outcome.graph.consumed()[1:]
    assert len({node.score for node in nodes}) > 1
    for node in nodes:
        tokens = token_confidences(node.top_logprobs or (), 3)
        lowest = min(tokens[start : start + 8].mean() for start in range(max(1, len(tokens) - 7)))
        assert node.score == pytest.approx(lowest / (1 + lowest))


async def test_a_generator_without_top_log_probabilities_is_refused_before_a_token_is_paid() -> None:
    generator = ScriptedGenerator(tree_script())
    with pytest.raises(NeedsError, match=r"tail_confidence needs the 20 greatest log-probabilities.*gives 0"):
        await solve("What?", generator=generator, verifier=Statistical("tail_confidence"), strategy=BestOfN(n=4))
    assert generator.sampled == 0


@pytest.mark.engine
async def test_the_bundled_policy_is_judged_by_its_own_log_probabilities() -> None:
    outcome = await solve(
        "Use 3, 5, 7, 2 to make 24.", generator="embedded", verifier=Statistical("mean_logprob"), strategy=BestOfN(n=4)
    )
    assert outcome.graph is not None
    nodes = outcome.graph.consumed()[1:]
    assert len(nodes) == 4
    for node in nodes:
        assert node.mean_logprob is not None
        assert node.score == pytest.approx(math.exp(node.mean_logprob), rel=1e-6)
