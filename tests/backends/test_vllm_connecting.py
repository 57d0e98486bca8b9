"""A vLLM server asked what it can do, and its words and tokens: what will not do is refused before it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tts
from tests.backends.fake_vllm import MODEL, FakeVLLM, Response, refusal
from tests.backends.vllm_talk import ASKED, draw, instead
from tts.affinity import on_behalf_of
from tts.backends.language import Language
from tts.backends.vllm_server import COMPLETIONS, FIELDS, VLLMServer
from tts.errors import BackendError, ParameterError, ProblemError, TransientError
from tts.fakes import letters, tree_script
from tts.types import Message, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.backends.fake_vllm import Call

FOLDER = Path(__file__).parents[2] / "backends/embedded/models/arithmetic-policy"
TEMPLATE = "{% for message in messages %}<{{ message.content }}>\n{% endfor %}"


@pytest.fixture
def server() -> Iterator[FakeVLLM]:
    with FakeVLLM(tree_script()) as fake:
        yield fake


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
    "a reward model": (
        None,
        instead("/openapi.json", {"paths": {"/v1/models": {}, "/classify": {}}}),
        "has no /v1/completions: a reward model draws no text",
    ),
    "no key": (None, instead("/v1/models", {"error": "Unauthorized"}, 401), "from TTS_API_KEY"),
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


@pytest.mark.parametrize(
    "version", ["0.20.0", "0.20.0rc1", "1.0", "0.32.1.dev3+gabc", "0.0.dev", "dev", "0.1.dev15000+g12"]
)
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


def described(schema: Any) -> Any:
    content = {"application/json": {"schema": schema}}
    return {"paths": {COMPLETIONS: {"post": {"requestBody": {"content": content}}}}, "a": {"anyOf": [{"$ref": "#/a"}]}}


@pytest.mark.parametrize(
    "document",
    [
        None, [], {"paths": {}}, {"paths": []}, {"paths": {COMPLETIONS: {"post": 3}}}, "text",
        described(True), described({"anyOf": None}), described({"anyOf": [True]}), described({"$ref": 1}),
        described({"$ref": "#/a"}),
    ],
)  # fmt: skip
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


async def test_priorities_that_a_streamed_request_is_refused_for_are_left_out(server: FakeVLLM) -> None:
    backend = VLLMServer(server.url)
    with on_behalf_of("a"), on_behalf_of("b"):
        received = await draw(backend, cancellable=True)
    assert len(received.completions) == 2
    bodies = [call.body for call in server.calls if call.path == COMPLETIONS]
    assert [("priority" in body, body["stream"]) for body in bodies] == [(True, True), (False, True)]


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


@pytest.mark.parametrize(
    ("caps", "found"),
    [
        ({"max_tokens": 4096}, "max_tokens=4096 does not fit: .* holds 4096 tokens"),
        ({"step_tokens": 9999}, "step_tokens=9999 does not fit"),
        ({"max_tokens": -3}, "max_tokens is -3; it is a number of tokens"),
        ({"max_tokens": "96"}, "max_tokens is '96'"),
    ],
)
async def test_a_cap_that_cannot_hold_is_refused(server: FakeVLLM, caps: dict[str, Any], found: str) -> None:
    backend = VLLMServer(server.url, **caps)
    with pytest.raises(ParameterError, match=found):
        await backend.connect()
    await backend.aclose()
