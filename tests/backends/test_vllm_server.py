"""A generator on a vLLM server: connecting, what it refuses, whole tokens, faults and lies over real HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import tts
from tests.backends.fake_vllm import MODEL, FakeVLLM, Response, refusal, text_of
from tts.affinity import on_behalf_of
from tts.backends.language import Language
from tts.backends.vllm_server import COMPLETIONS, FIELDS, VLLMServer
from tts.checks import Received
from tts.errors import BackendError, ParameterError, ProblemError, TransientError
from tts.fakes import letters, tree_script
from tts.protocols import GenerationRequest
from tts.retry import Retry
from tts.testing import check_generator
from tts.types import Finish, Message, Prompt, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.backends.fake_vllm import Call

ASKED = (Message(role="user", content="hi"),)
FOLDER = Path(__file__).parents[2] / "backends/embedded/models/countdown-policy"
TEMPLATE = "{% for message in messages %}<{{ message.content }}>\n{% endfor %}"
QUICK = Retry(attempts=3, first_delay=0)


@pytest.fixture
def server() -> Iterator[FakeVLLM]:
    with FakeVLLM(tree_script()) as fake:
        yield fake


def instead(path: str, body: Any, status: int = 200) -> Callable[[Call], Response | None]:
    return lambda call: Response(status, body) if call.path == path else None


def request(prompt: Prompt, **changes: Any) -> GenerationRequest:
    values: dict[str, Any] = {
        "prompt": prompt, "text": "", "token_ids": (), "count": 2, "seed": 4096, "max_tokens": 60,
        "delimiters": ("\n\n",), "sampling": Sampling(temperature=0.7), **changes,
    }  # fmt: skip
    return GenerationRequest(**values)


async def draw(backend: VLLMServer, **changes: Any) -> Received:
    await backend.connect()
    prompt = await backend.encode(ASKED)
    received = Received(changes.get("count", 2))
    try:
        await backend.generate(request(prompt, **changes), received)
    finally:
        await backend.aclose()
    return received


async def test_it_keeps_the_promises_of_generators() -> None:
    with FakeVLLM(tree_script()) as server:
        await check_generator(lambda: VLLMServer(server.url))


async def test_what_it_can_do_is_known_once_it_was_asked(server: FakeVLLM) -> None:
    backend = VLLMServer(server.url + "/v1", task="math", max_tokens=50, dollars_per_token=2e-6)
    with pytest.raises(BackendError, match=r"has not been asked what it can do: await connect\(\) first"):
        backend.capabilities  # noqa: B018
    for _ in range(3):
        await backend.connect()
    able = backend.capabilities
    assert (able.name, able.context, able.task, able.max_tokens) == (f"vllm/{MODEL}", 4096, "math", 50)
    assert (able.logprobs, able.logprobs_free, able.exact_cancellation) == (True, False, False)
    assert able.fingerprint.items() >= {"engine": "vllm 0.32.0", "model": MODEL, "template": None}.items()
    assert server.count("/v1/models") == 1
    await backend.aclose()


MODELS = {"data": [{"id": "a", "max_model_len": 9}, {"id": "b", "root": "org/b", "max_model_len": None}]}
WRONG: dict[str, tuple[str | None, Callable[[Call], Response | None], str]] = {
    "too old": (None, instead("/version", {"version": "0.19.2"}), "runs vLLM 0.19.2; 0.20 or newer is needed"),
    "no vLLM": (None, instead("/version", {"error": "Not Found"}, 404), "does not say which vLLM.*openai:URL"),
    "another version": (None, instead("/version", {"version": "soon"}), "does not say which vLLM"),
    "no version": (None, instead("/version", []), "does not say which vLLM"),
    "no such model": ("c", instead("/v1/models", MODELS), "does not serve 'c'; it serves a, b"),
    "several models": (None, instead("/v1/models", MODELS), "serves a, b: say which model"),
    "no model": (None, instead("/v1/models", {"data": []}), "serves nothing"),
    "no list": (None, instead("/v1/models", {"data": [3]}), "no list of models"),
    "no key": (None, instead("/v1/models", {"error": "Unauthorized"}, 401), "variable that holds the key"),
}


@pytest.mark.parametrize("what", WRONG)
async def test_servers_that_will_not_do(server: FakeVLLM, what: str) -> None:
    model, server.misbehave, found = WRONG[what]
    backend = VLLMServer(server.url, model)
    with pytest.raises(BackendError, match=found) as raised:
        await backend.connect()
    assert not isinstance(raised.value, TransientError)
    assert server.url[7:] in str(raised.value)
    await backend.aclose()


async def test_one_of_several_models(server: FakeVLLM) -> None:
    server.misbehave = instead("/v1/models", MODELS)
    backend = VLLMServer(server.url, "b")
    await backend.connect()
    assert (backend.capabilities.name, backend.capabilities.context) == ("vllm/b", None)
    assert backend.capabilities.fingerprint["model"] == "org/b"
    await backend.aclose()


@pytest.mark.parametrize("version", ["0.20.0", "0.20.0rc1", "1.0", "0.32.1.dev3+gabc", "0.0.dev"])
async def test_versions_that_will_do(version: str) -> None:
    with FakeVLLM(version=version) as server:
        backend = VLLMServer(server.url)
        await backend.connect()
        await backend.aclose()


async def test_a_server_that_does_not_know_a_field_would_ignore_it(server: FakeVLLM) -> None:
    server.fields = [name for name in FIELDS if name not in ("return_token_ids", "top_k")]
    backend = VLLMServer(server.url)
    with pytest.raises(BackendError, match=r"does not know return_token_ids, top_k: it would ignore them silently"):
        await backend.connect()
    await backend.aclose()


@pytest.mark.parametrize("document", [None, [], {"paths": {}}, {"paths": {COMPLETIONS: {"post": 3}}}, "text"])
async def test_a_server_that_does_not_tell_its_fields_is_taken_at_its_word(server: FakeVLLM, document: Any) -> None:
    server.misbehave = instead("/openapi.json", document)
    backend = VLLMServer(server.url)
    await backend.connect()
    await backend.aclose()


async def test_a_server_that_knows_all_fields_will_do(server: FakeVLLM) -> None:
    server.fields = list(FIELDS)
    assert len((await draw(VLLMServer(server.url))).completions) == 2


async def test_every_field_that_is_sent_was_asked_about(server: FakeVLLM) -> None:
    sampling = Sampling(temperature=0.7, stops=("END",))
    await draw(
        VLLMServer(server.url, priorities=False), logprobs=True, top_logprobs=2, cancellable=True, sampling=sampling
    )
    (call,) = [call for call in server.calls if call.path == COMPLETIONS]
    assert set(call.body) <= set(FIELDS)


async def test_a_template_given_is_applied_here(server: FakeVLLM) -> None:
    backend = VLLMServer(server.url, template=TEMPLATE)
    await backend.connect()
    prompt = await backend.encode(ASKED)
    assert (prompt.text, list(prompt.token_ids)) == ("<hi>\n", list(letters("<hi>\n")))
    assert len(str(backend.capabilities.fingerprint["template"])) == 64
    assert not any("messages" in (call.body or {}) for call in server.calls)
    await backend.aclose()


async def test_a_tokenizer_given_must_be_the_servers(server: FakeVLLM) -> None:
    backend = VLLMServer(server.url, tokenizer=str(FOLDER))
    with pytest.raises(ParameterError, match=r"the tokenizer given is not that of 127.0.0.1"):
        await backend.connect()
    await backend.aclose()


async def test_a_tokenizer_given_spares_the_server_the_work(server: FakeVLLM) -> None:
    there = Language(FOLDER)
    server.misbehave = lambda call: (
        Response(body={"tokens": there.read(call.body["prompt"])}) if call.path == "/tokenize" else None
    )
    backend = VLLMServer(server.url, tokenizer=str(FOLDER))
    await backend.connect()
    asked = (Message(role="user", content="Use 3, 5, 7, 11 to make 24."),)
    prompt = await backend.encode(asked)
    await backend.tokenize("3 + 5\n\n")
    assert list(prompt.token_ids) == there.tokenize(there.render(asked))
    assert server.count("/tokenize") == 1
    assert server.count("/detokenize") == 0
    await backend.aclose()


async def test_the_same_text_is_asked_for_once(server: FakeVLLM) -> None:
    backend = VLLMServer(server.url)
    await backend.connect()
    assert [list(await backend.tokenize("Wait")) for _ in range(3)] == [list(letters("Wait"))] * 3
    assert server.count("/tokenize") == 1
    assert server.calls[-1].body == {"model": MODEL, "add_special_tokens": False, "prompt": "Wait"}
    await backend.aclose()


@pytest.mark.parametrize("role", ["user", "assistant"])
async def test_an_answer_that_was_begun_is_continued(server: FakeVLLM, role: Any) -> None:
    backend = VLLMServer(server.url)
    await backend.connect()
    await backend.encode([*ASKED, Message(role=role, content="so")])
    (call,) = [call for call in server.calls if call.path == "/tokenize"]
    begun = role == "assistant"
    assert (call.body["add_generation_prompt"], call.body["continue_final_message"]) == (not begun, begun)
    await backend.aclose()


@pytest.mark.parametrize("context", [2, 3])
async def test_a_prompt_without_room_is_refused_before_anything_is_drawn(context: int) -> None:
    with FakeVLLM(context=context) as server:
        with pytest.raises(ProblemError, match=rf"has 3 tokens; vllm/{MODEL} holds {context}"):
            await tts.solve("hi", generator=VLLMServer(server.url))
        assert server.generated == server.count(COMPLETIONS) == 0


async def test_a_prompt_that_the_server_refuses_to_read(server: FakeVLLM) -> None:
    server.misbehave = lambda call: refusal("roles must alternate") if call.path == "/tokenize" else None
    with pytest.raises(ProblemError, match=r"cannot be read: .*roles must alternate"):
        await tts.solve("hi", generator=VLLMServer(server.url))


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
