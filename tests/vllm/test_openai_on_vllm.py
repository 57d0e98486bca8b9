"""vLLM asked as any OpenAI-compatible server: what it shows, and the same searches by chat, by text and cut here."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import tts
from tests.laws.watched import QUESTION
from tests.vllm.served import CONTEXT, MODELS, NAME, POLICY, Server, settled
from tts.backends.embedded import EmbeddedScorer
from tts.backends.http import Endpoint
from tts.backends.openai.probe import Abilities, probe
from tts.backends.openai.server import OpenAIServer
from tts.errors import NeedsError
from tts.testing import check_generator
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from tts.outcome import Outcome

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""Both loops are tried on scripted servers; here it is the engine that is looked at."""
STEPWISE = ["a_star", "beam", "particle_filter"]
NAMES = [*STEPWISE, "best_of_n", "first_finish", "self_consistency"]


@cache
def abilities(url: str) -> Abilities:
    async def ask() -> Abilities:
        endpoint = Endpoint(url)
        try:
            return await probe(endpoint, question=QUESTION)
        finally:
            await endpoint.aclose()

    return anyio.run(ask)


@pytest.fixture
def found(policy: Server) -> Abilities:
    return abilities(policy.url)


def by(way: str, found: Abilities) -> dict[str, Any]:
    """What makes a generator draw by chat, by text, or without the server's word on stops."""
    if way == "text":
        return {"abilities": found, "tokenizer": str(MODELS / POLICY)}
    assert found.chat is not None
    told = found.chat if way == "chat" else replace(found.chat, stop_field=None)
    return {"abilities": replace(found, chat=told)}


def made(server: Server, **options: Any) -> OpenAIServer:
    return OpenAIServer(server.url, task="countdown", max_tokens=96, step_tokens=32, **options)


async def test_it_lacks_nothing(found: Abilities) -> None:
    assert (found.model, found.context, found.absent) == (NAME, CONTEXT, {})
    assert found.text is not None
    assert found.chat is not None
    assert found.engine is not None
    assert found.engine.startswith("vllm")
    for route, dialect in ((found.text, "text"), (found.chat, "continue_final_message")):
        assert route.lacks == {}
        assert (route.continues, route.stop_field, route.stop_kept) == (dialect, "stop_reason", False)
        assert (route.logprobs, route.top_logprobs, route.seed_bits) == (True, 20, 63)
        assert (route.streams, route.counts_along, route.tells_cached, route.several) == (True, True, True, True)
    assert found.sampled_tokens < 600


@pytest.mark.parametrize("way", ["chat", "text", "cut here"])
async def test_promises_are_kept(way: str, policy: Server, found: Abilities) -> None:
    await check_generator(lambda: made(policy, **by(way, found)), QUESTION, max_tokens=64)


async def searched(generator: OpenAIServer, name: str) -> Outcome:
    verifier = ProcessReward(EmbeddedScorer())
    try:
        return await tts.solve(QUESTION, strategy=name, generator=generator, verifier=verifier, seed=3)
    finally:
        await verifier.aclose()
        await generator.aclose()


@pytest.mark.parametrize("name", NAMES)
async def test_every_way_finds_the_same(name: str, policy: Server, found: Abilities) -> None:
    ways = ["chat", "text", "cut here"]
    outcomes = [await searched(made(policy, **by(way, found)), name) for way in ways]
    assert outcomes[0].answer is not None
    assert len({(outcome.answer, outcome.text) for outcome in outcomes}) == 1
    if name != "first_finish":  # how far the losers had come is a matter of timing
        chat, text, cut = [outcome.usage.generated for outcome in outcomes]
        assert chat == text <= cut  # what comes in one piece with a delimiter is counted too
        assert [outcome.usage.unobserved > 0 for outcome in outcomes] == [False, False, name in STEPWISE]


async def test_the_engine_sampled_what_was_charged(policy: Server, found: Abilities) -> None:
    for way in ("chat", "text", "cut here"):
        generator = made(policy, **by(way, found))
        await generator.connect()  # which costs a token where a tokenizer is to be compared
        before = await settled(policy)
        usage = (await searched(generator, "beam")).usage
        sampled = (await settled(policy)).generated - before.generated
        assert usage.generated <= sampled <= usage.generated + usage.unobserved


async def test_what_it_is_said_to_lack_is_refused_without_a_token(policy: Server, found: Abilities) -> None:
    assert found.chat is not None
    lacking = replace(found, chat=replace(found.chat, continues=None, lacks={"continues": "it begins a new turn"}))
    before = await settled(policy)
    with pytest.raises(NeedsError, match=r"begins a new turn.*best_of_n, first_finish, self_consistency would do"):
        await searched(made(policy, abilities=lacking), "beam")
    assert (await settled(policy)).generated == before.generated
