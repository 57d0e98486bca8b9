"""A generator on whatever server there is keeps the promises that its capabilities make, and searches are the same."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import tts
from tests.backends.fake_openai import CHAT, COMPLETIONS, TEMPLATE, FakeOpenAI, Manners
from tts.backends.http import Endpoint
from tts.backends.openai.probe import probe
from tts.backends.openai.server import OpenAIServer
from tts.checks import Received
from tts.errors import BackendError, NeedsError, ParameterError, ProblemError
from tts.fakes import ScriptedGenerator, ScriptedVerifier, tree_script
from tts.protocols import GenerationRequest, Needs, Strategy
from tts.testing import check_generator
from tts.types import Finish, Message, Sampling

if TYPE_CHECKING:
    from tts.capabilities import Capabilities
    from tts.outcome import Outcome
    from tts.search import Search
    from tts.selection import Answer

BEST = Manners()
CUT = replace(BEST, stop_field=None)
NAMES = ["a_star", "beam", "best_of_n", "first_finish", "particle_filter", "self_consistency"]
STEPWISE = ["a_star", "beam", "particle_filter"]
HONEST: dict[str, tuple[Manners, dict[str, Any]]] = {
    "chat": (BEST, {}),
    "chat by prefix": (replace(BEST, dialect="prefix"), {}),
    "chat by a plain message": (replace(BEST, dialect="plain"), {}),
    "chat that begins anew": (replace(BEST, dialect=None), {}),
    "text": (BEST, {"template": TEMPLATE}),
    "text alone": (replace(BEST, paths=frozenset({COMPLETIONS})), {"template": TEMPLATE}),
    "stop kept": (replace(BEST, stop_kept=True), {}),
    "SGLang's stop": (replace(BEST, stop_field="matched_stop"), {}),
    "cut here": (CUT, {}),
    "cut here, in large pieces": (replace(CUT, chunk=7), {}),
    "cut here, counted by log-probabilities": (replace(CUT, streams="end", chunk=2), {}),
    "cut here, counted by pieces": (replace(CUT, streams="end", logprobs="refused"), {}),
    "cut here, text": (CUT, {"template": TEMPLATE}),
    "without counts in streams": (replace(BEST, streams="never"), {}),
    "without log-probabilities": (replace(BEST, logprobs="none"), {}),
    "without seeds": (replace(BEST, seeds="ignored"), {}),
    "small seeds": (replace(BEST, seeds="small"), {}),
    "hosted": (replace(BEST, limit="max_completion_tokens", strict=True, dialect=None, stop_field=None, most=5), {}),
}


def made(fake: FakeOpenAI, **options: Any) -> OpenAIServer:
    return OpenAIServer(fake.url, key="NO_KEY_IS_SET", **options)


async def able(manners: Manners, **options: Any) -> Capabilities:
    with FakeOpenAI(manners=manners) as fake:
        generator = made(fake, **options)
        try:
            await generator.connect()
            return generator.capabilities
        finally:
            await generator.aclose()


@pytest.mark.parametrize("name", HONEST)
async def test_promises_are_kept(name: str) -> None:
    manners, options = HONEST[name]
    with FakeOpenAI(manners=manners) as fake:
        await check_generator(lambda: made(fake, **options), "What is it?", max_tokens=60)


CAPABLE: dict[str, tuple[Manners, dict[str, Any], dict[str, object]]] = {
    "chat": (BEST, {}, {"name": "openai/scripted", "continuation": True, "token_ids": False, "logprobs": True}),
    "with context": (replace(BEST, context=600), {}, {"context": 600, "max_tokens": 300}),
    "with a cap": (replace(BEST, context=600), {"max_tokens": 9, "context": 50}, {"context": 50, "max_tokens": 9}),
    "prices": (BEST, {"dollars_per_token": 0.5}, {"dollars_per_token": 0.5, "exact_cancellation": False}),
    "text": (BEST, {"template": TEMPLATE}, {"continuation": True}),
    "cut here, text": (CUT, {"template": TEMPLATE}, {"continuation": True}),
    "begins anew": (replace(BEST, dialect=None), {}, {"continuation": False, "seeds": True}),
    "cut here": (CUT, {}, {"continuation": True, "top_logprobs": 20}),
    "no way to end a step": (replace(CUT, streams="never"), {}, {"continuation": False}),
    "nothing to count on": (replace(BEST, seeds="ignored", logprobs="none"), {}, {"seeds": False, "logprobs": False}),
}


@pytest.mark.parametrize("name", CAPABLE)
async def test_capabilities_are_those_that_showed(name: str) -> None:
    manners, options, expected = CAPABLE[name]
    found = await able(manners, **options)
    assert {field: getattr(found, field) for field in expected} == expected


async def test_capabilities_are_known_once_it_is_connected() -> None:
    with FakeOpenAI() as fake, pytest.raises(BackendError, match="await connect"):
        _ = made(fake).capabilities


async def test_it_is_asked_once_and_not_where_its_abilities_are_given() -> None:
    with FakeOpenAI() as fake:
        found = await probe(Endpoint(fake.url), paths=(CHAT,))
        asked = len(fake.calls)
        assert {call.path for call in fake.calls} == {"/v1/models", CHAT}
        given, asking = made(fake, abilities=found), made(fake)
        await given.connect()
        assert len(fake.calls) == asked
        for _ in range(2):
            await asking.connect()
            assert len(fake.calls) == 2 * asked
        assert given.capabilities == asking.capabilities
        await asking.aclose()


def drawn(outcome: Outcome) -> list[tuple[object, ...]]:
    assert outcome.graph is not None
    return sorted((node.key, node.text, node.tokens, node.score, node.status) for node in outcome.graph)


async def solved(fake: FakeOpenAI, name: str, **options: Any) -> Outcome:
    generator = made(fake, **options)
    await generator.connect()
    fake.generated = 0
    try:
        return await tts.solve("?", strategy=name, generator=generator, verifier=ScriptedVerifier(), seed=5)
    finally:
        await generator.aclose()


@pytest.mark.parametrize("way", ["chat", "text", "cut here", "cut here, text", "chat by prefix"])
@pytest.mark.parametrize("name", NAMES)
async def test_searches_are_those_of_the_same_script_in_this_process(name: str, way: str) -> None:
    manners, options = HONEST[way]
    here = await tts.solve(
        "?", strategy=name, generator=ScriptedGenerator(tree_script()), verifier=ScriptedVerifier(), seed=5
    )
    with FakeOpenAI(manners=manners) as fake:
        there = await solved(fake, name, **options)
    assert (there.answer, there.ended) == (here.answer, here.ended)
    assert there.usage.generated <= fake.generated <= there.usage.generated + there.usage.unobserved
    if name != "first_finish":  # how far the losers had come is a matter of timing
        assert drawn(there) == drawn(here)
        assert there.usage.generated == here.usage.generated
        assert (there.usage.unobserved > 0) == (way.startswith("cut") and name in STEPWISE)


async def test_prompts_are_counted_as_the_server_counts_them() -> None:
    with FakeOpenAI() as fake:
        outcome = await solved(fake, "beam")
        asked = [body for body in fake.asked() if body["temperature"] and body["messages"][0]["content"] == "?"]
    paths = [len(body["messages"][-1]["content"]) for body in asked if len(body["messages"]) > 1]
    assert outcome.usage.prompt_cached == sum(paths) > 0
    assert outcome.usage.prompt_computed == len(asked) * len("?\n")
    assert outcome.usage.samples == len(asked)


@pytest.mark.parametrize("name", STEPWISE)
@pytest.mark.parametrize("manners", [replace(BEST, dialect=None), replace(CUT, streams="never")])
async def test_what_cannot_run_is_refused_before_a_token_is_paid_for(name: str, manners: Manners) -> None:
    with FakeOpenAI(manners=manners) as fake:
        generator = made(fake)
        await generator.connect()
        asked = len(fake.asked())
        with pytest.raises(NeedsError) as caught:
            await tts.solve("?", strategy=name, generator=generator, verifier=ScriptedVerifier())
        await generator.aclose()
        assert len(fake.asked()) == asked
    message = str(caught.value)
    assert "cannot continue a given text (" in message
    assert "best_of_n, first_finish, self_consistency would do on it" in message
    assert "vllm:URL" in message


class Surprised(Strategy):
    """Needs the log-probabilities of ten tokens."""

    name = "surprised"

    @property
    def needs(self) -> Needs:
        return Needs(logprobs=True, top_logprobs=10)

    async def search(self, s: Search) -> Answer:
        raise AssertionError("it was to be refused")


@pytest.mark.parametrize(
    ("manners", "why"),
    [
        (replace(BEST, logprobs="none"), "gives none \\(none were given\\): a_star, beam"),
        (replace(BEST, logprobs="short"), "gives none \\(.* for .* tokens\\)"),
        (replace(BEST, most=5), "gives 5: a_star, beam"),
    ],
)
async def test_log_probabilities_that_did_not_show_are_not_promised(manners: Manners, why: str) -> None:
    with FakeOpenAI(manners=manners) as fake, pytest.raises(NeedsError, match=why):
        generator = made(fake)
        try:
            await tts.solve("?", strategy=Surprised(), generator=generator, verifier=ScriptedVerifier())
        finally:
            await generator.aclose()


def request(prompt: tts.types.Prompt, **changes: Any) -> GenerationRequest:
    asked = GenerationRequest(
        prompt=prompt, text="", token_ids=(), count=1, seed=4096, max_tokens=60, delimiters=("\n\n",),
        sampling=Sampling(temperature=1.0),
    )  # fmt: skip
    return replace(asked, **changes)


async def draw(fake: FakeOpenAI, options: dict[str, Any] | None = None, **changes: Any) -> Received:
    generator = made(fake, **(options or {}))
    try:
        await generator.connect()
        prompt = await generator.encode([Message(role="user", content="?")])
        received = Received(changes.get("count", 1))
        await generator.generate(request(prompt, **changes), received)
        return received
    finally:
        await generator.aclose()


@pytest.mark.parametrize("manners", [BEST, CUT, replace(CUT, chunk=50), replace(BEST, stop_kept=True)])
async def test_stops_and_delimiters_are_told_apart_and_stay_in_the_text(manners: Manners) -> None:
    with FakeOpenAI(lambda path, seed: "one\n\ntwo END three", manners) as fake:
        stepped = (await draw(fake)).completions[0]
        sampling = Sampling(stops=("END",))
        stopped = (await draw(fake, delimiters=(), sampling=sampling)).completions[0]
        ended = (await draw(fake, delimiters=())).completions[0]
        short = (await draw(fake, delimiters=(), max_tokens=7)).completions[0]
    assert (stepped.text, stepped.finish) == ("one\n\n", Finish.DELIMITER)
    assert (stopped.text, stopped.finish) == ("one\n\ntwo END", Finish.STOP)
    assert (ended.text, ended.finish, ended.tokens) == ("one\n\ntwo END three", Finish.EOS, 19)
    assert (short.text, short.finish, short.tokens) == ("one\n\ntw", Finish.LENGTH, 7)


@pytest.mark.parametrize(("chunk", "seen"), [(1, 5), (4, 8), (50, 19)])
async def test_a_piece_is_counted_whole_and_what_may_follow_is_bounded(chunk: int, seen: int) -> None:
    with FakeOpenAI(lambda path, seed: "one\n\ntwo END three", replace(CUT, chunk=chunk)) as fake:
        completion = (await draw(fake, logprobs=True)).completions[0]
    assert (completion.text, completion.tokens, completion.unobserved) == ("one\n\n", seen, 60 - seen)
    assert completion.logprobs is not None
    assert len(completion.logprobs) == seen


async def test_the_server_is_left_behind_the_delimiter() -> None:
    with FakeOpenAI(lambda path, seed: "one\n\n" + "two" * 9, CUT) as fake:
        generator = made(fake)
        await generator.connect()
        left, spoken = threading.Event(), threading.Semaphore(5)

        def pace() -> None:
            if not spoken.acquire(blocking=False):
                left.wait(30)

        fake.pace = pace
        prompt = await generator.encode([Message(role="user", content="?")])
        received = Received(1)
        await generator.generate(request(prompt), received)  # although the sixth token never comes
        left.set()
        await generator.aclose()
    assert received.completions[0].text == "one\n\n"


async def test_an_answer_that_was_begun_is_continued() -> None:
    turns = [Message(role="user", content="?"), Message(role="assistant", content="s1\n\n")]
    with FakeOpenAI() as fake:
        generator = made(fake)
        await generator.connect()
        prompt = await generator.encode(turns)
        received = Received(1)
        await generator.generate(request(prompt, text="s2\n\n", delimiters=()), received)
        await generator.aclose()
        assert [turn["content"] for turn in fake.asked()[-1]["messages"]] == ["?", "s1\n\ns2\n\n"]
    assert received.completions[0].text == tree_script()("s1\n\ns2\n\n", 4096)
    with FakeOpenAI(manners=replace(BEST, dialect=None)) as fake, pytest.raises(ProblemError, match="begun"):
        generator = made(fake)
        await generator.connect()
        try:
            await generator.encode(turns)
        finally:
            await generator.aclose()


async def test_what_is_asked_goes_out_as_it_was_asked() -> None:
    with FakeOpenAI() as fake:
        sampling = Sampling(temperature=0.5, top_p=0.9, top_k=7)
        await draw(fake, count=2, sampling=sampling, top_logprobs=3, max_tokens=11)
        bodies = sorted(fake.asked()[-2:], key=lambda body: body["seed"])
    assert [body["seed"] for body in bodies] == [4096, 4097]
    for body in bodies:
        assert (body["temperature"], body["top_p"], body["top_k"]) == (0.5, 0.9, 7)
        assert (body["max_tokens"], body["top_logprobs"], body["stop"]) == (11, 3, ["\n\n"])
        assert body["repetition_penalty"] == 1.0


async def test_a_name_makes_one() -> None:
    with FakeOpenAI() as fake:
        outcome = await tts.solve("?", strategy="beam", generator=f"openai:{fake.url}", verifier=ScriptedVerifier())
    assert outcome.answer is not None
    with pytest.raises(ParameterError, match="no URL"):
        tts.registry.generator("openai:nowhere")
