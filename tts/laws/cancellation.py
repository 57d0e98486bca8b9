"""Law 6: a search cancelled from outside leaves nothing running, borrowed, held or uncharged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from tts.budget import Budget
from tts.laws.bench import thinking
from tts.laws.budget import nothing_held
from tts.laws.trials import Conditions, Trial, require

if TYPE_CHECKING:
    from tts.laws.bench import Bench
    from tts.protocols import Strategy


async def check(bench: Bench) -> None:
    """Cancelled early, midway and late, while sampling, scoring and thinking, wide and narrow."""
    total = (await bench.free()).ended().usage.generated
    for part in (0.0, 0.1, 0.5, 0.9):
        await _cancelled(bench.strategy, Conditions(), int(total * part))
        await _cancelled(bench.strategy, Conditions(concurrency=2), int(total * part))
    for part in (0.1, 0.4) if bench.thorough else ():
        await _cancelled(bench.strategy, thinking(Budget()), int(total * part))


async def _cancelled(strategy: Strategy, conditions: Conditions, after: int) -> None:
    scope = anyio.CancelScope()
    allowed: list[int] = []

    async def wait(child: int, tokens: int) -> None:
        if trial.generator.sampled >= after and not scope.cancel_called:
            allowed.append(trial.generator.sampled + trial.generator.running)
            scope.cancel()
        await anyio.lowlevel.checkpoint()

    trial = Trial(strategy, replace(conditions, schedule=wait, judging=wait))
    with scope:
        await trial.run()
    sampled = trial.generator.sampled
    for most in allowed:
        require(6, sampled <= most, "the engine went on after the cancellation", sampled=sampled, most=most)
    left_nothing(trial)


def left_nothing(trial: Trial) -> None:
    """Check what a search that was cancelled has left."""
    running = trial.generator.running
    require(6, running == 0, "children still run on the engine", running=running)
    borrowed = trial.limiter.taken if trial.limiter is not None else 0
    require(6, borrowed == 0, "permits are still borrowed", borrowed=borrowed)
    nothing_held(trial, 6)
    spent = trial.ledger.spent
    sampled = trial.generator.sampled
    require(6, spent.tokens == sampled, "what was aborted is not charged", sampled=sampled, charged=spent.tokens)
    seen = len(trial.verifier.seen) if trial.verifier is not None else 0
    require(6, spent.verifier_calls == seen, "scoring that was aborted is not charged", made=seen, charged=spent)
    events = trial.total("node", "tokens") + trial.total("failed", "tokens")
    require(6, events == sampled, "events do not sum to what was sampled", events=events, sampled=sampled)
