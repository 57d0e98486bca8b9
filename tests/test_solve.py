"""Solving one problem, from asynchronous and from synchronous code."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import trio

import tts
from tests.freely import freely
from tts.errors import (
    BackendError,
    BudgetError,
    NeedsError,
    ParameterError,
    ProblemError,
    RuntimeSupportError,
    StrategyError,
    TTSError,
    UnknownNameError,
    UsageError,
    VerifierError,
)
from tts.fakes import GENERATES, JUDGES, ScriptedGenerator, ScriptedVerifier, shuffled, tree_script
from tts.outcome import Ended
from tts.protocols import PathScore
from tts.solve import problem_seed
from tts.types import Message, Problem, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from tts.capabilities import Capabilities
    from tts.graph import Node
    from tts.search import Search
    from tts.selection import Answer

SAMPLING = Sampling(max_tokens=120, step_tokens=60)


def scripted() -> ScriptedGenerator:
    return ScriptedGenerator(tree_script())


async def test_without_a_verifier_the_majority_answers_and_with_one_the_best() -> None:
    alone = await tts.solve("What is it?", generator=scripted())
    judged = await tts.solve("What is it?", generator=scripted(), verifier=ScriptedVerifier())
    assert (alone.strategy, judged.strategy) == ("self_consistency", "best_of_n")
    assert alone.ended is judged.ended is Ended.DONE
    assert judged.candidates[0].score == max(candidate.score or 0 for candidate in judged.candidates)


@pytest.mark.parametrize(
    "problem",
    [
        "What is it?",
        [Message(role="user", content="What is it?")],
        Problem(messages=(Message(role="user", content="What is it?"),)),
    ],
)
async def test_a_problem_is_a_question_a_conversation_or_a_problem(problem: Any) -> None:
    generator = scripted()
    outcome = await tts.solve(problem, generator=generator)
    assert generator.calls[0].prompt.text == "What is it?\n"
    assert outcome.seed == 0


@pytest.mark.parametrize("problem", ["", "  \n", [], [Message(role="user", content=" ")]])
async def test_an_empty_problem_is_refused_before_anything_is_asked(problem: Any) -> None:
    generator = scripted()
    with pytest.raises(ProblemError, match="empty"):
        await tts.solve(problem, generator=generator)
    assert not generator.calls


REFUSED: dict[str, tuple[type[UsageError], str, dict[str, Any]]] = {
    "no generator": (NeedsError, "a generator is needed", {"generator": None}),
    "unknown option": (UnknownNameError, "did you mean temperature|unknown option 'stratgy'", {"stratgy": "beam"}),
    "unknown strategy": (UnknownNameError, "did you mean beam", {"strategy": "beams"}),
    "unknown generator": (UnknownNameError, "embedded", {"generator": "embeded"}),
    "a class for a strategy": (ParameterError, "expected a name, or a Strategy", {"strategy": int}),
    "no verifier": (NeedsError, "beam needs a verifier", {"strategy": "beam"}),
    "no concurrency": (ParameterError, "concurrency is 0", {"concurrency": 0}),
    "too long": (ParameterError, "max_tokens=5000 does not fit", {"sampling": Sampling(max_tokens=5000)}),
    "an asyncio engine": (
        RuntimeSupportError,
        "scripted runs under nothing",
        {"generator": ScriptedGenerator(tree_script(), able=replace(GENERATES, runtimes=("nothing",)))},
    ),
    "an asyncio verifier": (
        RuntimeSupportError,
        "scripted runs under nothing",
        {"verifier": ScriptedVerifier(able=replace(JUDGES, runtimes=("nothing",)))},
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_cannot_work_is_refused_before_a_token_is_paid_for(what: str) -> None:
    kind, said, options = REFUSED[what]
    generator = scripted()
    given = {"generator": generator, **options}
    given = {name: value for name, value in given.items() if value is not None}
    with pytest.raises(kind, match=said):
        await tts.solve("What is it?", **given)
    assert not generator.calls


async def test_dollars_need_a_price_of_the_verifier_too() -> None:
    judge = ScriptedVerifier(able=replace(JUDGES, dollars_per_token=None))
    with pytest.raises(BudgetError, match="dollars cannot be metered: scripted does not say its dollars_per_token"):
        await tts.solve("What?", generator=scripted(), verifier=judge, budget=tts.Budget(dollars=1))


async def test_a_backend_made_by_name_is_closed_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ScriptedGenerator] = []

    def make(rest: str) -> ScriptedGenerator:
        made.append(scripted())
        return made[-1]

    monkeypatch.setitem(tts.registry._added["generator"], "mine", make)
    await tts.solve("What is it?", generator="mine")
    wrongs: list[dict[str, Any]] = [{"verifier": "missing"}, {"strategy": "beam"}, {"concurrency": 0}]
    for wrong in wrongs:
        with pytest.raises(UsageError):
            await tts.solve("What is it?", generator="mine", **wrong)
    with pytest.raises(ProblemError):
        await tts.solve(" ", generator="mine")
    assert len(made) > 1
    assert all(generator.closed for generator in made)


async def test_a_backend_that_was_given_is_not_closed() -> None:
    generator = scripted()
    await tts.solve("What is it?", generator=generator)
    assert not generator.closed


async def test_an_error_carries_what_was_done() -> None:
    fault = BackendError("no more")
    generator = ScriptedGenerator(tree_script(), shuffled(1), faults=lambda call: fault)
    with pytest.raises(BackendError) as raised:
        await tts.solve("What is it?", generator=generator)
    assert raised.value is fault
    outcome = raised.value.outcome
    assert outcome is not None
    assert (outcome.ended, outcome.error) == (Ended.ERROR, "BackendError: no more")
    assert outcome.usage.generated == generator.sampled > 0
    assert [candidate.finished for candidate in outcome.candidates] == [True]


async def test_a_broken_verifier_leaves_the_samples_in_the_outcome() -> None:
    judge = ScriptedVerifier(spoil=lambda replies: [PathScore([2.0] * len(reply.values)) for reply in replies])
    with pytest.raises(VerifierError, match=r"score 0 is 2\.0; expected a probability") as raised:
        await tts.solve("What is it?", generator=scripted(), verifier=judge)
    assert raised.value.outcome is not None
    assert len(raised.value.outcome.candidates) == 16


async def test_a_bug_in_a_strategy_is_told_as_the_strategys() -> None:
    async def body(s: Search) -> list[Node]:
        raise ZeroDivisionError("a bug")

    with pytest.raises(StrategyError, match="ZeroDivisionError: a bug") as caught:
        await tts.solve("What is it?", generator=scripted(), strategy=freely(body))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.outcome is not None


async def test_a_search_that_loops_over_empty_batches_is_ended() -> None:
    async def body(s: Search) -> list[Node]:
        while True:
            await s.expand(s.root, whole=True)

    with pytest.raises(StrategyError, match="empty batches"):
        await tts.solve("What is it?", generator=scripted(), strategy=freely(body), budget=tts.Budget(samples=2))


async def test_what_a_foreign_backend_raises_is_told_as_its_own() -> None:
    generator = ScriptedGenerator(tree_script(), faults=lambda call: RuntimeError("engine died"))
    with pytest.raises(BackendError, match="generator scripted failed: RuntimeError: engine died"):
        await tts.solve("What is it?", generator=generator)

    def broken(text: str) -> float:
        raise ZeroDivisionError("no")

    with pytest.raises(VerifierError, match="verifier scripted failed: ZeroDivisionError: no") as caught:
        await tts.solve("What is it?", generator=scripted(), verifier=ScriptedVerifier(value=broken))
    assert caught.value.outcome is not None and caught.value.outcome.usage.generated > 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("seed", "x"),
        ("seed", 1.5),
        ("budget", 4096),
        ("sampling", {}),
        ("generator", 3),
        ("verifier", object()),
        ("system", 3),
    ],
)
async def test_options_of_a_wrong_kind_are_refused_before_anything_is_spent(option: str, value: object) -> None:
    generator = scripted()
    with pytest.raises(ParameterError, match=option):
        await tts.solve("What is it?", **{"generator": generator, option: value})  # type: ignore[arg-type]
    assert generator.calls == []


async def test_a_budget_may_be_written() -> None:
    outcome = await tts.solve("What is it?", generator=scripted(), budget="3samples")
    assert outcome.usage.samples == 3


async def test_a_strategy_that_returns_something_else_is_told_so() -> None:
    class Careless(tts.Strategy):
        name: ClassVar[str] = "careless"

        async def search(self, s: Search) -> Answer:
            return s.root  # type: ignore[return-value]

    with pytest.raises(StrategyError, match="instead of an Answer"):
        await tts.solve("What is it?", generator=scripted(), strategy=Careless())


async def test_the_suggested_system_prompt_is_used_unless_there_is_another() -> None:
    able = replace(GENERATES, system="Be brief.")
    texts = []
    for system in (None, "", "Be long."):
        generator = ScriptedGenerator(tree_script(), able=able)
        await tts.solve("What is it?", generator=generator, system=system)
        texts.append(generator.calls[0].prompt.text)
    assert texts == ["Be brief.\nWhat is it?\n", "What is it?\n", "Be long.\nWhat is it?\n"]


async def test_a_conversation_with_a_system_prompt_keeps_it() -> None:
    generator = scripted()
    mine = [Message(role="system", content="Mine."), Message(role="user", content="What?")]
    await tts.solve(mine, generator=generator, system="Yours.")
    assert generator.calls[0].prompt.text == "Mine.\nWhat?\n"


async def test_caps_are_the_samplings_then_the_generators_then_the_context() -> None:
    async def cap(able: Capabilities, max_tokens: int | None = None) -> int:
        generator = ScriptedGenerator(tree_script(), able=able)
        await tts.solve("What?", generator=generator, sampling=Sampling(max_tokens=max_tokens))
        return generator.calls[0].max_tokens

    assert await cap(replace(GENERATES, max_tokens=99), max_tokens=55) == 55
    assert await cap(replace(GENERATES, max_tokens=99)) == 99
    assert await cap(replace(GENERATES, max_tokens=9999)) == 4096 - len("What?\n")
    assert await cap(replace(GENERATES, context=50)) == 50 - len("What?\n")
    assert await cap(replace(GENERATES, context=None)) == 2048


async def test_a_prompt_that_fills_the_context_is_refused() -> None:
    generator = ScriptedGenerator(tree_script(), able=replace(GENERATES, context=6))
    with pytest.raises(ParameterError, match="takes 6 tokens of a context of 6"):
        await tts.solve("What?", generator=generator)


def test_problems_of_one_run_draw_otherwise() -> None:
    problems = [Problem(messages=(Message(role="user", content=text),), id=name) for text, name in ("aA", "aB", "bA")]
    assert len({problem_seed(1, problem) for problem in problems} | {problem_seed(2, problems[0])}) == 4


def from_asyncio(call: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return call()

    return asyncio.run(main())


def from_trio(call: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return call()

    return trio.run(main)


@pytest.mark.parametrize("within", [lambda call: call(), from_asyncio, from_trio], ids=["plain", "asyncio", "trio"])
def test_synchronous_code_solves_too_also_where_a_loop_runs(within: Callable[[Callable[[], Any]], Any]) -> None:
    outcome = within(lambda: tts.solve_sync("What is it?", generator=scripted(), sampling=SAMPLING))
    assert outcome.ended is Ended.DONE
    with pytest.raises(TTSError, match="empty"):
        within(lambda: tts.solve_sync("", generator=scripted()))
