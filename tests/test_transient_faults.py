"""What a passing fault costs, what waits for it, and for how long; and what is asked of engines that charge for it."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import tts
from tests.freely import freely
from tts.answers import MathAnswerReader
from tts.errors import ParameterError, TransientError
from tts.fakes import GENERATES, FakeClock, ScriptedGenerator, letters, tree_script
from tts.outcome import Ended
from tts.protocols import Needs, Strategy
from tts.retry import Retry
from tts.selection import best
from tts.trace import read_trace
from tts.types import Completion, Finish, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tts.graph import Node
    from tts.protocols import GenerationRequest, Sink
    from tts.search import Search
    from tts.selection import Answer

SAMPLING = Sampling(max_tokens=120, step_tokens=60)
BLIND = replace(GENERATES, exact_cancellation=False)


class Faulty(ScriptedGenerator):
    """Raises what it is told to before it does anything, by the number of the call."""

    def __init__(self, fault: Callable[[int], Exception | None]) -> None:
        super().__init__(tree_script(), able=BLIND)
        self.fault = fault
        self.asked = 0

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        self.asked += 1
        if (fault := self.fault(self.asked - 1)) is not None:
            raise fault
        await super().generate(request, sink)


def first(fault: Exception) -> Callable[[int], Exception | None]:
    return lambda call: fault if call == 0 else None


async def solve(generator: ScriptedGenerator, clock: FakeClock | None = None, **options: Any) -> tts.Outcome:
    given: dict[str, Any] = {"strategy": "self_consistency", "sampling": SAMPLING, **options}
    return await tts.solve("?", generator=generator, clock=clock or FakeClock(), **given)


async def test_a_request_that_was_turned_away_costs_nothing() -> None:
    turned_away = await solve(Faulty(first(TransientError("busy", began=False))))
    fine = await solve(Faulty(lambda call: None))
    assert turned_away.usage.model_copy(update={"seconds": fine.usage.seconds}) == fine.usage
    assert turned_away.answer == fine.answer


async def test_a_request_that_may_have_begun_is_charged_and_its_tokens_bounded() -> None:
    broken = await solve(Faulty(first(TransientError("reset"))))
    fine = await solve(Faulty(lambda call: None))
    assert broken.usage.samples == 2 * fine.usage.samples
    assert broken.usage.unobserved == fine.usage.samples * SAMPLING.max_tokens  # type: ignore[operator]
    assert broken.usage.generated == fine.usage.generated
    assert broken.answer == fine.answer


async def test_a_request_that_was_refused_costs_nothing() -> None:
    with pytest.raises(ParameterError, match="top_p") as raised:
        await solve(Faulty(lambda call: ParameterError("top_p is refused")))
    assert raised.value.outcome is not None
    usage = raised.value.outcome.usage
    assert (usage.samples, usage.generated, usage.unobserved) == (0, 0, 0)


async def test_what_was_seen_of_a_request_that_says_it_had_not_begun_is_charged_all_the_same() -> None:
    class Liar(Faulty):
        async def generate(self, request: GenerationRequest, sink: Sink) -> None:
            if not self.asked:
                sink.progress(0, 5)
            await super().generate(request, sink)

    outcome = await solve(Liar(first(TransientError("busy", began=False))))
    fine = await solve(Faulty(lambda call: None))
    assert outcome.usage.failed == 5
    assert outcome.usage.samples == fine.usage.samples + 1


async def test_a_closed_connection_is_opened_anew_without_waiting_once() -> None:
    clock, fault = FakeClock(), TransientError("closed", at_once=True)
    await solve(Faulty(lambda call: fault if call < 3 else None), clock, seed=1)
    assert clock.sleeps[0] == 0.0
    assert all(seconds > 0 for seconds in clock.sleeps[1:])
    assert len(clock.sleeps) == 3


async def test_what_waits_to_be_tried_again_holds_no_place() -> None:
    clock = FakeClock()
    generator = Faulty(first(TransientError("busy", delay=60.0, began=False)))
    ended = list[float]()
    async with tts.solve_many(
        ["a", "b"], generator=generator, clock=clock, concurrency=1, strategy="self_consistency", sampling=SAMPLING
    ) as outcomes:
        ended.extend([clock.now() async for _ in outcomes])
    assert ended == [0.0, 60.0], "the second problem goes on while the first waits"


async def test_the_deadline_ends_the_waiting_with_what_was_paid() -> None:
    async def two_batches(s: Search) -> list[Node]:
        return [*await s.expand(s.root, 2, whole=True), *await s.expand(s.root, 2, whole=True)]

    clock = FakeClock()
    generator = Faulty(lambda call: TransientError("busy", delay=60.0, began=False) if call else None)
    outcome = await solve(generator, clock, strategy=freely(two_batches), budget="1s")
    assert (outcome.ended, outcome.limit, outcome.error) == (Ended.BUDGET, "seconds", None)
    assert clock.now() == 1.0
    assert outcome.usage.samples == 2
    assert outcome.usage.generated == generator.sampled > 0
    assert outcome.usage.unobserved == 0
    assert outcome.answer is not None


async def test_a_server_that_is_always_busy_ends_at_the_deadline_with_nothing() -> None:
    clock = FakeClock()
    generator = Faulty(lambda call: TransientError("busy", delay=60.0, began=False))
    outcome = await solve(generator, clock, budget="1s")
    assert (outcome.ended, outcome.answer, clock.now()) == (Ended.BUDGET, None, 1.0)
    assert (outcome.usage.samples, outcome.usage.generated, outcome.usage.unobserved) == (0, 0, 0)


async def test_without_a_deadline_the_attempts_come_to_an_end() -> None:
    generator = Faulty(lambda call: TransientError("busy", began=False))
    with pytest.raises(TransientError, match="busy") as raised:
        await solve(generator, retry=Retry(attempts=4))
    assert generator.asked == 4
    assert raised.value.outcome is not None
    assert raised.value.outcome.usage.samples == 0


class Curious(Strategy):
    """Asks for log-probabilities."""

    name: ClassVar[str] = "curious"

    top: int = 0
    own: bool = False

    @property
    def needs(self) -> Needs:
        return Needs(logprobs=self.own, top_logprobs=self.top)

    async def search(self, s: Search) -> Answer:
        return best(await s.expand(s.root, 2, whole=True))


class Telling(ScriptedGenerator):
    """Gives the log-probabilities of the likeliest tokens."""

    def _completion(self, request: GenerationRequest, seed: int) -> Completion:
        plain, top = super()._completion(request, seed), request.top_logprobs
        rows = array("f", [-rank / 4 for _ in range(plain.tokens) for rank in range(top)])
        return replace(plain, top_logprobs=rows if top else None)


@pytest.mark.parametrize(
    ("free", "own", "top", "asked"),
    [
        (True, False, 0, (True, 0)),
        (False, False, 0, (False, 0)),
        (False, True, 0, (True, 0)),
        (False, False, 3, (True, 3)),
        (True, False, 3, (True, 3)),
    ],
)
async def test_log_probabilities_that_cost_are_asked_for_only_where_they_are_needed(
    free: bool, own: bool, top: int, asked: tuple[bool, int]
) -> None:
    generator = Telling(tree_script(), able=replace(GENERATES, logprobs_free=free, top_logprobs=5))
    await solve(generator, strategy=Curious(top=top, own=own))
    assert {(request.logprobs, request.top_logprobs) for request in generator.calls} == {asked}


async def test_the_likeliest_tokens_come_to_the_nodes_and_the_trace(tmp_path: Path) -> None:
    generator = Telling(tree_script(), able=replace(GENERATES, top_logprobs=5))
    path = tmp_path / "trace.jsonl"
    outcome = await solve(generator, strategy=Curious(top=2), trace=path)
    assert outcome.graph is not None
    nodes = [node for node in outcome.graph if node.finish is Finish.EOS]
    assert len(nodes) == 2
    for node in nodes:
        assert list(node.top_logprobs or ()) == [0, -0.25] * (len(letters(node.text)) + 1)
    (trace,) = read_trace(path)
    again = [node.top_logprobs for node in trace.graph(MathAnswerReader()) if node.finish is Finish.EOS]
    assert again == [node.top_logprobs for node in nodes]
