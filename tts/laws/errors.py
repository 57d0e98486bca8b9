"""Law 7: faults that pass change nothing, those that stay are raised as themselves, and needs are checked first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tts.budget import Budget
from tts.errors import BackendError, NeedsError, TransientError, TTSError
from tts.fakes import FakeClock, shuffled
from tts.laws.accounting import charged_once, fault_at
from tts.laws.determinism import same_search
from tts.laws.trials import Conditions, Trial, require
from tts.outcome import Ended
from tts.retry import Retry

if TYPE_CHECKING:
    from tts.laws.bench import Bench
    from tts.protocols import Strategy


async def check(bench: Bench) -> None:
    """At the first, the middle and the last call, at every call, and before any."""
    strategy, free = bench.strategy, await bench.free()
    calls = len(free.generator.calls)
    for call in sorted({0, calls // 2, calls - 1}):
        passing = await bench.run(Conditions(faults=fault_at(call)))
        passing.ended()
        if not strategy.order_sensitive:
            same_search(free, passing)
        await _fatal(bench, call)
    await _patience(strategy)
    await _needs(strategy)


async def _fatal(bench: Bench, call: int) -> None:
    said = "engine 17 is on fire"
    fault = BackendError(said)
    failing = Conditions(faults=lambda number: fault if number >= call else None, schedule=shuffled(1))
    trial = await bench.run(failing)
    if trial.error is None and (trial.left_children() or trial.consumed() == (await bench.free()).consumed()):
        return  # it had all that it wanted, and the fault was cancelled with the block that met it
    require(7, trial.error is fault, "the engine's error was not raised as itself", error=trial.error)
    assert trial.outcome is not None
    require(7, trial.outcome.ended is Ended.ERROR, "an error is no ending", ended=trial.outcome.ended)
    require(7, said in (trial.outcome.error or ""), "the outcome hides the error", error=trial.outcome.error)
    texts = [entry.text for entry in trial.outcome.candidates if said in entry.text]
    require(7, not texts, "an error is a candidate", texts=texts)
    charged_once(trial)


async def _patience(strategy: Strategy) -> None:
    clock = FakeClock()
    retry = Retry(attempts=50, first_delay=1.0, longest_delay=4.0)
    conditions = Conditions(budget=Budget(seconds=20), clock=clock, retry=retry, script=busy_script)
    trial = await Trial(strategy, conditions).run()
    outcome = trial.ended()
    require(7, outcome.ended is Ended.BUDGET, "patience outlived the deadline", ended=outcome.ended)
    require(7, outcome.usage.seconds <= 20, "retries went on after the deadline", seconds=outcome.usage.seconds)
    require(7, len(clock.sleeps) > 1, "a fault that may pass was not tried again", sleeps=clock.sleeps)
    charged_once(trial)


def busy_script(path: str, seed: int) -> str:
    """Fail before anything is said."""
    raise TransientError("busy")


async def _needs(strategy: Strategy) -> None:
    needs, fair = strategy.needs, Conditions()
    if needs.verifier or needs.partial_scores:
        await _refused_first(strategy, replace(fair, judge=None), "a verifier")
    if needs.partial_scores and fair.judge is not None:
        await _refused_first(strategy, replace(fair, judge=replace(fair.judge, partial=False)), "partial scores")
    if needs.continuation:
        await _refused_first(strategy, replace(fair, able=replace(fair.able, continuation=False)), "continuation")
    if needs.logprobs:
        await _refused_first(strategy, replace(fair, able=replace(fair.able, logprobs=False)), "log-probabilities")


async def _refused_first(strategy: Strategy, conditions: Conditions, what: str) -> None:
    trial = Trial(strategy, conditions)
    raised: TTSError | None = None
    try:
        await trial.run()
    except TTSError as error:
        raised = error
    require(7, isinstance(raised, NeedsError), f"run without {what}, which it needs", error=raised)
    require(7, not trial.generator.calls, f"paid for tokens without {what}", calls=len(trial.generator.calls))
