"""The server backend on the real engine: its clauses, and the traps that only a real engine sets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import tts
from tests.laws.watched import QUESTION
from tests.vllm.served import CONTEXT, NAME, Counters, Server, settled
from tts.backends.vllm_server import VLLMServer
from tts.checks import Received
from tts.errors import BackendError, ParameterError, ProblemError, TransientError
from tts.protocols import SEED_BLOCK, GenerationRequest
from tts.testing import check_generator
from tts.types import Completion, Finish, Message, Sampling

if TYPE_CHECKING:
    from tts.protocols import Generator


async def request_of(generator: Generator, **changes: Any) -> GenerationRequest:
    prompt = await generator.encode([Message(role="user", content=QUESTION)])
    request = GenerationRequest(
        prompt=prompt, text="", token_ids=(), count=1, seed=5 * SEED_BLOCK, max_tokens=64, delimiters=(),
        sampling=Sampling(),
    )  # fmt: skip
    return replace(request, **changes)


async def drawn(generator: Generator, request: GenerationRequest) -> list[Completion]:
    received = Received(request.count)
    await generator.generate(request, received)
    assert not received.unexpected
    return [received.completions[index] for index in range(request.count)]


async def test_keeps_the_clauses(policy: Server) -> None:
    await check_generator(lambda: VLLMServer(policy.url), QUESTION, max_tokens=64)


async def test_streamed_and_whole_answers_say_the_same(generator: VLLMServer) -> None:
    await generator.connect()
    whole = await request_of(generator, count=4, delimiters=("\n\n",), logprobs=True, top_logprobs=3)
    assert await drawn(generator, whole) == await drawn(generator, replace(whole, cancellable=True))
    await generator.aclose()


async def test_log_probabilities_are_as_many_as_asked_for(generator: VLLMServer) -> None:
    await generator.connect()
    for top in (1, 5, 20):
        for child in await drawn(generator, await request_of(generator, count=2, logprobs=True, top_logprobs=top)):
            assert child.logprobs is not None and child.top_logprobs is not None
            assert (len(child.logprobs), len(child.top_logprobs)) == (child.tokens, top * child.tokens)
            rows = [child.top_logprobs[at : at + top].tolist() for at in range(0, top * child.tokens, top)]
            assert all(row == sorted(row, reverse=True) for row in rows)
    await generator.aclose()


@pytest.mark.parametrize("streamed", [False, True])
async def test_text_and_ids_say_the_same_whatever_ended_them(generator: VLLMServer, streamed: bool) -> None:
    await generator.connect()
    stopping = Sampling(stops=(" (left", "boxed{(1"))
    ends: dict[Finish, dict[str, Any]] = {
        Finish.DELIMITER: {"delimiters": ("\n\n",)},
        Finish.STOP: {"sampling": stopping},
        Finish.EOS: {},
        Finish.LENGTH: {"max_tokens": 5},
    }
    for finish, changes in ends.items():
        for child in await drawn(generator, await request_of(generator, cancellable=streamed, **changes)):
            assert child.finish is finish
            spoken = list(child.token_ids or ())[: -1 if finish is Finish.EOS else None]
            assert list(await generator.tokenize(child.text)) == spoken
    await generator.aclose()


async def test_without_chance_all_children_are_the_same(generator: VLLMServer) -> None:
    await generator.connect()
    greedy = await request_of(generator, count=3, sampling=Sampling(temperature=0))
    one, *others = await drawn(generator, greedy)
    assert others == [one, one]
    await generator.aclose()


async def test_what_the_server_would_clamp_is_refused_before_it_is_sent(generator: VLLMServer, policy: Server) -> None:
    await generator.connect()
    before = await settled(policy)
    request = await request_of(generator, max_tokens=CONTEXT)
    with pytest.raises(ParameterError, match=str(CONTEXT)):
        await drawn(generator, request)
    after = await settled(policy)
    assert (after.read, after.generated) == (before.read, before.generated)
    fits = await drawn(generator, replace(request, max_tokens=CONTEXT - len(request.prompt.token_ids)))
    assert fits[0].finish is Finish.EOS
    await generator.aclose()


async def test_a_prompt_that_fills_the_context_is_refused(generator: VLLMServer, policy: Server) -> None:
    before = await settled(policy)
    long = f"Use {', '.join(str(number % 90 + 10) for number in range(CONTEXT))} to make 24."
    with pytest.raises(ProblemError, match="tokens"):
        await tts.solve(long, strategy="self_consistency", generator=generator)
    assert (await settled(policy)).generated == before.generated


async def test_a_model_that_is_not_served_is_named_with_those_that_are(policy: Server) -> None:
    with pytest.raises(BackendError, match=f"'other'.*{NAME}"):
        await tts.solve(QUESTION, strategy="self_consistency", generator=VLLMServer(policy.url, "other"))


async def test_a_server_that_scores_is_no_generator(prm: Server) -> None:
    with pytest.raises(BackendError):
        await tts.solve(QUESTION, strategy="self_consistency", generator=VLLMServer(prm.url, max_tokens=32))


async def test_what_is_not_there_cannot_be_connected_to() -> None:
    generator = VLLMServer("http://127.0.0.1:9", max_tokens=32)
    with pytest.raises(TransientError, match="cannot connect"):
        await generator.connect()
    await generator.aclose()


async def test_the_server_names_itself(generator: VLLMServer, policy: Server) -> None:
    await generator.connect()
    able = generator.capabilities
    assert (able.name, able.context) == (f"vllm/{NAME}", CONTEXT)
    assert str(able.fingerprint["engine"]).startswith("vllm 0.")
    assert Counters(policy.url).in_flight == 0
    await generator.aclose()
