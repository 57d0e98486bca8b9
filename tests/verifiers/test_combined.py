"""Several verifiers as one: what is combined, who is asked, what is charged, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verifiers.judges import ABLE, QUESTION, Judge, Served, paths, says
from tts import solve
from tts.aggregation import Aggregation
from tts.capabilities import VerifierCapabilities
from tts.checks import check_verifier
from tts.errors import BackendError, ParameterError, ScoreCountError, ScoreValueError, TransientError, VerifierError
from tts.fakes import ScriptedGenerator, ScriptedVerifier, tree_script
from tts.protocols import Path, PathScore
from tts.seeds import derive
from tts.strategies.best_of_n import BestOfN
from tts.verifiers.combined import Cascade, Combined
from tts.verifiers.statistical import Statistical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.protocols import Verifier
    from tts.verifiers.combined import How

STEPWISE = replace(ABLE, name="stepper", steps=True)
VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=6)


async def values(verifier: Combined | Cascade, asked: Sequence[Path]) -> list[list[float]]:
    return [list(score.values) for score in await verifier.score(asked)]


async def test_the_rules_are_what_they_are_called() -> None:
    members = [says(0.2, 1.0), says(0.8, 0.5)]
    expected = {"mean": [0.5, 0.75], "product": [0.16, 0.5], "minimum": [0.2, 0.5]}
    for how, combined in expected.items():
        said = await values(Combined(members, how), paths(2))  # type: ignore[arg-type]
        assert said == [[pytest.approx(value)] for value in combined]
    weighted = Combined(members, weights=[3, 1])
    assert await values(weighted, paths(2)) == [[pytest.approx(0.35)], [pytest.approx(0.875)]]


async def test_steps_are_combined_each_for_itself() -> None:
    members = [says(0.2, 0.4, able=STEPWISE), says(0.6, 0.0, able=STEPWISE)]
    combined = Combined(members)
    assert combined.capabilities.steps
    assert await values(combined, [Path(QUESTION, ("0", "1"), False)]) == [[pytest.approx(0.4), pytest.approx(0.2)]]


@given(VALUES, st.data())
def test_any_combination_is_a_probability_between_the_least_and_the_greatest(
    given_ones: list[float], data: Any
) -> None:
    size = len(given_ones)
    weights = data.draw(st.lists(st.floats(0, 1e308), min_size=size, max_size=size).filter(any))
    members = [Judge() for _ in given_ones]
    mean = Combined(members, weights=weights)._value(given_ones)
    assert min(given_ones) - 1e-12 <= mean <= min(1.0, max(given_ones) + 1e-12)
    assert Combined(members, "minimum")._value(given_ones) == min(given_ones)
    assert 0 <= Combined(members, "product")._value(given_ones) <= min(given_ones)


async def test_tokens_and_calls_add_up() -> None:
    members: list[Verifier] = [says(0.5, tokens=7, calls=2), says(0.5, tokens=5), Statistical()]
    [score] = await Combined(members).score([replace(paths(1)[0], logprobs=(-1.0,))])
    assert (score.tokens, score.calls) == (12, 3)


async def test_all_are_asked_side_by_side() -> None:
    met = anyio.Event()

    class First(Judge):
        async def score(self, paths: Sequence[Path]) -> list[PathScore]:
            await met.wait()
            return await super().score(paths)

    class Second(Judge):
        async def score(self, paths: Sequence[Path]) -> list[PathScore]:
            met.set()
            return await super().score(paths)

    with anyio.fail_after(10):
        assert await values(Combined([First(), Second()]), [Path(QUESTION, ("0.5",), True)]) == [[0.5]]


def test_capabilities_are_what_all_can_do() -> None:
    first = replace(
        STEPWISE, calls=2, extra_tokens=3, dollars_per_token=0.1, flops_per_token=None, runtimes=("asyncio", "trio"),
        logprobs=True, fingerprint={"model": "a"},
    )  # fmt: skip
    second = replace(
        STEPWISE, name="other", partial=False, calls=1, extra_tokens=4, dollars_per_token=0.3, flops_per_token=2.0,
        runtimes=("trio",), top_logprobs=5,
    )  # fmt: skip
    able = Combined([Judge(able=first), Judge(able=second)], weights=[1, 2]).capabilities
    assert able == VerifierCapabilities(
        name="mean(stepper, other)", steps=True, partial=False, calls=3, extra_tokens=7, logprobs=True, top_logprobs=5,
        dollars_per_token=0.3, flops_per_token=None, runtimes=("trio",),
        fingerprint={
            "combined": "mean", "0.weight": 1, "1.weight": 2, "0.name": "stepper", "0.model": "a", "1.name": "other",
        },
    )  # fmt: skip


def test_a_price_that_is_not_known_matters_only_where_tokens_are_read() -> None:
    free = replace(ABLE, calls=0, dollars_per_token=None)
    assert Combined([Judge(able=free), Judge(able=replace(ABLE, dollars_per_token=0.2))]).capabilities == (
        VerifierCapabilities(
            name="mean(judge, judge)", steps=False, dollars_per_token=0.2, flops_per_token=0.0,
            fingerprint={"combined": "mean", "0.name": "judge", "1.name": "judge"},
        )
    )  # fmt: skip
    reading = replace(ABLE, dollars_per_token=None)
    assert Combined([Judge(able=reading), Judge()]).capabilities.dollars_per_token is None
    assert Combined([Statistical(), Statistical()]).capabilities.dollars_per_token == 0.0


async def test_steps_and_whole_paths_go_together_only_by_an_aggregation() -> None:
    members = [says(0.2, 0.4, able=STEPWISE), Judge(lambda _: 0.9)]
    path = Path(QUESTION, ("0", "1"), True)
    unknown: Any = "median"
    for kind in (Combined, Cascade):
        with pytest.raises(ParameterError, match=r"stepper score steps and the others whole paths: give aggregation="):
            kind(members)
        with pytest.raises(ParameterError, match=r"aggregation=min, but none scores steps"):
            kind([Judge()], aggregation=Aggregation.MIN)
        with pytest.raises(ParameterError, match=r"aggregation='median'; there are last, min"):
            kind(members, aggregation=unknown)
    for how, expected in (("min", 0.2), ("last", 0.4), ("mean", 0.3), ("whole", 0.2)):
        combined = Combined(members, "minimum", aggregation=Aggregation(how))
        assert not combined.capabilities.steps
        assert combined.capabilities.fingerprint["aggregation"] == how
        assert await values(combined, [path]) == [[pytest.approx(expected)]]
    assert [one.steps for asked in members[0].seen for one in asked] == [("0", "1")] * 3 + [("01",)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"how": "median"}, "how='median'; there are mean, product, minimum"),
        ({"how": "product", "weights": [1, 1]}, "have no meaning for how='product'"),
        ({"weights": [1]}, "1 weights for 2 verifiers"),
        ({"weights": [1, -1]}, "none below 0"),
        ({"weights": [0, 0]}, "not all 0"),
        ({"weights": [1, math.nan]}, "expected finite numbers"),
    ],
)
def test_parameters_of_a_combination_out_of_range_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Combined([Judge(), Judge()], **settings)


def test_none_at_all_are_refused() -> None:
    for make in (lambda: Combined([]), lambda: Cascade([])):
        with pytest.raises(ParameterError, match="of no verifiers: give at least one"):
            make()


@pytest.mark.parametrize("how", ["mean", "product", "minimum"])
@pytest.mark.parametrize(
    ("spoilt", "error"),
    [
        ([[0.5], [math.nan]], ScoreValueError),
        ([[0.5], [1.5]], ScoreValueError),
        ([[0.5], [0.5, 0.5]], ScoreCountError),
        ([[0.5]], ScoreCountError),
    ],
)
async def test_what_a_member_breaks_is_not_hidden(how: Any, spoilt: list[list[float]], error: type[Exception]) -> None:
    class Broken(Judge):
        async def score(self, paths: Sequence[Path]) -> list[PathScore]:
            return [PathScore(each) for each in spoilt]

    broken = Broken(able=replace(ABLE, name="broken"))
    for verifier in (Combined([Judge(lambda _: 0.1), broken], how), Cascade([Judge(lambda _: 0.5), broken])):
        with pytest.raises(error, match="verifier broken"):
            await verifier.score(paths(2))


async def test_a_path_without_steps_is_refused_before_anyone_is_asked() -> None:
    judge = Judge()
    for verifier in (Combined([judge]), Cascade([judge])):
        with pytest.raises(VerifierError, match="path 1 of 2 has no steps"):
            await verifier.score([*paths(1), Path(QUESTION, (), True)])
    assert judge.seen == []


async def test_each_member_gets_as_many_top_log_probabilities_as_it_asks_for() -> None:
    two, four = Judge(able=replace(ABLE, top_logprobs=2)), Judge(able=replace(ABLE, top_logprobs=4))
    combined = Combined([two, four])
    top = (-1.0, -2.0, -3.0, -4.0, -1.5, -2.5, -3.5, -4.5)
    await combined.score([Path(QUESTION, ("1",), True, logprobs=(-1.0, -1.5), top_logprobs=top)])
    assert combined.capabilities.logprobs
    assert two.seen[0][0].top_logprobs == (-1.0, -2.0, -1.5, -2.5)
    assert four.seen[0][0].top_logprobs == top


async def test_members_are_connected_before_they_are_asked_what_they_can_do() -> None:
    members = [Served(), Served(able=STEPWISE)]
    combined = Combined(members)
    with pytest.raises(BackendError, match="not connected"):
        _ = combined.capabilities
    with pytest.raises(ParameterError, match="stepper score steps"):
        await combined.connect()
    assert [member.connected for member in members] == [1, 1]
    alike = Cascade([Served(), Judge()])
    await alike.connect()
    assert alike.capabilities.name == "cascade(judge, judge)"


async def test_all_are_closed_even_when_one_fails_to() -> None:
    members = [Judge(), Judge(broken=OSError("lost")), Judge()]
    with pytest.raises(OSError, match="lost"):
        await Combined(members).aclose()
    assert all(member.closed for member in members)


async def test_a_fault_says_that_others_had_begun() -> None:
    busy = TransientError("busy", delay=3.0, began=False)
    for verifier, began in (
        (Combined([Judge(lambda _: 0.5), Judge(fault=busy)]), True),
        (Cascade([Judge(lambda _: 0.5), Judge(fault=busy)]), True),
        (Combined([Judge(fault=busy)]), False),
        (Cascade([Judge(fault=busy), Judge()]), False),
    ):
        busy.began = False
        with pytest.raises(TransientError, match="busy") as caught:
            await verifier.score(paths(1))
        assert (caught.value.began, caught.value.delay) == (began, 3.0)


async def test_a_cascade_asks_the_next_only_about_what_it_is_not_sure_of() -> None:
    cheap, middle, dear = says(0.05, 0.5, 0.95, 0.1, 0.9, 0.5), says(0, 0.99, 0, 0, 0, 0.4), says(0, 0, 0, 0, 0, 0.3)
    cascade = Cascade([cheap, middle, dear], sure=(0.1, 0.9))
    scores = await cascade.score(paths(6))
    assert [score.values[0] for score in scores] == [0.05, 0.99, 0.95, 0.1, 0.9, 0.3]
    assert [[one.steps[0] for one in asked] for judge in (middle, dear) for asked in judge.seen] == [["1", "5"], ["5"]]
    assert [(score.tokens, score.calls) for score in scores] == [(10, 1), (20, 2), *[(10, 1)] * 3, (30, 3)]
    assert cascade.capabilities.calls == 3


async def test_nobody_is_asked_about_nothing() -> None:
    dear = Judge()
    await Cascade([says(0.95, 0.01), dear]).score(paths(2))
    assert dear.seen == []


async def test_bounds_out_of_reach_never_decide() -> None:
    dear = says(0.5, 0.6)
    assert await values(Cascade([says(0.0, 1.0), dear], sure=(-1, 2)), paths(2)) == [[0.5], [0.6]]
    assert await values(Cascade([says(0.0, 1.0), dear], sure=(0.2, 2)), paths(2)) == [[0.0], [0.6]]


async def test_each_step_of_a_cascade_goes_to_the_first_that_is_sure_of_it() -> None:
    cheap, dear = says(0.95, 0.5, 0.05, able=STEPWISE), says(0.2, 0.3, 0.4, able=STEPWISE)
    cascade = Cascade([cheap, dear])
    assert await values(cascade, [Path(QUESTION, ("0", "1", "2"), True)]) == [[0.95, 0.3, 0.05]]
    assert await values(cascade, [Path(QUESTION, ("0", "2"), True)]) == [[0.95, 0.05]]
    assert len(dear.seen) == 1


async def test_with_an_aggregation_the_last_step_decides_a_cascade() -> None:
    cheap, dear = says(0.5, 0.95, able=STEPWISE), says(0.3, 0.3)
    cascade = Cascade([cheap, dear], aggregation=Aggregation.LAST)
    asked = [Path(QUESTION, ("0", "1"), True), Path(QUESTION, ("1", "0"), True)]
    assert await values(cascade, asked) == [[0.95], [0.3]]
    assert [one.steps for one in dear.seen[0]] == [("1", "0")]


@pytest.mark.parametrize("sure", [(0.9, 0.1), (0.5, 0.5), (math.nan, 0.9), (0.1, math.inf)])
def test_bounds_that_leave_nothing_between_are_refused(sure: tuple[float, float]) -> None:
    with pytest.raises(ParameterError, match="the first below the second"):
        Cascade([Judge()], sure)


def remainder(factor: int, text: str) -> float:
    return len(text) * factor % 97 / 97


async def test_all_of_them_keep_the_clauses() -> None:
    def scripted() -> list[ScriptedVerifier]:
        return [ScriptedVerifier(partial(remainder, place)) for place in (3, 7)]

    how: How
    for how in ("mean", "product", "minimum"):
        await check_verifier(partial(Combined, scripted(), how))
    await check_verifier(lambda: Cascade(scripted(), (0.3, 0.6)))
    await check_verifier(lambda: Cascade(scripted(), (0.3, 0.6), aggregation=Aggregation.LAST))


async def test_a_search_charges_what_each_path_took() -> None:
    cheap = Judge(lambda text: derive(text) % 2 * 0.95, replace(ABLE, dollars_per_token=0.001), tokens=3)
    dear = Judge(lambda text: 0.5, replace(ABLE, dollars_per_token=0.01), tokens=5)
    cascade = Cascade([cheap, Cascade([dear, dear], (0.4, 0.8))], (-1, 0.9))
    outcome = await solve(
        "What?", generator=ScriptedGenerator(tree_script()), verifier=cascade, strategy=BestOfN(n=8),
        budget="1000calls",
    )  # fmt: skip
    asked = len(cheap.seen[0])
    unsure = len(dear.seen[0])
    assert 0 < unsure < asked
    tokens = 3 * asked + 10 * unsure
    assert outcome.usage.verifier_calls == asked + 2 * unsure
    assert outcome.usage.verifier_tokens == tokens
    assert outcome.usage.dollars == pytest.approx(0.001 * outcome.usage.generated + 0.01 * tokens)
