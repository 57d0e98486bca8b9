"""What a server can do is what it does when asked, whatever it is called and whatever it claims."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.backends.fake_openai import CHAT, COMPLETIONS, Call, FakeOpenAI, Manners, Response, refusal
from tts.backends.http import Endpoint
from tts.backends.openai.probe import Abilities, probe
from tts.errors import BackendError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

BEST = Manners()


async def look(manners: Manners = BEST, **options: Any) -> Abilities:
    with FakeOpenAI(manners=manners) as fake:
        return await look_at(fake, **options)


async def look_at(fake: FakeOpenAI, **options: Any) -> Abilities:
    endpoint = Endpoint(fake.url, key=options.pop("key", "NO_KEY_IS_SET"))
    try:
        return await probe(endpoint, options.pop("model", None), **options)
    finally:
        await endpoint.aclose()


async def test_the_best_server_lacks_nothing() -> None:
    found = await look(Manners(context=4096))
    assert (found.model, found.context, found.engine, found.absent) == ("scripted", 4096, "fake", {})
    assert found.text is not None
    assert found.chat is not None
    assert (found.text.continues, found.chat.continues) == ("text", "continue_final_message")
    for route in (found.text, found.chat):
        assert route.lacks == {}
        assert (route.limit, route.limited, route.counts, route.several) == ("max_tokens", True, True, True)
        assert (route.logprobs, route.top_logprobs, route.seed_bits) == (True, 20, 63)
        assert (route.stop_field, route.stop_kept, route.reasoning) == ("stop_reason", False, None)
        assert (route.streams, route.counts_along, route.tells_cached) == (True, True, True)
        assert route.neutral["top_k"] == 0


SHOWN: dict[str, tuple[Manners, dict[str, object], str]] = {
    "prefix in the message": (replace(BEST, dialect="prefix"), {"continues": "prefix"}, ""),
    "a plain last message": (replace(BEST, dialect="plain"), {"continues": "plain"}, ""),
    "a new turn": (replace(BEST, dialect=None), {"continues": None}, "continues"),
    "trims what was begun": (replace(BEST, trims=True), {"continues": None}, "continues"),
    "another name of the cap": (replace(BEST, limit="max_completion_tokens"), {"limit": "max_completion_tokens"}, ""),
    "no cap": (replace(BEST, caps=False), {"limited": False}, "limited"),
    "seeds ignored": (replace(BEST, seeds="ignored"), {"seed_bits": 0}, "seed_bits"),
    "small seeds": (replace(BEST, seeds="small"), {"seed_bits": 31}, ""),
    "logprobs promised": (replace(BEST, logprobs="none"), {"logprobs": False, "top_logprobs": 0}, "logprobs"),
    "logprobs refused": (replace(BEST, logprobs="refused"), {"logprobs": False}, "logprobs"),
    "one logprob too few": (replace(BEST, logprobs="short"), {"logprobs": False, "top_logprobs": 0}, "logprobs"),
    "five of the most likely": (replace(BEST, most=5), {"logprobs": True, "top_logprobs": 5}, ""),
    "no counts": (replace(BEST, counts=False), {"counts": False, "limited": False}, "counts"),
    "counts at the end": (replace(BEST, streams="end"), {"streams": True, "counts_along": False}, ""),
    "streams without counts": (replace(BEST, streams="never"), {"streams": False}, "streams"),
    "SGLang's field": (replace(BEST, stop_field="matched_stop"), {"stop_field": "matched_stop"}, ""),
    "stop not told": (replace(BEST, stop_field=None), {"stop_field": None}, "stop_field"),
    "stop told and kept": (replace(BEST, stop_kept=True), {"stop_field": "stop_reason", "stop_kept": True}, ""),
    "stops ignored": (replace(BEST, stops=False), {"stop_field": None}, "stop_field"),
    "one at a time": (replace(BEST, several=False), {"several": False}, "several"),
    "nothing beyond the standard": (
        replace(BEST, strict=True, dialect="prefix"),
        {"neutral": {"presence_penalty": 0.0, "frequency_penalty": 0.0}, "continues": "prefix", "counts_along": False},
        "",
    ),
}


@pytest.mark.parametrize("name", SHOWN)
async def test_each_manner_shows(name: str) -> None:
    manners, expected, lacking = SHOWN[name]
    route = (await look(manners, paths=(CHAT,))).route(CHAT)
    assert {ability: getattr(route, ability) for ability in expected} == expected
    assert set(route.lacks) == ({lacking} if lacking else set())


async def test_why_something_is_lacking_is_kept() -> None:
    lacks = (await look(replace(BEST, dialect=None, seeds="ignored"), paths=(CHAT,))).route(CHAT).lacks
    assert "was continued by" in lacks["continues"]
    assert all(f"{dialect}: " in lacks["continues"] for dialect in ("continue_final_message", "prefix", "plain"))
    assert "the same seed gave" in lacks["seed_bits"]


async def test_thinking_that_is_split_off_shows_and_is_not_continued() -> None:
    with FakeOpenAI(lambda path, seed: "<think>one two three four five six seven</think>Yes.") as fake:
        fake.manners = replace(BEST, reasoning="reasoning")
        found = await look_at(fake)
    assert found.chat is not None
    assert (found.chat.reasoning, found.chat.continues) == ("reasoning", None)
    assert "reasoning parser" in found.chat.lacks["continues"]
    assert found.text is not None
    assert (found.text.reasoning, found.text.continues) == (None, "text")


async def test_an_answer_that_repeats_itself_shows_nothing() -> None:
    with FakeOpenAI(lambda path, seed: "ab" * 100) as fake:
        fake.manners = replace(BEST, dialect=None)
        found = await look_at(fake, paths=(CHAT,))
    assert "cannot be told from the first: give a question=" in found.route(CHAT).lacks["continues"]


async def test_a_question_that_is_given_is_all_that_is_asked() -> None:
    with FakeOpenAI() as fake:
        await look_at(fake, question="What is it?", render=lambda text: f"<{text}>\n")
        prompts = {body["prompt"].partition("\n")[0] for body in fake.asked() if "prompt" in body}
        turns = {body["messages"][0]["content"] for body in fake.asked() if "messages" in body}
    assert (prompts, turns) == ({"<What is it?>"}, {"What is it?"})


async def test_what_it_cost_is_told() -> None:
    with FakeOpenAI() as fake:
        found = await look_at(fake)
        assert found.sampled_tokens == fake.generated < 500
        assert found.requests == len(fake.asked()) < 40


async def test_an_endpoint_that_is_not_there_is_absent() -> None:
    found = await look(replace(BEST, paths=frozenset({CHAT})))
    assert found.text is None
    assert found.chat is not None
    assert "status 404" in found.absent[COMPLETIONS]
    with pytest.raises(BackendError, match=r"/v1/completions does not work: .*status 404"):
        found.route(COMPLETIONS)


async def test_a_probe_that_breaks_costs_its_ability_alone() -> None:
    def fail_at_seeds(call: Call, response: Response) -> Response:
        return refusal("internal error", 500) if "seed" in (call.body or {}) else response

    with FakeOpenAI() as fake:
        fake.misbehave = fail_at_seeds
        route = (await look_at(fake, paths=(CHAT,))).route(CHAT)
    assert (route.seed_bits, route.logprobs, route.continues) == (0, True, "continue_final_message")
    assert "internal error" in route.lacks["seed_bits"]


def always(status: int, **headers: str) -> Callable[[Call, Response], Response]:
    def answer(call: Call, response: Response) -> Response:
        return refusal("no", status, **headers) if call.path == CHAT else response

    return answer


async def test_a_server_without_time_is_not_one_without_abilities() -> None:
    with FakeOpenAI() as fake:
        fake.misbehave = always(429, retry_after="7")
        with pytest.raises(TransientError) as caught:
            await look_at(fake)
    assert caught.value.delay == 7


async def test_a_key_that_is_refused_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "wrong")
    with FakeOpenAI(manners=replace(BEST, key="right")) as fake:
        with pytest.raises(BackendError, match=r"status 401.*from A_KEY"):
            await look_at(fake, key="A_KEY")
        fake.manners, fake.misbehave = BEST, always(403)
        with pytest.raises(BackendError, match="status 403"):
            await look_at(fake, key="A_KEY")
        assert len(fake.calls) < 20
    monkeypatch.setenv("A_KEY", "right")
    assert (await look(replace(BEST, key="right"), key="A_KEY", paths=(CHAT,))).chat is not None


async def test_a_server_that_is_not_there_is_said_at_once() -> None:
    with FakeOpenAI() as fake:
        pass
    with pytest.raises(TransientError, match="is the server running there"):
        await look_at(fake)


async def test_which_model_must_be_clear() -> None:
    manners = replace(BEST, models=("large", "small"))
    with pytest.raises(BackendError, match="serves large, small: say which"):
        await look(manners)
    with pytest.raises(BackendError, match="does not serve 'medium'"):
        await look(manners, model="medium")
    assert (await look(manners, model="small", paths=(CHAT,))).model == "small"


async def test_a_server_that_lists_no_models_is_taken_at_the_name_given() -> None:
    def hide(call: Call, response: Response) -> Response:
        return refusal("Not Found", 404) if call.path == "/v1/models" else response

    with FakeOpenAI() as fake:
        fake.misbehave = hide
        with pytest.raises(BackendError, match="404"):
            await look_at(fake)
        found = await look_at(fake, model="scripted", paths=(CHAT,))
    assert (found.model, found.context) == ("scripted", None)


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [1]}, [], None, {"choices": [{"logprobs": 3}]}])
async def test_a_reply_of_another_form_is_no_ability(body: Any) -> None:
    def spoil(call: Call, response: Response) -> Response:
        return Response(body=body) if call.path == CHAT else response

    with FakeOpenAI() as fake:
        fake.misbehave = spoil
        found = await look_at(fake, paths=(CHAT,))
    assert found.chat is None
    assert found.absent[CHAT]
