"""Scores from a scripted vLLM server: each way of asking, what is refused, and servers that do not do their part."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.backends import fake_scores
from tests.backends.fake_scores import logit, probabilities, tokens
from tests.backends.fake_vllm import FakeVLLM, Response
from tests.backends.scorers import ready, sent
from tts import registry
from tts.backends.vllm_scorer import VLLMScorer
from tts.errors import (
    BackendError,
    NeedsError,
    ParameterError,
)
from tts.protocols import Path, connect
from tts.testing import check_scorer, check_verifier
from tts.types import Message
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Iterator

QUESTION = (Message(role="user", content="What is 7 times 8?"),)
START = "What is 7 times 8?\n"
STEPS = ("7 x 8#", "is 56#", "done#")
PATHS = {"classify": "/classify", "token_classify": "/pooling", "step": "/pooling", "generate": "/v1/completions"}
LABELS = [43, 45]


@pytest.fixture
def server() -> Iterator[FakeVLLM]:
    with FakeVLLM() as fake:
        yield fake


@pytest.mark.parametrize("task", ["classify", "token_classify", "step"])
@pytest.mark.parametrize("classes", [2, 1, 3])
async def test_the_laws_of_scorers_and_verifiers(server: FakeVLLM, task: str, classes: int) -> None:
    server.task, server.classes = task, classes
    tag = fake_scores.TAG if task == "step" else None
    if task != "step":  # the check also asks at the end of the question, which no tag marks
        await check_scorer(lambda: VLLMScorer(server.url), QUESTION[0].content, STEPS)
    good = min(1, classes - 1)
    await check_verifier(
        lambda: ProcessReward(VLLMScorer(server.url, step_tag=tag), good=good), QUESTION[0].content, STEPS
    )


async def test_the_laws_for_labels(server: FakeVLLM) -> None:
    server.task = "generate"
    await check_scorer(lambda: VLLMScorer(server.url), QUESTION[0].content, STEPS, labels=LABELS)
    make = lambda: ProcessReward(VLLMScorer(server.url), good=0, labels=["+", 45])  # noqa: E731
    await check_verifier(make, QUESTION[0].content, STEPS)


@pytest.mark.parametrize("task", ["classify", "token_classify", "step"])
async def test_rows_are_those_of_the_prefixes(server: FakeVLLM, task: str) -> None:
    scorer = await ready(server, task)
    texts = ["ab#cd#", "ab#", "x#y"]
    rows = await scorer.probabilities([tokens(text) for text in texts], [[5, 2], [2], [1]])
    assert [list(map(list, each)) for each in rows] == [
        [probabilities("ab#cd#"), probabilities("ab#")],
        [probabilities("ab#")],
        [probabilities("x#")],
    ]
    separate = [["ab#cd#", "ab#", "x#"]]
    joined = [["x#", "ab#cd#"]]
    assert sent(server, PATHS[task])[-1:] == (separate if task == "classify" else joined)
    assert await scorer.probabilities([tokens("ab")], [[]]) == [[]]
    await scorer.aclose()


async def test_labels_are_weighed_against_each_other_alone(server: FakeVLLM) -> None:
    scorer = await ready(server, "generate")
    assert (scorer.capabilities.classes, scorer.capabilities.labels) == (0, True)
    ((row,),) = await scorer.probabilities([tokens("ab")], [[1]], labels=LABELS)
    odds = [math.exp(logit("ab", label)) for label in LABELS]
    assert list(row) == pytest.approx([value / sum(odds) for value in odds], abs=1e-15)
    body = server.calls[-1].body
    assert (body["max_tokens"], body["temperature"], body["logprob_token_ids"]) == (1, 0, LABELS)
    other = await scorer.probabilities([tokens("ab")], [[1]], labels=LABELS[::-1])
    assert list(other[0][0]) == list(row)[::-1]
    assert scorer.sent == 2
    await scorer.aclose()


@pytest.mark.parametrize("task", PATHS)
async def test_asking_what_a_server_can_do_samples_nothing(server: FakeVLLM, task: str) -> None:
    scorer = await ready(server, task)
    assert (server.generated, scorer.sent) == (0, 0)
    found = scorer.capabilities
    assert found.name == "vllm/scripted"
    assert found.context == 4096
    assert found.fingerprint["engine"] == "vllm 0.32.0"
    said = {"classify": "classify", "token_classify": "token_classify", "step": "step tag 35", "generate": "next token"}
    assert found.fingerprint["scores"] == said[task]
    await scorer.aclose()


async def test_what_a_server_cannot_do_is_refused_with_the_flags_that_would_help(server: FakeVLLM) -> None:
    scorer = await ready(server, "generate")
    with pytest.raises(NeedsError, match=r"ask for labels, or serve .*--runner pooling --pooler-config"):
        await scorer.probabilities([[65]], [[0]])
    await scorer.aclose()
    scorer = await ready(server, "token_classify")
    with pytest.raises(NeedsError, match=r"2 classes and takes no labels.*vllm serve MODEL"):
        await scorer.probabilities([[65]], [[0]], labels=[1])
    await scorer.aclose()
    with pytest.raises(BackendError, match="gives no scores: serve a reward model with vllm serve MODEL --runner"):
        await ready(server, "embed")
    with pytest.raises(NeedsError, match="no labels: leave labels="):
        server.task = "classify"
        await connect(ProcessReward(VLLMScorer(server.url), labels=["+", "-"]))
    with pytest.raises(ParameterError, match="good=1, but vllm/scripted tells 1 classes"):
        server.classes = 1
        await connect(ProcessReward(VLLMScorer(server.url)))


@pytest.mark.parametrize(
    ("tag", "said"),
    [(None, "say which token it is with step_tag="), (66, "is not the step_tag_id"), ("##", "is 2 tokens")],
)
async def test_a_step_tag_must_be_the_servers(server: FakeVLLM, tag: int | str | None, said: str) -> None:
    server.task = "step"
    scorer = VLLMScorer(server.url, step_tag=tag)
    with pytest.raises(ParameterError, match=said):
        await scorer.connect()
    await scorer.aclose()


async def test_only_tags_are_scored_where_there_is_one(server: FakeVLLM) -> None:
    scorer = await ready(server, "step")
    with pytest.raises(ParameterError, match=r"step tag, token 35, alone; positions \[0, 1\] hold others"):
        await scorer.probabilities([tokens("ab#")], [[0, 2, 1]])
    assert scorer.sent == 0
    await scorer.aclose()


@pytest.mark.parametrize(
    ("task", "sequence", "positions", "labels", "said"),
    [
        ("classify", [65] * 4097, [4096], None, "4097 tokens are more than the 4096 that vllm/scripted holds"),
        ("generate", [65] * 4096, [4095], LABELS, "4096 tokens and 1 to sample are more than the 4096"),
        ("classify", [65], [1], None, r"positions \[1\] do not lie in a sequence of 1"),
        ("classify", [65], [-1], None, r"positions \[-1\]"),
        ("generate", [65], [0], [], r"labels \[\] are no token ids"),
        ("generate", [65], [0], [-1], r"labels \[-1\]"),
    ],
)
async def test_what_cannot_be_read_is_refused_before_it_is_sent(
    server: FakeVLLM, task: str, sequence: list[int], positions: list[int], labels: list[int] | None, said: str
) -> None:
    scorer = await ready(server, task)
    with pytest.raises(ParameterError, match=said):
        await scorer.probabilities([sequence], [positions], labels=labels)
    with pytest.raises(ParameterError, match="1 sequences, but positions for 2"):
        await scorer.probabilities([[65]], [[0], [0]], labels=labels)
    assert scorer.sent == 0
    await scorer.aclose()


async def test_what_lies_after_the_last_position_may_be_longer_than_the_context(server: FakeVLLM) -> None:
    scorer = await ready(server)
    assert await scorer.probabilities([[65] * 5000], [[9]]) == [[tuple(probabilities("A" * 10))]]
    await scorer.aclose()


@pytest.mark.parametrize("task", ["classify", "token_classify"])
async def test_a_prefix_is_scored_once(server: FakeVLLM, task: str) -> None:
    scorer = await ready(server, task)
    judge = ProcessReward(scorer)
    paths = [Path(QUESTION, STEPS[:count], False) for count in (1, 2, 3)]
    alone = [(await judge.score([path]))[0] for path in paths]
    assert sent(server, PATHS[task]) == [[START + "".join(STEPS[:count])] for count in (1, 2, 3)]
    assert await judge.score(paths) == alone
    assert scorer.sent == 3
    assert [reply.tokens for reply in alone] == [len(START + "".join(STEPS[:count])) for count in (1, 2, 3)]
    assert server.count("/tokenize") == 1 + 1 + len(STEPS)
    await scorer.aclose()


async def test_problems_share_requests_and_prefixes(server: FakeVLLM) -> None:
    gate = threading.Event()
    scorer = await ready(server, in_flight=1)
    server.misbehave = lambda call: Response(**vars(server.answer(call)) | {"stall": gate})
    found: dict[int, Any] = {}

    async def ask(place: int, text: str) -> None:
        found[place] = (await scorer.probabilities([tokens(text)], [[len(text) - 1]]))[0][0]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, 0, "first")
        while server.count("/classify") < 2:
            await anyio.lowlevel.checkpoint()
        for place, text in enumerate(("second", "third", "first", "third"), 1):
            tasks.start_soon(ask, place, text)
        gate.set()
    texts = ("first", "second", "third", "first", "third")
    assert found == {place: tuple(probabilities(text)) for place, text in enumerate(texts)}
    assert [sorted(several) for several in sent(server)] == [["first"], ["second", "third"]]
    await scorer.aclose()


async def test_a_refused_sequence_fails_alone(server: FakeVLLM) -> None:
    scorer = await ready(server)
    ends: dict[int, object] = {}

    async def ask(token: int) -> None:
        try:
            ends[token] = await scorer.probabilities([[65, token]], [[1]])
        except ParameterError as error:
            ends[token] = str(error)

    async with anyio.create_task_group() as tasks:
        for token in (66, 0x110000, 67):
            tasks.start_soon(ask, token)
    assert "out of vocabulary" in str(ends.pop(0x110000))
    assert ends == {66: [[tuple(probabilities("AB"))]], 67: [[tuple(probabilities("AC"))]]}
    await scorer.aclose()


async def test_another_model_after_a_while_is_asked_anew(server: FakeVLLM) -> None:
    scorer = await ready(server)
    await scorer.probabilities([tokens("ab")], [[1]])
    await scorer.reconnect()
    await scorer.probabilities([tokens("ab")], [[1]])
    assert scorer.sent == 1
    server.classes = 3
    await scorer.reconnect()
    assert len((await scorer.probabilities([tokens("ab")], [[1]]))[0][0]) == 3
    assert scorer.sent == 2
    await scorer.aclose()


async def test_before_it_is_connected_it_says_so(server: FakeVLLM) -> None:
    scorer = VLLMScorer(server.url)
    with pytest.raises(BackendError, match="await connect"):
        scorer.capabilities  # noqa: B018
    with pytest.raises(BackendError, match="await connect"):
        await scorer.probabilities([[1]], [[0]])
    with pytest.raises(ParameterError, match="batch=0"):
        VLLMScorer(server.url, batch=0)


async def test_by_name(server: FakeVLLM) -> None:
    server.task = "step"
    judge: Any = registry.find("verifier", "vllm")(server.url, mark="#", dollars_per_token=0.25, good=0)
    await connect(judge)
    assert judge.capabilities.dollars_per_token == 0.25
    assert judge.capabilities.fingerprint["mark"] == "#"
    (reply,) = await judge.score([Path(QUESTION, ("one\n\n", "two"), True)])
    assert list(reply.values) == [probabilities(START + "one#")[0], probabilities(START + "one#two#")[0]]
    await judge.aclose()
