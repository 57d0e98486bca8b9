"""Backends that must be asked what they can do: by whom, when, and what becomes of a failure."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

import tts
from tests.freely import freely
from tts import registry
from tts.checks import check_generator
from tts.cli.main import main
from tts.errors import BackendError, ProblemError, TransientError
from tts.fakes import FakeClock, ScriptedGenerator, ScriptedVerifier, tree_script
from tts.graph import Status
from tts.outcome import Ended
from tts.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.capabilities import Capabilities, VerifierCapabilities
    from tts.graph import Node
    from tts.search import Search
    from tts.types import Message, Prompt


class Remote(ScriptedGenerator):
    """Knows what it can do once it was asked; fails as often as it is told to."""

    def __init__(self, *faults: Exception) -> None:
        super().__init__(tree_script())
        self.faulty = list(faults)
        self.connects = 0
        self.connected = False

    async def connect(self) -> None:
        self.connects += 1
        if self.faulty:
            raise self.faulty.pop(0)
        self.connected = True

    @property
    def capabilities(self) -> Capabilities:
        if not self.connected:
            raise BackendError("await connect() first")
        return self.able


class RemoteVerifier(ScriptedVerifier):
    """The same of a verifier."""

    connected = False
    closed = False

    async def connect(self) -> None:
        self.connected = True

    async def aclose(self) -> None:
        self.closed = True

    @property
    def capabilities(self) -> VerifierCapabilities:
        if not self.connected:
            raise BackendError("await connect() first")
        return self.able


async def test_solve_asks() -> None:
    generator, verifier = Remote(), RemoteVerifier()
    assert (await tts.solve("?", generator=generator, verifier=verifier)).ended is Ended.DONE
    assert generator.connects == 1


async def test_solving_many_asks_once() -> None:
    generator = Remote()
    async with tts.solve_many(["a", "b", "c"], generator=generator) as outcomes:
        assert [outcome.ended async for outcome in outcomes] == [Ended.DONE] * 3
    assert generator.connects == 1


async def test_checks_ask() -> None:
    await check_generator(Remote)


def test_the_command_line_asks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = [Remote(), Remote(BackendError("no such model"))]
    factories = {"good": lambda rest: made[0], "bad": lambda rest: made[1]}
    monkeypatch.setitem(registry._added, "generator", factories)
    assert main(["solve", "What is it?", "--generator", "good"]) == 0
    assert main(["solve", "What is it?", "--generator", "bad"]) != 0
    assert "no such model" in capsys.readouterr().err
    assert [backend.closed for backend in made] == [True, True]


async def test_a_fault_that_passes_is_tried_again() -> None:
    generator, clock = Remote(TransientError("reset"), TransientError("busy", delay=9.0)), FakeClock()
    outcome = await tts.solve("?", generator=generator, clock=clock)
    assert outcome.ended is Ended.DONE
    assert generator.connects == 3
    assert clock.sleeps[1] == 9.0


@pytest.mark.parametrize("fault", [BackendError("too old"), TransientError("nobody there"), OSError("a bug")])
async def test_a_failure_is_typed_and_what_was_made_is_closed(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    bad, judge = Remote(*[fault] * 2), RemoteVerifier()
    monkeypatch.setitem(registry._added, "generator", {"bad": lambda rest: bad})
    monkeypatch.setitem(registry._added, "verifier", {"judge": lambda rest: judge})
    retry = Retry(attempts=2, first_delay=0)
    with pytest.raises(BackendError, match=str(fault)):
        await tts.solve("?", generator="bad", verifier="judge", retry=retry)
    assert bad.closed
    assert judge.closed
    with pytest.raises(BackendError):
        async with tts.solve_many(["?"], generator=Remote(*[fault] * 2), retry=retry):
            pytest.fail("nothing is solved")


class Unread(Remote):
    """Cannot read a problem that says no."""

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        if "no" in messages[-1].content and self.faulty:
            raise self.faulty.pop()
        return await super().encode(messages)

    async def connect(self) -> None:
        self.connected = True


async def test_reading_a_problem_is_tried_again() -> None:
    generator, clock = Unread(*[TransientError("reset")] * 3), FakeClock()
    assert (await tts.solve("no", generator=generator, clock=clock)).ended is Ended.DONE
    assert len(clock.sleeps) == 3


async def test_reading_a_problem_is_not_waited_for_beyond_the_deadline() -> None:
    generator, clock = Unread(*[TransientError("busy", delay=60.0)] * 9), FakeClock()
    with pytest.raises(TransientError, match="busy") as raised:
        await tts.solve("no", generator=generator, clock=clock, budget="100s")
    assert clock.now() == 60.0
    assert raised.value.__notes__ == ["tried 2 times, and there is no time to wait 60 s for another"]


class Hung(ScriptedGenerator):
    """Never answers what it is told not to."""

    def __init__(self, *verbs: str) -> None:
        super().__init__(tree_script())
        self.verbs = verbs
        self.left = list[str]()

    async def encode(self, messages: Sequence[Message]) -> Prompt:
        await self._hang("encode")
        return await super().encode(messages)

    async def tokenize(self, text: str) -> Sequence[int]:
        await self._hang("tokenize")
        return await super().tokenize(text)

    async def _hang(self, verb: str) -> None:
        if verb in self.verbs:
            try:
                await anyio.sleep_forever()
            finally:
                self.left.append(verb)


async def test_an_engine_that_does_not_read_the_problem_is_left_at_the_deadline() -> None:
    generator, clock = Hung("encode"), FakeClock()
    outcome = await tts.solve("?", generator=generator, clock=clock, budget="5s")
    assert (outcome.ended, outcome.limit, outcome.error) == (Ended.BUDGET, "seconds", None)
    assert outcome.usage == tts.Usage(seconds=5.0)
    assert (clock.now(), generator.left) == (5.0, ["encode"])


async def test_a_problem_that_waits_for_a_place_does_not_wait_beyond_its_deadline() -> None:
    generator, clock = Hung("encode"), FakeClock()
    async with tts.solve_many(
        ["a", "b", "c"], generator=generator, clock=clock, budget="5s", concurrency=1
    ) as outcomes:
        found = [(outcome.ended, outcome.usage.seconds) async for outcome in outcomes]
    assert found == [(Ended.BUDGET, 5.0)] * 3


async def test_text_that_the_engine_does_not_read_is_left_at_the_deadline() -> None:
    async def body(s: Search) -> list[Node]:
        drawn = await s.expand(s.root, 2, whole=True)
        hint = await s.transform(drawn[0], "Wait.")
        again = await s.transform(drawn[0], "Wait.")
        assert [(node.status, node.text) for node in (hint, again)] == [(Status.CANCELLED, "")] * 2
        return [*drawn, *await s.expand(hint)]

    generator, clock = Hung("tokenize"), FakeClock()
    outcome = await tts.solve("?", strategy=freely(body), generator=generator, clock=clock, budget="5s")
    assert (outcome.ended, outcome.limit, outcome.error) == (Ended.BUDGET, "seconds", None)
    assert outcome.answer is not None
    assert clock.now() == 5.0
    assert generator.left == ["tokenize"] * 2


async def test_thinking_whose_end_the_engine_does_not_read_is_left_at_the_deadline() -> None:
    generator, clock = Hung("tokenize"), FakeClock()
    generator.script = lambda path, seed: "<think>" + "x" * 90
    sampling = tts.Sampling(max_tokens=120, step_tokens=60, thinking_tokens=20)
    outcome = await tts.solve("?", generator=generator, clock=clock, budget="5s", sampling=sampling)
    assert (outcome.ended, outcome.limit, outcome.error) == (Ended.BUDGET, "seconds", None)
    assert clock.now() == 5.0
    assert outcome.usage.generated == generator.sampled > 0
    assert set(generator.left) == {"tokenize"}


async def test_reading_problems_and_texts_takes_places_as_drawing_does() -> None:
    class Crowded(ScriptedGenerator):
        now = 0

        async def _take(self) -> None:
            self.now += 1
            most.append(self.now)
            await anyio.lowlevel.checkpoint()
            self.now -= 1

        async def encode(self, messages: Sequence[Message]) -> Prompt:
            await self._take()
            return await super().encode(messages)

        async def tokenize(self, text: str) -> Sequence[int]:
            await self._take()
            return await super().tokenize(text)

    async def body(s: Search) -> list[Node]:
        await s.transform(s.root, "Wait.")
        return await s.expand(s.root, whole=True)

    most = list[int]()
    generator = Crowded(tree_script())
    questions = [f"{number}?" for number in range(12)]
    async with tts.solve_many(questions, generator=generator, strategy=freely(body), concurrency=2) as outcomes:
        ended = [outcome.ended async for outcome in outcomes]
    assert ended == [Ended.DONE] * 12
    assert len(most) == 24
    assert max(most) == 2


@pytest.mark.parametrize("fault", [BackendError("gone"), TransientError("gone"), ProblemError("gone")])
async def test_a_problem_that_cannot_be_read_is_no_other_problems_business(fault: Exception) -> None:
    generator = Unread(*[fault] * 9)
    retry = Retry(attempts=1)
    async with tts.solve_many(["a", "no", "b"], generator=generator, retry=retry) as outcomes:
        found = {outcome.problem: outcome async for outcome in outcomes}
    assert [found[name].ended for name in "012"] == [Ended.DONE, Ended.ERROR, Ended.DONE]
    assert found["1"].error == f"{type(fault).__name__}: gone"
    assert found["1"].usage.samples == 0


class Untold(ScriptedGenerator):
    """Fails to tokenise as often as it is told to."""

    async def tokenize(self, text: str) -> Sequence[int]:
        if self.left:
            raise self.left.pop()
        return await super().tokenize(text)

    left: list[Exception]


async def test_tokenising_is_tried_again() -> None:
    sampling = tts.Sampling(max_tokens=120, step_tokens=60, thinking_tokens=20)
    script = partial(lambda path, seed: "\\boxed{1}" if path else "<think>" + "x" * 90)
    for faults, ended in ((3, Ended.DONE), (999, Ended.ERROR)):
        generator = Untold(script)
        generator.left = [TransientError("reset")] * faults
        async with tts.solve_many(["?"], generator=generator, sampling=sampling, clock=FakeClock()) as outcomes:
            assert [outcome.ended async for outcome in outcomes] == [ended]
