"""Searches over HTTP are those of the same script in this process: answers, graphs, charges, thinking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tts
from tests.backends.fake_vllm import FakeVLLM
from tts.backends.vllm_server import VLLMServer
from tts.fakes import ScriptedGenerator, ScriptedVerifier, tree_script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tts.fakes import Script
    from tts.outcome import Outcome

NAMES = ["a_star", "beam", "best_of_n", "first_finish", "particle_filter", "self_consistency"]
THINKING = tts.Sampling(max_tokens=120, step_tokens=60, thinking_tokens=20)


def thinks(path: str, seed: int) -> str:
    """Thirty letters of thinking, then the answer; the answer at once where the thinking was ended."""
    return "\\boxed{1}" if path else "<think>" + "x" * 30 + "</think>\n\n\\boxed{1}"


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[FakeVLLM]:
    script: Script = getattr(request, "param", tree_script())
    with FakeVLLM(script) as fake:
        yield fake


@pytest.fixture
async def generator(server: FakeVLLM) -> AsyncIterator[VLLMServer]:
    backend = VLLMServer(server.url, priorities=False)
    yield backend
    await backend.aclose()


def drawn(outcome: Outcome) -> list[tuple[object, ...]]:
    assert outcome.graph is not None
    return sorted((node.key, node.text, node.tokens, node.score, node.status) for node in outcome.graph)


@pytest.mark.parametrize("name", NAMES)
async def test_the_same_search_as_in_this_process(name: str, server: FakeVLLM, generator: VLLMServer) -> None:
    there = await tts.solve("?", strategy=name, generator=generator, verifier=ScriptedVerifier(), seed=5)
    here = await tts.solve(
        "?", strategy=name, generator=ScriptedGenerator(tree_script()), verifier=ScriptedVerifier(), seed=5
    )
    assert (there.answer, there.ended) == (here.answer, here.ended)
    if name == "first_finish":  # how far the losers had come is a matter of timing
        assert there.usage.generated <= server.generated <= there.usage.generated + there.usage.unobserved
    else:
        assert drawn(there) == drawn(here)
        assert there.usage.generated == here.usage.generated == server.generated


@pytest.mark.parametrize("server", [thinks], indirect=True)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "first_finish"])
async def test_thinking_is_ended_at_its_cap(name: str, server: FakeVLLM, generator: VLLMServer) -> None:
    there, here = [
        await tts.solve("?", strategy=name, generator=one, verifier=ScriptedVerifier(), sampling=THINKING, seed=1)
        for one in (generator, ScriptedGenerator(thinks))
    ]
    assert (there.answer, there.thinking, drawn(there)) == ("1", here.thinking, drawn(here))
    assert here.usage.generated == there.usage.generated == server.generated


async def test_every_child_of_a_node_comes_in_one_request_with_the_prompt_as_tokens(
    server: FakeVLLM, generator: VLLMServer
) -> None:
    strategy = tts.strategy("beam", width=2, expansion=3)
    outcome = await tts.solve("?", strategy=strategy, generator=generator, verifier=ScriptedVerifier())
    bodies = [call.body for call in server.calls if call.path == "/v1/completions"]
    assert bodies[0]["n"] == 6
    assert sum(body["n"] for body in bodies) == outcome.usage.samples
    assert all(isinstance(body["prompt"][0], int) and "stop" in body for body in bodies)
    assert len({(tuple(body["prompt"]), body["seed"]) for body in bodies}) == len(bodies)
    assert server.count("/tokenize") == 1


async def test_a_problem_names_itself_to_routers_the_same_way_each_time(
    server: FakeVLLM, generator: VLLMServer
) -> None:
    names = []
    for question in ("a?", "b?", "a?"):
        before = len(server.calls)
        await tts.solve(question, strategy="beam", generator=generator, verifier=ScriptedVerifier())
        calls = [call for call in server.calls[before:] if call.path == "/v1/completions"]
        names.append({call.headers["x-session-id"] for call in calls})
    assert len(names[0]) == len(names[1]) == 1
    assert names[0] == names[2] != names[1]
