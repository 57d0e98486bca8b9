"""Servers that score and do not do their part: each is caught, and what was good stays."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import tts
from tests.backends.fake_scores import probabilities, tokens
from tests.backends.fake_vllm import Call, FakeVLLM, Response, refusal
from tests.backends.scorers import ready
from tts.backends.served import SAMPLE
from tts.backends.vllm_scorer import VLLMScorer
from tts.errors import BackendError, ScoreCountError, ScoreValueError, TransientError, TTSError
from tts.fakes import ScriptedGenerator, tree_script
from tts.retry import Retry
from tts.strategies.beam import Beam
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = [43, 45]


@pytest.fixture
def server() -> Iterator[FakeVLLM]:
    with FakeVLLM() as fake:
        yield fake


def spoilt(server: FakeVLLM, change: Any) -> None:
    """Let the server change what it says once connected."""

    def misbehave(call: Call) -> Response | None:
        response = server.answer(call)
        said = change(response.body)
        return said if isinstance(said, Response) else Response(body=response.body)

    server.misbehave = misbehave


FAULTS: dict[str, tuple[str, Any, type[TTSError], str]] = {
    "too few": ("classify", lambda body: body["data"].pop(), ScoreCountError, "sequences sent, replies for those of"),
    "too many": ("classify", lambda body: body["data"].append(body["data"][0]), ScoreCountError, "sequences sent"),
    "none": ("classify", lambda body: body["data"].clear(), ScoreCountError, r"of index \[\] came"),
    "another": ("classify", lambda body: body["data"][-1].update(index=-1), ScoreCountError, r"index \[-1"),
    "wider": ("classify", lambda body: body["data"][0]["probs"].append(0.0), ScoreCountError, "each of 2 classes"),
    "no number": ("classify", lambda body: body["data"][0].update(probs=[math.nan, 0.5]), ScoreValueError, "nan"),
    "null": ("classify", lambda body: body["data"][0].update(probs=[None, 0.5]), ScoreValueError, "None"),
    "logits": ("classify", lambda body: body["data"][0].update(probs=[-3.0, 4.0]), ScoreValueError, "activation"),
    "no sum": ("classify", lambda body: body["data"][0].update(probs=[0.9, 0.9]), ScoreValueError, "no probabilities"),
    "no row": ("token_classify", lambda body: body["data"][0]["data"].pop(), ScoreCountError, "rows for 2 places"),
    "prompts": ("classify", lambda body: body["usage"].update(prompt_tokens=3), BackendError, "3 tokens were read"),
    "other": ("classify", lambda body: body["data"][0].pop("probs"), BackendError, "a reply of another form"),
    "text": ("classify", lambda _: Response(body="no"), BackendError, "a reply of another form"),
    "501": ("classify", lambda _: refusal("does not support", 501), BackendError, "status 501"),
    "503": ("classify", lambda _: refusal("busy", 503), TransientError, "busy"),
    "reset": ("classify", lambda _: Response(reset=True), TransientError, "broke"),
    "cut": ("classify", lambda body: Response(body=body, cut=9), TransientError, "broke"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_server_that_does_not_do_its_part_is_caught(server: FakeVLLM, fault: str) -> None:
    task, change, error, said = FAULTS[fault]
    scorer = await ready(server, task)
    spoilt(server, change)
    with pytest.raises(error, match=said):
        await scorer.probabilities([tokens("ab"), tokens("xy")], [[1], [1]])
    server.misbehave = lambda call: None
    good = await scorer.probabilities([tokens("ab"), tokens("xy")], [[1], [1]])
    assert good == [[tuple(probabilities(text))] for text in ("ab", "xy")]
    await scorer.aclose()


async def test_labels_that_are_ignored_are_missed(server: FakeVLLM) -> None:
    scorer = await ready(server, "generate")
    spoilt(server, lambda body: body["choices"][0]["logprobs"]["top_logprobs"][0].pop("token_id:45"))
    with pytest.raises(ScoreCountError, match=r"no log-probabilities of the labels \[45\]"):
        await scorer.probabilities([tokens("ab")], [[1]], labels=LABELS)
    await scorer.aclose()


async def test_replies_in_another_order_are_put_right(server: FakeVLLM) -> None:
    scorer = await ready(server)
    spoilt(server, lambda body: body["data"].reverse())
    rows = await scorer.probabilities([tokens("ab"), tokens("xy")], [[1], [1]])
    assert rows == [[tuple(probabilities(text))] for text in ("ab", "xy")]
    await scorer.aclose()


async def test_a_stalled_server_can_be_left(server: FakeVLLM) -> None:
    gate = threading.Event()
    scorer = await ready(server)
    server.misbehave = lambda call: Response(stall=gate) if call.path == "/classify" else None
    with anyio.move_on_after(0.05) as scope:
        await scorer.probabilities([tokens("ab")], [[1]])
    assert scope.cancelled_caught
    gate.set()
    server.misbehave = lambda call: None
    assert await scorer.probabilities([tokens("ab")], [[1]]) == [[tuple(probabilities("ab"))]]
    await scorer.aclose()


async def test_embeddings_are_no_scores(server: FakeVLLM) -> None:
    def embeds(call: Call) -> Response | None:
        if call.path == "/classify":
            return refusal("The model does not support Classification API", 501)
        return Response(body={"data": [{"index": 0, "data": rows}]}) if call.path == "/pooling" else None

    rows: Any = [0.3, -1.5]
    server.misbehave = embeds
    server.task = "classify"
    with pytest.raises(BackendError, match="gives no scores"):
        await VLLMScorer(server.url).connect()
    rows = [[0.3, -1.5]] * len(SAMPLE)
    with pytest.raises(ScoreValueError, match="are no probabilities"):
        await VLLMScorer(server.url).connect()


@pytest.mark.parametrize("task", ["classify", "token_classify"])
async def test_faults_change_no_answer(server: FakeVLLM, task: str) -> None:
    found = []
    for spoil in (False, True):
        scorer = await ready(server, task)
        server.misbehave = stumbles if spoil else lambda call: None
        judge, said = ProcessReward(scorer), {}
        async with tts.solve_many(
            ["one?", "two?", "three?", "four?"], strategy=Beam(), generator=ScriptedGenerator(tree_script()),
            verifier=judge, seed=3, in_flight=1 if spoil else 4, retry=Retry(attempts=20, first_delay=0),
        ) as outcomes:  # fmt: skip
            async for outcome in outcomes:
                assert outcome.graph is not None
                said[outcome.problem] = (outcome.answer, sorted((node.key, node.score) for node in outcome.graph))
        found.append(said)
        await scorer.aclose()
    assert found[0] == found[1]
    assert len(found[0]) == 4


def stumbles(call: Call) -> Response | None:
    """Break one scoring in three, each time in another way."""
    if call.path not in ("/classify", "/pooling") or call.number % 3:
        return None
    return [refusal("busy", 503), Response(reset=True), Response(body={"data": []}, cut=5)][call.number // 3 % 3]
