"""Judges over a real server: each score against plain transformers, what is charged against the server's counters."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from tests.torch import plain, taught
from tests.vllm.served import settled
from tts.backends.vllm_scorer import VLLMScorer
from tts.backends.vllm_server import VLLMServer
from tts.checks import check_verifier
from tts.errors import ParameterError, VerifierError
from tts.protocols import Path
from tts.types import Message, Sampling
from tts.verifiers.escalating import Escalating
from tts.verifiers.generative import Generative
from tts.verifiers.verdicts import (
    AT_ONCE,
    FAST,
    FINISHED,
    NUMBERED,
    REASONED,
    SLOW,
    STEP,
    JudgePrompt,
    LocatePrompt,
    filled,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path as Folder

    from tests.vllm.served import Server
    from tts.verifiers.generative import Thinking

PROBLEM = "What is 2+2?"
RIGHT = Path((Message(role="user", content=PROBLEM),), ("2+2 is 3+1.\n\n", "So it is 4."), True)
WRONG = Path(RIGHT.messages, ("Who knows?\n\n", "Maybe 5, or 7, or 9."), True)
CUE, LABELS = "Verdict:", (" Yes", " No")
CLOSE = 1e-3
"""How far two engines may lie apart in single precision, as a part of a score, also of one that is all but 0."""
CONTEXT = 512
SHORT = Sampling(temperature=0.6, max_tokens=64)
THOUGHT = "<think>3+1\nVerdict: No?</think>It is 4.\n"
"""What the judge says of the right path before its verdict, which is Yes two times out of three."""
MUTE = "It is 5."
"""What it says of the wrong one, without a verdict."""
NONE, FIRST = "First wrong step: -1", "First wrong step: 1"
SLOWLY = {RIGHT: f"3+1 is 4.\n{NONE}", WRONG: f"4+1 is 5.\n{FIRST}"}
SPLIT = 8
"""Fast verdicts of the wrong path, which say NONE and FIRST as often as not."""


def question(template: str, path: Path, solution: str | None = None) -> str:
    """What the user says to the judge."""
    solution = "".join(path.steps) if solution is None else solution
    return filled(
        template, problem=PROBLEM, solution=solution, cue=CUE, positive="Yes", negative="No", marker="First wrong step:"
    )


def asked(path: Path, *, stepwise: bool, ending: str) -> list[str]:
    """The questions of a judge by verdicts, one or one a step."""
    if not stepwise:
        return [question(FINISHED + ending, path)]
    return [question(STEP + ending, path, "".join(path.steps[:end])) for end in range(1, len(path.steps) + 1)]


def numbered(path: Path, ending: str) -> str:
    """The question of a judge that states a step."""
    steps = (f"Step {place}: {step.strip()}" for place, step in enumerate(path.steps, 1))
    return question(NUMBERED + ending, path, "\n\n".join(steps))


def lessons() -> Iterator[tuple[str, str]]:
    """What the judge has learnt."""
    for stepwise in (False, True):
        for ask in asked(RIGHT, stepwise=stepwise, ending=REASONED):
            yield from ((ask, THOUGHT + CUE + label) for label in (" Yes", " Yes", " No"))
        for ask in asked(WRONG, stepwise=stepwise, ending=REASONED):
            yield ask, MUTE
    yield numbered(RIGHT, FAST), NONE
    yield from ((numbered(WRONG, FAST), verdict) for verdict in (NONE, FIRST))
    yield from ((numbered(path, SLOW), SLOWLY[path]) for path in SLOWLY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A judge's weights."""
    return taught.write(tmp_path_factory.mktemp("judge"), list(lessons()))


@pytest.fixture(scope="module")
def server(start: Callable[..., Server], folder: Folder) -> Iterator[Server]:
    """Serves the judge."""
    server = start("judge", str(folder), ("--max-model-len", str(CONTEXT)))
    server.wait()
    yield server
    server.kill()


@dataclass
class Bill:
    """What the server says that was read and sampled, and for how many sequences."""

    read: int = 0
    sampled: int = 0
    requests: int = 0


@asynccontextmanager
async def billed(server: Server) -> AsyncIterator[Bill]:
    """Give a bill, which is made out at the end."""
    bill, before = Bill(), await settled(server)
    yield bill
    after = await settled(server)
    bill.read, bill.sampled = after.read - before.read, after.generated - before.generated
    bill.requests = after["request_success_total"] - before["request_success_total"]


def expected(folder: Folder, path: Path, *, stepwise: bool, thinking: Thinking) -> list[float]:
    """The values of a path."""
    before = THOUGHT if path is RIGHT else MUTE + "\n\n"
    off = [plain.verdict(folder, ask, CUE, LABELS) for ask in asked(path, stepwise=stepwise, ending=AT_ONCE)]
    on = [plain.verdict(folder, ask, before + CUE, LABELS) for ask in asked(path, stepwise=stepwise, ending=REASONED)]
    both = [fmean(pair) for pair in zip(off, on, strict=True)]
    return {"off": off, "on": on, "mean": both}[thinking]


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("thinking", ["off", "on", "mean"])
async def test_a_verdict_has_the_probability_of_a_plain_computation_and_is_charged_as_the_server_counts(
    server: Server, folder: Folder, thinking: Thinking, stepwise: bool
) -> None:
    scorer, generator = VLLMScorer(server.url), None if thinking == "off" else VLLMServer(server.url)
    judge = Generative(scorer, generator, thinking=thinking, stepwise=stepwise, sampling=SHORT, max_steps=2)
    await judge.connect()
    async with billed(server) as bill:
        replies = await judge.score([RIGHT, WRONG])
    await judge.aclose()
    wanted = [expected(folder, path, stepwise=stepwise, thinking=thinking) for path in (RIGHT, WRONG)]
    assert [list(reply.values) for reply in replies] == [pytest.approx(values, rel=CLOSE) for values in wanted]
    assert max(map(max, wanted)) > (1 + 2 * CLOSE) * min(map(min, wanted))
    assert sum(reply.calls for reply in replies) == bill.requests == 2 * judge.capabilities.calls
    # The token that the engine samples for a verdict is no token that was read or written.
    assert sum(reply.tokens for reply in replies) == bill.read + bill.sampled - scorer.sent


@pytest.mark.parametrize("stepwise", [False, True])
async def test_a_verdict_does_not_hang_on_what_is_read_beside_it(server: Server, stepwise: bool) -> None:
    await check_verifier(lambda: Generative(VLLMScorer(server.url, remembered=0), stepwise=stepwise))


async def test_a_judge_that_is_stopped_at_its_cue_says_the_same_and_writes_less(server: Server) -> None:
    replies = []
    for stops in ((), (f".\n{CUE}",)):
        sampling = SHORT.model_copy(update={"stops": stops})
        judge = Generative(VLLMScorer(server.url), VLLMServer(server.url), thinking="on", sampling=sampling)
        await judge.connect()
        replies += await judge.score([RIGHT])
        await judge.aclose()
    whole, stopped = replies
    assert list(stopped.values) == pytest.approx(list(whole.values), rel=CLOSE)
    assert whole.tokens - stopped.tokens == 2, "the label and the end"


@pytest.mark.parametrize(
    ("sampling", "error", "says"),
    [
        (Sampling(max_tokens=3), VerifierError, "was cut off at 3 tokens, before a verdict"),
        (Sampling(max_tokens=64, stops=("3+1",)), VerifierError, "ended within its thinking, after 10 tokens"),
        (Sampling(max_tokens=400), ParameterError, f"401 to write are more than the {CONTEXT}"),
    ],
)
async def test_a_rationale_that_cannot_be_read_is_an_error(
    server: Server, sampling: Sampling, error: type[Exception], says: str
) -> None:
    judge = Generative(VLLMScorer(server.url), VLLMServer(server.url), thinking="on", sampling=sampling)
    await judge.connect()
    async with billed(server) as bill:
        with pytest.raises(error, match=says):
            await judge.score([RIGHT])
    await judge.aclose()
    assert bill.requests == (error is VerifierError)


async def test_a_label_of_several_tokens_is_refused(server: Server) -> None:
    judge = Generative(VLLMScorer(server.url), prompt=JudgePrompt(positive=" Right"))
    with pytest.raises(ParameterError, match="label ' Right' is 6 tokens"):
        await judge.connect()
    await judge.aclose()


@asynccontextmanager
async def escalating(server: Server, *, reads: bool = False, **settings: Sampling) -> AsyncIterator[Escalating]:
    """A judge whose fast verdicts must be one."""
    fast, slow = settings.get("fast", SHORT), settings.get("slow", SHORT)
    scorer = VLLMScorer(server.url) if reads else None
    judge = Escalating(VLLMServer(server.url), scorer, verdicts=SPLIT, agreement=1, max_steps=2, fast=fast, slow=slow)
    await judge.connect()
    yield judge
    await judge.aclose()


def again(folder: Folder, path: Path) -> int:
    """How often more the server counts the fast question's tokens, once a verdict, than they are charged: once."""
    asks = plain.conversation(folder, [("user", numbered(path, FAST))], asks=True)
    return (SPLIT - 1) * len(plain.ids_of(folder, asks)[0])


async def test_fast_verdicts_that_agree_hold(server: Server, folder: Folder) -> None:
    async with escalating(server, reads=True) as judge, billed(server) as bill:
        found = await judge.locate(RIGHT)
    assert (found.step, found.score, found.share, found.unreadable, found.escalated) == (-1, 1.0, 1.0, 0, False)
    assert (found.verdict, found.calls) == (NONE, SPLIT)
    assert (bill.requests, bill.read + bill.sampled - again(folder, RIGHT)) == (SPLIT, found.tokens)


@pytest.mark.parametrize("reads", [False, True])
async def test_fast_verdicts_that_differ_give_way_to_a_slow_one(server: Server, folder: Folder, reads: bool) -> None:
    async with escalating(server, reads=reads) as judge:
        async with billed(server) as bill:
            found = await judge.locate(WRONG)
        assert await judge.locate(WRONG) == found, "by the same seeds"
    assert (found.step, found.unreadable, found.escalated, found.verdict) == (0, 0, True, SLOWLY[WRONG])
    assert 0.5 <= found.share < 1
    said = SLOWLY[WRONG] + LocatePrompt().cue
    score = plain.verdict(folder, numbered(WRONG, SLOW), said, LABELS) if reads else 0.0
    assert found.score == pytest.approx(score, rel=CLOSE)
    assert found.calls == bill.requests == SPLIT + 1 + reads
    assert found.tokens == bill.read + bill.sampled - reads - again(folder, WRONG)


async def test_fast_verdicts_that_cannot_be_read_give_way_too(server: Server) -> None:
    async with escalating(server, fast=Sampling(max_tokens=4)) as judge:
        found = await judge.locate(RIGHT)
    assert (found.step, found.score, found.share, found.unreadable, found.escalated) == (-1, 1.0, 0.0, SPLIT, True)


@pytest.mark.parametrize(
    ("slow", "says"),
    [
        (Sampling(max_tokens=3), "was cut off after 3 tokens without a step that can be read"),
        (Sampling(max_tokens=64, stops=("First",)), "ended after 15 tokens without a step that can be read"),
    ],
)
async def test_a_slow_verdict_that_cannot_be_read_is_an_error(server: Server, slow: Sampling, says: str) -> None:
    async with escalating(server, slow=slow) as judge:
        with pytest.raises(VerifierError, match=says):
            await judge.score([WRONG])


def test_the_judge_has_learnt_its_answers(folder: Folder) -> None:
    """What this rests on: an answer that is a question's only one is sure."""
    answers: dict[str, set[str]] = {}
    for ask, answer in lessons():
        answers.setdefault(ask, set()).add(answer)
    sure = {ask: taught.least_sure(folder, ask, *told) for ask, told in answers.items() if len(told) == 1}
    assert min(sure.values()) > taught.SURE
