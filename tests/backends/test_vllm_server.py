"""A generator on a vLLM server: what it refuses, whole tokens, priorities, faults and lies over real HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import tts
from tests.backends.fake_vllm import FakeVLLM, Response, text_of
from tests.backends.vllm_talk import ASKED, draw, request
from tts.affinity import on_behalf_of
from tts.backends.vllm_server import COMPLETIONS, VLLMServer
from tts.checks import Received
from tts.errors import BackendError, ParameterError, TransientError
from tts.fakes import letters, tree_script
from tts.retry import Retry
from tts.testing import check_generator
from tts.types import Finish, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.backends.fake_vllm import Call

QUICK = Retry(attempts=3, first_delay=0)


@pytest.fixture
def server() -> Iterator[FakeVLLM]:
    with FakeVLLM(tree_script()) as fake:
        yield fake


async def test_it_keeps_the_promises_of_generators() -> None:
    with FakeVLLM(tree_script()) as server:
        await check_generator(lambda: VLLMServer(server.url))


@pytest.mark.parametrize(("limit", "fits"), [(4093, True), (4094, False)])
async def test_more_tokens_than_there_is_room_for_are_refused_here(server: FakeVLLM, limit: int, fits: bool) -> None:
    if fits:
        await draw(VLLMServer(server.url), max_tokens=limit)
    else:
        with pytest.raises(ParameterError, match=r"prompt 3 \+ path 0 \+ max_tokens 4094 is more than the 4096"):
            await draw(VLLMServer(server.url), max_tokens=limit)
    assert server.count(COMPLETIONS) == int(fits)


@pytest.mark.parametrize("changes", [{"count": 0}, {"count": 4097}, {"max_tokens": 0}])
async def test_requests_out_of_range_are_refused_here(server: FakeVLLM, changes: dict[str, int]) -> None:
    with pytest.raises(ParameterError, match="out of range"):
        await draw(VLLMServer(server.url), **changes)
    assert server.count(COMPLETIONS) == 0


async def test_greedy_children_come_in_one_request(server: FakeVLLM) -> None:
    received = await draw(VLLMServer(server.url), sampling=Sampling(temperature=0), count=3)
    assert len({completion.text for completion in received.completions.values()}) == 1
    assert len(received.completions) == 3
    assert received.prompts == 3, "a prompt is counted once a request"
    assert server.count(COMPLETIONS) == 1


@pytest.mark.parametrize("refused", [True, False])
async def test_priorities_are_sent_until_the_server_refuses_them(server: FakeVLLM, refused: bool) -> None:
    if not refused:
        server.misbehave = lambda call: call.body.pop("priority") and None if call.path == COMPLETIONS else None
    backend = VLLMServer(server.url)
    await backend.connect()
    prompt, received = await backend.encode(ASKED), [Received(1) for _ in range(20)]

    async def one(sink: Received) -> None:
        await backend.generate(request(prompt, count=1), sink)

    async with anyio.create_task_group() as tasks:
        for sink in received:
            with on_behalf_of("problem"):
                tasks.start_soon(one, sink)
    assert all(len(sink.completions) == 1 for sink in received)
    before = server.count(COMPLETIONS)
    assert before > 20 if refused else before == 20
    with on_behalf_of("another"):
        await one(Received(1))
    assert server.count(COMPLETIONS) == before + 1, "a server that refused them is not asked again"
    await backend.aclose()


async def test_priorities_that_were_asked_for_must_be_had(server: FakeVLLM) -> None:
    backend = VLLMServer(server.url, priorities=True)
    with (
        on_behalf_of("a"),
        on_behalf_of("b"),
        pytest.raises(ParameterError, match="Priority scheduling is not enabled"),
    ):
        await draw(backend)


NOW = 1000
"""A token that says more than the delimiter within it."""


def cut_within_a_token(call: Call) -> Response | None:
    """Say "one\n\nNow" by three letters and a token, as vLLM does: the text ends behind the delimiter."""
    if call.path == "/detokenize":
        texts = ["\n\nNow" if token == NOW else chr(token) for token in call.body["tokens"]]
        return Response(body={"prompt": "".join(texts)})
    if call.path != COMPLETIONS:
        return None
    ids = [*letters("one"), NOW]
    choices = [
        {"index": at, "text": "one\n\n", "token_ids": ids, "finish_reason": "stop", "stop_reason": "\n\n"}
        for at in range(call.body["n"])
    ]
    reply = {"choices": choices, "usage": {"prompt_tokens": len(call.body["prompt"])}}
    return Response(chunks=[reply]) if call.body.get("stream") else Response(body=reply)


@pytest.mark.parametrize("cancellable", [False, True])
async def test_a_text_cut_within_its_last_token_says_all_of_it(server: FakeVLLM, cancellable: bool) -> None:
    server.misbehave = cut_within_a_token
    backend = VLLMServer(server.url)
    received = await draw(backend, count=3, cancellable=cancellable)
    for completion in received.completions.values():
        assert (completion.text, completion.finish, completion.tokens) == ("one\n\nNow", Finish.DELIMITER, 4)
        assert list(completion.token_ids or ()) == [*letters("one"), NOW]


async def test_what_goes_on_after_such_a_token_has_it_as_its_prefix(server: FakeVLLM) -> None:
    server.misbehave = cut_within_a_token
    strategy = tts.strategy("beam", width=1, expansion=1)
    judge = tts.testing.ScriptedVerifier()
    sampling = Sampling(max_tokens=8, step_tokens=4)
    outcome = await tts.solve(
        "hi", strategy=strategy, generator=VLLMServer(server.url), verifier=judge, sampling=sampling
    )
    prompts = [call.body["prompt"] for call in server.calls if call.path == COMPLETIONS]
    assert prompts == [list(letters("hi\n")), [*letters("hi\none"), NOW]]
    assert outcome.graph is not None
    assert {node.path_text for node in outcome.graph if node.depth == 2} == {"one\n\nNow" * 2}
    assert max(judge.seen, key=lambda path: len(path.steps)).steps[0] == "one\n\n"


async def test_a_token_that_ends_a_sequence_is_counted_and_not_shown(server: FakeVLLM) -> None:
    received = await draw(VLLMServer(server.url), delimiters=(), count=1)
    (child,) = received.completions.values()
    assert child.finish is Finish.EOS
    assert child.token_ids is not None
    assert text_of(list(child.token_ids)) == child.text
    assert child.tokens == len(child.text) + 1


LIES: dict[str, Callable[[Any], object]] = {
    "no token ids": lambda said: [choice.pop("token_ids") for choice in said["choices"]],
    "children missing": lambda said: said["choices"].pop(),
    "a child twice": lambda said: said["choices"].append(said["choices"][0]),
    "another prompt": lambda said: said["usage"].update(prompt_tokens=99),
    "fewer tokens": lambda said: [choice.update(finish_reason="length") for choice in said["choices"]],
    "no choices": lambda said: said.pop("choices"),
}


@pytest.mark.parametrize("cancellable", [False, True])
@pytest.mark.parametrize("lie", LIES)
async def test_lies_are_typed_errors(server: FakeVLLM, lie: str, cancellable: bool) -> None:
    def spoil(call: Call) -> Response | None:
        if call.path != COMPLETIONS:
            return None
        call.body.pop("stream", None)
        said = json.loads(json.dumps(server.answer(call).body))
        LIES[lie](said)
        return Response(body=b"data: %s\n\ndata: [DONE]\n\n" % json.dumps(said).encode() if cancellable else said)

    server.misbehave = spoil
    with pytest.raises(BackendError, match=r"127.0.0.1") as raised:
        await draw(VLLMServer(server.url), cancellable=cancellable)
    assert not isinstance(raised.value, TransientError)


async def test_what_came_before_a_stream_broke_is_known(server: FakeVLLM) -> None:
    server.misbehave = lambda call: (
        Response(chunks=server.answer(call).chunks, cut=400) if call.path == COMPLETIONS else None
    )
    backend = VLLMServer(server.url)
    await backend.connect()
    received = Received(2)
    with pytest.raises(TransientError, match="cut before its end"):
        await backend.generate(request(await backend.encode(ASKED), cancellable=True), received)
    assert 0 < sum(received.seen) <= server.generated
    assert received.prompts == 3
    await backend.aclose()


def give_up_the_first(call: Call) -> Response | None:
    """Say of one child in the first reply that it was aborted."""
    if call.path != COMPLETIONS or call.number:
        return None
    said = cut_within_a_token(call)
    assert said is not None
    (said.chunks or [said.body])[0]["choices"][0].update(finish_reason="abort")
    return said


def look_up_nothing(status: int) -> Callable[[Call], Response | None]:
    """Cut one child within its last token, and do not say what that token says, the first time."""

    def misbehave(call: Call) -> Response | None:
        if call.path == "/detokenize" and NOW in call.body["tokens"] and not asked:
            asked.append(call)
            return Response(status, {"error": "no"})
        if call.path == COMPLETIONS and not call.number:
            said = cut_within_a_token(call)
            assert said is not None
            for choice in (said.chunks or [said.body])[0]["choices"][1:]:
                choice.update(text="one\n\n", token_ids=[*letters("one\n\n")])
            return said
        return cut_within_a_token(call) if call.path == "/detokenize" else None

    asked: list[Call] = []
    return misbehave


ONE_BAD: dict[str, tuple[Callable[[], Callable[[Call], Response | None]], type[BackendError]]] = {
    "aborted": (lambda: give_up_the_first, TransientError),
    "not looked up now": (lambda: look_up_nothing(503), TransientError),
    "never looked up": (lambda: look_up_nothing(400), BackendError),
}


@pytest.mark.parametrize("cancellable", [False, True])
@pytest.mark.parametrize("what", ONE_BAD)
async def test_what_is_wrong_with_a_child_takes_none_of_the_others_with_it(
    server: FakeVLLM, what: str, cancellable: bool
) -> None:
    backend, received = VLLMServer(server.url), Received(4)
    await backend.connect()
    asked = request(await backend.encode(ASKED), count=4, cancellable=cancellable)
    misbehaviour, kind = ONE_BAD[what]
    server.misbehave = misbehaviour()
    with pytest.raises(BackendError) as raised:
        await backend.generate(asked, received)
    await backend.aclose()
    assert type(raised.value) is kind
    assert getattr(raised.value, "began", True), "the children were drawn, whatever became of the look-up"
    assert sorted(received.completions) == [1, 2, 3]
    assert received.seen[0] == 4, "what came of the bad one is known"


async def test_a_child_that_goes_on_in_a_stream_outlives_one_that_was_given_up(server: FakeVLLM) -> None:
    def misbehave(call: Call) -> Response | None:
        if call.path != COMPLETIONS:
            return None
        said = server.answer(call)
        assert said.chunks is not None
        said.chunks[0]["choices"][0].update(finish_reason="abort")
        said.chunks = [each for each in said.chunks if each is said.chunks[0] or not of_child(each, 0)]
        return said

    def of_child(event: Any, index: int) -> bool:
        return any(choice["index"] == index for choice in event["choices"])

    backend, received = VLLMServer(server.url), Received(3)
    await backend.connect()
    asked = request(await backend.encode(ASKED), count=3, cancellable=True)
    server.misbehave = misbehave
    with pytest.raises(TransientError, match="child 0: the server gave it up"):
        await backend.generate(asked, received)
    await backend.aclose()
    assert sorted(received.completions) == [1, 2]


async def test_only_the_child_that_was_lost_is_drawn_and_paid_again(server: FakeVLLM) -> None:
    def abort_one(call: Call) -> Response | None:
        if call.path != COMPLETIONS or call.number:
            return None
        said = server.answer(call)
        said.body["choices"][1].update(finish_reason="abort")
        return said

    server.misbehave = abort_one
    generator = VLLMServer(server.url, priorities=False)
    outcome = await tts.solve("hi", strategy="self_consistency", generator=generator, retry=QUICK)
    drawn = [call.body["n"] for call in server.calls if call.path == COMPLETIONS]
    assert drawn == [drawn[0], 1]
    assert outcome.usage.generated == server.generated
    assert outcome.usage.failed > 0


@pytest.mark.parametrize("path", ["/version", "/v1/models", "/tokenize", "/detokenize", COMPLETIONS])
async def test_a_fault_that_passes_is_tried_again_wherever_it_comes(server: FakeVLLM, path: str) -> None:
    server.misbehave = lambda call: Response(reset=True) if call.path == path and call.number < 2 else None
    outcome = await tts.solve("hi", generator=VLLMServer(server.url), retry=QUICK)
    assert outcome.answer is not None
    assert server.count(path) >= 3


@pytest.mark.parametrize("path", ["/version", "/v1/models", "/tokenize", "/detokenize", COMPLETIONS])
async def test_a_fault_that_stays_is_typed_wherever_it_comes(server: FakeVLLM, path: str) -> None:
    server.misbehave = lambda call: Response(503, {"error": "busy"}) if call.path == path else None
    with pytest.raises(TransientError, match=f"{path}: status 503: busy"):
        await tts.solve("hi", generator=VLLMServer(server.url), retry=QUICK)
    assert server.count(path) == 3
