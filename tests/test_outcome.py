"""What a search came to: candidates, support, usage, and what is left of it as JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import tts
from tests.freely import search_freely
from tests.nodes import finished, graph_of, unfinished
from tts.fakes import GENERATES, JUDGES, ScriptedGenerator, shuffled, tree_script
from tts.graph import Status
from tts.laws import Conditions
from tts.outcome import Ended, Outcome, candidates_of, fallback_answer, support_of
from tts.selection import Answer, best
from tts.types import Sampling
from tts.voting import vote

if TYPE_CHECKING:
    from tts.graph import Node
    from tts.search import Search


def test_support_is_the_share_of_readable_answers_that_agree() -> None:
    graph = graph_of(finished("1/2"), finished("0.5"), finished("3"), finished(""), unfinished("3"))
    assert support_of(vote(graph[1:])) == pytest.approx(2 / 3)
    assert support_of(best([])) is None
    assert support_of(best(graph[4:5])) is None
    assert support_of(Answer(graph[1], ())) is None, "a strategy that names no candidates"


def test_candidates_say_what_spoke_for_them() -> None:
    graph = graph_of(finished("3", score=0.5), unfinished("4"))
    graph[1].scores = (0.25, 0.5)
    first, second = candidates_of(vote(graph[1:]))
    assert (first.key, first.answer, first.finished, first.score, first.scores) == ("0", "3", True, 0.5, (0.25, 0.5))
    assert (first.votes, first.text) == (1, "So \\boxed{3}")
    assert (second.answer, second.finished, second.votes) == (None, False, None)


def test_after_an_error_the_answer_is_read_from_what_there_is() -> None:
    graph = graph_of(finished("3", score=0.2), finished("4", score=0.9), finished("5", score=0.5))
    graph[2].status = Status.CANCELLED
    assert fallback_answer(graph[0].graph).chosen is graph[3]
    assert fallback_answer(graph_of()[0].graph).chosen is None


async def test_it_is_json_but_for_its_graph_and_comes_back_whole() -> None:
    outcome = await tts.solve("What is it?", generator=ScriptedGenerator(tree_script()))
    assert outcome.graph is not None
    again = Outcome.model_validate_json(outcome.model_dump_json())
    assert again.graph is None
    assert again == outcome.model_copy(update={"graph": None})


@pytest.mark.parametrize("meter", ["dollars", "flops"])
async def test_what_has_no_rate_is_not_said_to_cost_nothing(meter: str) -> None:
    async def body(s: Search) -> list[Node]:
        return await s.expand(s.root, 2, whole=True, scored=True)

    rate = f"{meter}_per_token"
    rated = (await search_freely(body)).ended().usage
    assert getattr(rated, meter) > 0
    for conditions in (
        Conditions(able=replace(GENERATES, **{rate: None})),  # type: ignore[arg-type]
        Conditions(judge=replace(JUDGES, **{rate: None})),  # type: ignore[arg-type]
    ):
        assert getattr((await search_freely(body, conditions)).ended().usage, meter) is None


async def test_prompt_tokens_have_prices_of_their_own() -> None:
    able = replace(GENERATES, dollars_per_token=0.0, dollars_per_prompt_token=0.5)
    generator = ScriptedGenerator(tree_script(), able=able)
    outcome = await tts.solve("What?", generator=generator)
    assert outcome.usage.dollars == pytest.approx(0.5 * generator.prompts)


async def test_tokens_off_every_finished_path_are_pruned() -> None:
    async def body(s: Search) -> list[Node]:
        first, second = await s.expand(s.root, 2)
        return [second, *await s.expand(first, 2, whole=True)]

    trial = await search_freely(body)
    outcome = trial.ended()
    assert outcome.graph is not None
    left = next(node for node in outcome.graph if node.key == (1,))
    assert outcome.usage.pruned == left.tokens > 0


async def test_how_it_ended_is_told() -> None:
    async def nothing(s: Search) -> list[Node]:
        return []

    async def whole(s: Search) -> list[Node]:
        return await s.expand(s.root, 3, whole=True)

    assert (await search_freely(whole)).ended().ended is Ended.DONE
    assert (await search_freely(nothing)).ended().ended is Ended.NO_ANSWER
    mute = Conditions(script=lambda path, seed: "I cannot say")
    outcome = (await search_freely(whole, mute)).ended()
    assert (outcome.ended, outcome.answer, outcome.text) == (Ended.NO_ANSWER, None, "I cannot say")


async def test_thinking_is_told_apart() -> None:
    script = Conditions(script=lambda path, seed: "<think>is it \\boxed{1}?</think>No: \\boxed{2}")
    outcome = (await search_freely(lambda s: s.expand(s.root, whole=True), script)).ended()
    assert (outcome.answer, outcome.thinking) == ("2", "is it \\boxed{1}?")
    assert outcome.text == outcome.candidates[0].text == "No: \\boxed{2}"


async def test_what_the_result_depends_on_is_in_its_fingerprint() -> None:
    async def printed(**changes: object) -> object:
        sampling = Sampling(max_tokens=100, **changes)  # type: ignore[arg-type]
        outcome = await tts.solve("What?", generator=ScriptedGenerator(tree_script(), shuffled(1)), sampling=sampling)
        return outcome.fingerprint

    assert await printed() == await printed()
    assert await printed() != await printed(temperature=0.1)
    assert await printed() != await printed(stops=("!",))
