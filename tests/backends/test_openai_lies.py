"""Servers that do otherwise than when they were asked, fail, or think apart: typed errors, and every token charged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tts
import tts.backends.embedded as embedded
from tests.backends.fake_openai import CHAT, COMPLETIONS, TEMPLATE, Call, FakeOpenAI, Manners, Response, refusal
from tts.backends.language import Language
from tts.backends.openai.server import OpenAIServer
from tts.checks import Received
from tts.errors import BackendError, NeedsError, ParameterError, TransientError
from tts.fakes import ScriptedVerifier
from tts.protocols import GenerationRequest
from tts.types import Finish, Message, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

BEST = Manners()
CUT = replace(BEST, stop_field=None)
FAST = tts.Retry(first_delay=0.0)


class Drawing:
    """A generator on a server that was honest when it was asked, and from then on is what the test makes it."""

    def __init__(self, fake: FakeOpenAI, **options: Any) -> None:
        self.fake = fake
        self.generator = OpenAIServer(fake.url, key="NO_KEY_IS_SET", **options)

    async def draw(self, received: Received | None = None, **changes: Any) -> Received:
        received = received or Received(changes.get("count", 1))
        prompt = await self.generator.encode([Message(role="user", content="?")])
        request = GenerationRequest(
            prompt=prompt, text="", token_ids=(), count=1, seed=4096, max_tokens=60, delimiters=(),
            sampling=Sampling(temperature=1.0), logprobs=True, top_logprobs=2,
        )  # fmt: skip
        await self.generator.generate(replace(request, **changes), received)
        return received

    async def __aenter__(self) -> Drawing:
        self.fake.__enter__()
        await self.generator.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.generator.aclose()
        self.fake.__exit__()


def changed(change: Callable[[Any], None]) -> Callable[[Call, Response], Response]:
    """Let a change be made to every reply."""

    def answer(call: Call, response: Response) -> Response:
        if call.path in (CHAT, COMPLETIONS):
            change(response.body)
        return response

    return answer


LIES: dict[str, tuple[Callable[[Any], Any], type[BackendError], str]] = {
    "more than the cap": (lambda said: said["usage"].update(completion_tokens=61), BackendError, "61 tokens where 60"),
    "no usage": (lambda said: said.pop("usage"), BackendError, "did not say how many tokens"),
    "filtered": (lambda said: said["choices"][0].update(finish_reason="content_filter"), BackendError, "content_filt"),
    "a tool": (lambda said: said["choices"][0].update(finish_reason="tool_calls"), BackendError, "'tool_calls'"),
    "no reason": (lambda said: said["choices"][0].update(finish_reason=None), BackendError, "without saying why"),
    "given up": (lambda said: said["choices"][0].update(finish_reason="abort"), TransientError, "gave it up"),
    "cap lowered": (lambda said: said["choices"][0].update(finish_reason="length"), BackendError, "lowers the cap"),
    "no text": (
        lambda said: (said["choices"][0]["message"].update(content=None), said["choices"][0].pop("logprobs")),
        BackendError,
        "shows none",
    ),
    "no choices": (lambda said: said["choices"].clear(), BackendError, "without saying why"),
    "two choices": (lambda said: said["choices"].append({"index": 1}), BackendError, "choice 1"),
    "the same twice": (lambda said: said["choices"].append(said["choices"][0]), BackendError, "choice 0"),
    "choices renamed": (lambda said: said.update(choices={"0": 1}), BackendError, "another form"),
    "a logprob less": (
        lambda said: said["choices"][0]["logprobs"]["content"].pop(), BackendError, "but .* log-probabilities",
    ),
    "no logprobs": (lambda said: said["choices"][0].pop("logprobs"), BackendError, "but 0 log-probabilities"),
    "a row too short": (
        lambda said: said["choices"][0]["logprobs"]["content"][3]["top_logprobs"].pop(), BackendError, "1 of the 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_is_a_typed_error(name: str) -> None:
    change, kind, message = LIES[name]
    async with Drawing(FakeOpenAI()) as drawing:
        drawing.fake.misbehave = changed(change)
        with pytest.raises(kind, match=message) as caught:
            await drawing.draw()
    assert type(caught.value) is kind


async def test_the_same_replies_unchanged_are_no_lie() -> None:
    async with Drawing(FakeOpenAI()) as drawing:
        completion = (await drawing.draw()).completions[0]
    assert completion.finish is Finish.EOS
    assert completion.top_logprobs is not None
    assert len(completion.top_logprobs) == 2 * completion.tokens


@pytest.mark.parametrize(
    ("manners", "message"),
    [
        (replace(BEST, counts=False), "within a budget: no usage.completion_tokens"),
        (replace(BEST, caps=False), "within a budget: 28 tokens where 24 were allowed"),
        (replace(BEST, paths=frozenset({COMPLETIONS})), "status 404.*may work with template="),
    ],
)
async def test_a_server_that_no_budget_holds_on_is_refused(manners: Manners, message: str) -> None:
    with FakeOpenAI(manners=manners) as fake, pytest.raises(BackendError, match=message):
        await OpenAIServer(fake.url).connect()


async def test_a_server_without_text_is_asked_as_a_chat() -> None:
    manners, message = replace(BEST, paths=frozenset({CHAT})), "may work with no template= and no tokenizer="
    with FakeOpenAI(manners=manners) as fake, pytest.raises(BackendError, match=message):
        await OpenAIServer(fake.url, template=TEMPLATE).connect()


def once(seed: int, response: Response) -> Callable[[Call, Response], Response]:
    """Answer the first request with a seed otherwise."""
    done: list[int] = []

    def answer(call: Call, honest: Response) -> Response:
        if (call.body or {}).get("seed") != seed or done:
            return honest
        done.append(seed)
        return response

    return answer


@pytest.mark.parametrize(("status", "began"), [(429, False), (503, False), (500, True), (502, True)])
async def test_one_that_fails_lets_the_others_come(status: int, began: bool) -> None:
    async with Drawing(FakeOpenAI()) as drawing:
        drawing.fake.misbehave = once(4097, refusal("busy", status, retry_after="3"))
        received = Received(4)
        with pytest.raises(TransientError, match="busy") as caught:
            await drawing.draw(received, count=4)
    assert sorted(received.completions) == [0, 2, 3]
    assert (caught.value.began, caught.value.delay) == (began, 3)


async def test_several_failures_are_one_that_waits_for_the_slowest() -> None:
    def answer(call: Call, honest: Response) -> Response:
        refusals: dict[object, Response] = {
            4096: refusal("busy", 429, retry_after="3"), 4097: refusal("busy", 429, retry_after="9"),
            4098: refusal("broken", 500),
        }  # fmt: skip
        return refusals.get((call.body or {}).get("seed"), honest)

    async with Drawing(FakeOpenAI()) as drawing:
        drawing.fake.misbehave = answer
        for count, began in ((2, False), (3, True)):
            with pytest.raises(TransientError) as caught:
                await drawing.draw(count=count)
            assert (caught.value.began, caught.value.delay, caught.value.at_once) == (began, 9, False)


async def test_a_refusal_ends_the_others_too() -> None:
    async with Drawing(FakeOpenAI()) as drawing:
        drawing.fake.misbehave = once(4096, refusal("temperature is at most 2"))
        with pytest.raises(ParameterError, match="temperature is at most 2"):
            await drawing.draw(count=3)


@pytest.mark.parametrize("manners", [BEST, CUT])
async def test_faults_change_no_answer_and_lose_no_charge(manners: Manners) -> None:
    outcomes = []
    for spoil in (False, True):
        async with Drawing(FakeOpenAI(manners=manners)) as drawing:
            drawing.fake.generated = 0
            if spoil:
                drawing.fake.misbehave = every_fifth()
            outcome = await tts.solve(
                "?", strategy="beam", generator=drawing.generator, verifier=ScriptedVerifier(), seed=5, retry=FAST
            )
            generated = drawing.fake.generated
        usage = outcome.usage
        assert usage.generated <= generated <= usage.generated + usage.unobserved
        outcomes.append(outcome)
    assert outcomes[0].answer == outcomes[1].answer
    assert outcomes[1].usage.failed == outcomes[1].usage.generated - outcomes[0].usage.generated
    assert (outcomes[1].usage.failed > 0) == (manners is CUT)  # only of a stream is anything seen before it breaks


def every_fifth() -> Callable[[Call, Response], Response]:
    """Turn one request in five away, and cut another short."""

    def answer(call: Call, honest: Response) -> Response:
        if call.number % 5 == 0:
            return refusal("busy", 429, retry_after="0")
        if call.number % 5 == 1 and honest.events is not None:
            return replace(honest, cut=2)
        return honest

    return answer


THOUGHT = "<think>one two three four five six</think>\\boxed{1}"
THINKING = replace(BEST, chunk=1000)


@pytest.mark.parametrize("reasoning", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("cancellable", [False, True])
async def test_thinking_that_is_split_off_stands_before_the_answer(reasoning: str, cancellable: bool) -> None:
    sampling = Sampling(thinking_open="[", thinking_close="]")
    async with Drawing(FakeOpenAI(lambda *_: THOUGHT, replace(THINKING, reasoning=reasoning))) as drawing:
        whole = (await drawing.draw(sampling=sampling, cancellable=cancellable)).completions[0]
        short = (await drawing.draw(sampling=sampling, cancellable=cancellable, max_tokens=20)).completions[0]
        outcome = await tts.solve("?", generator=drawing.generator, strategy="first_finish", seed=1)
    assert (whole.text, whole.tokens) == ("[one two three four five six]\\boxed{1}", len(THOUGHT) + 1)
    assert (short.text, short.finish) == ("[one two three", Finish.LENGTH)
    assert (outcome.answer, outcome.thinking) == ("1", "one two three four five six")


async def test_thinking_comes_in_pieces_too() -> None:
    deltas = [{"reasoning": "one "}, {"reasoning": "two", "content": None}, {"content": "yes"}, {"content": " no"}]
    events: list[Any] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events[-1]["choices"][0]["finish_reason"] = "stop"
    events.append({"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 9}})
    async with Drawing(FakeOpenAI(lambda *_: THOUGHT, replace(THINKING, reasoning="reasoning"))) as drawing:
        drawing.fake.misbehave = lambda call, honest: Response(events=json.loads(json.dumps(events)))
        said = (await drawing.draw(cancellable=True, logprobs=False, top_logprobs=0)).completions[0]
    assert (said.text, said.tokens) == ("<think>one two</think>yes no", 9)


async def test_a_cap_on_thinking_that_cannot_be_kept_is_refused() -> None:
    sampling = Sampling(thinking_tokens=9, max_tokens=60)
    async with Drawing(FakeOpenAI(lambda *_: THOUGHT, replace(THINKING, reasoning="reasoning"))) as drawing:
        asked = len(drawing.fake.asked())
        with pytest.raises(ParameterError, match=r"thinking_tokens=9: .*reasoning parser.*max_tokens="):
            await tts.solve("?", generator=drawing.generator, strategy="self_consistency", sampling=sampling)
        with pytest.raises(NeedsError, match="cannot continue a given text"):
            await drawing.draw(text="one")
        assert len(drawing.fake.asked()) == asked


async def test_a_cap_on_thinking_is_kept_where_paths_are_continued() -> None:
    def thinks(path: str, seed: int) -> str:
        return "\\boxed{1}" if path.endswith("</think>\n\n") else "<think>" + "x" * 90 + "</think>\n\n\\boxed{1}"

    sampling = Sampling(thinking_tokens=20, max_tokens=60)
    async with Drawing(FakeOpenAI(thinks, replace(BEST, dialect="plain")), question="?") as drawing:
        if not drawing.generator.capabilities.continuation:
            pytest.fail(str(drawing.generator.capabilities.lacks))
        outcome = await tts.solve("?", generator=drawing.generator, strategy="self_consistency", sampling=sampling)
    assert (outcome.answer, outcome.thinking) == ("1", "x" * 13 + "\n")


async def test_steps_with_thinking_that_did_not_show_before_are_an_error() -> None:
    async with Drawing(FakeOpenAI()) as drawing:
        drawing.fake.manners = replace(THINKING, reasoning="reasoning")
        drawing.fake.script = lambda *_: THOUGHT
        with pytest.raises(BackendError, match="splits off thinking"):
            await drawing.draw(delimiters=("\n\n",))


async def test_what_is_out_of_range_is_refused_here() -> None:
    async with Drawing(FakeOpenAI(manners=replace(CUT, streams="never"))) as drawing:
        for changes in ({"count": 0}, {"count": 4097}, {"max_tokens": 0}):
            with pytest.raises(ParameterError, match="out of range"):
                await drawing.draw(Received(1), **changes)
        with pytest.raises(NeedsError, match="does not tell the stops"):
            await drawing.draw(sampling=Sampling(stops=("END",)))


def folder_with(tmp_path: Path, begins: str) -> Path:
    """Make a tokenizer whose template begins every text with a token."""
    model = Path(embedded.__file__).parent / "models" / "arithmetic-policy"
    settings = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings |= {"bos_token": begins, "chat_template": "{{ bos_token }}{{ messages[-1].content }}"}
    (tmp_path / "tokenizer.json").write_bytes((model / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("begins", "more", "rendered"),
    [("<eos>", 0, "<eos>30"), ("<eos>", 1, "30"), ("", 1, "30"), ("", 0, "30"), ("<eos>", 2, None), ("", -1, None)],
)
async def test_a_tokenizer_is_held_against_the_servers_count(
    tmp_path: Path, begins: str, more: int, rendered: str | None
) -> None:
    folder = folder_with(tmp_path, begins)
    language = Language(folder)

    def recount(call: Call, response: Response) -> Response:
        if call.path == COMPLETIONS and response.body:
            response.body["usage"]["prompt_tokens"] = len(language.read(call.body["prompt"])) + more
        return response

    with FakeOpenAI() as fake:
        fake.misbehave = recount
        generator = OpenAIServer(fake.url, tokenizer=str(folder))
        try:
            if rendered is None:
                with pytest.raises(ParameterError, match="the tokenizer given is not that of"):
                    await generator.connect()
            else:
                await generator.connect()
                assert (await generator.encode([Message(role="user", content="30")])).text == rendered
        finally:
            await generator.aclose()
