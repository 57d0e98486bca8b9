"""Law 1: no limit is exceeded, and whatever was held is free again at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts.budget import METERS, Amounts, Budget
from tts.fakes import FakeClock, at_once, paced
from tts.laws.trials import WATCHED, Conditions, Trial, require

if TYPE_CHECKING:
    from tts.laws.bench import Bench


async def check(bench: Bench) -> None:
    """No limit is exceeded, neither at the end nor by what is held meanwhile; holds are zero at the end."""
    for row in await bench.matrix():
        for trial in row:
            within_budget(trial)
    await _deadline(bench)


def within_budget(trial: Trial) -> None:
    """Check one run."""
    usage, limits = trial.ended().usage, trial.conditions.budget
    spent = {"tokens": usage.generated} | {name: getattr(usage, name) for name in METERS if name != "tokens"}
    for name in METERS:
        limit = getattr(limits, name)
        if limit is not None:
            require(1, spent[name] <= limit * (1 + 1e-9), f"{name} above its limit", spent=spent[name], limit=limit)
            most = trial.peaks[name] if name in WATCHED else 0
            require(1, most <= limit, f"{name} spent and held above the limit", most=most, limit=limit)
    nothing_held(trial, 1)


def nothing_held(trial: Trial, law: int) -> None:
    """Check that whatever was held is free again."""
    require(law, trial.ledger.held == Amounts(), "something is still held", held=trial.ledger.held)


async def _deadline(bench: Bench) -> None:
    for seconds in (2.5, 40.5) if bench.thorough else (20.5,):
        for pace in ("sampling", "judging"):
            clock = FakeClock()
            slow, fast = paced(clock), at_once
            schedule, judging = (slow, fast) if pace == "sampling" else (fast, slow)
            limits = Budget(seconds=seconds)
            conditions = Conditions(budget=limits, clock=clock, schedule=schedule, judging=judging)
            trial = await bench.run(conditions)
            took = trial.ended().usage.seconds
            require(1, took <= seconds, f"{pace} went on after the deadline", took=took, limit=seconds)
            nothing_held(trial, 1)
