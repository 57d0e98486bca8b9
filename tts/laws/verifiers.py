"""Law 5: a verifier that breaks its word is a typed error, never a score."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tts.errors import VerifierError
from tts.fakes import at_once, shuffled
from tts.laws.accounting import charged_once
from tts.laws.trials import Conditions, LawBroken, Trial, require
from tts.outcome import Ended
from tts.protocols import PathScore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tts.laws.bench import Bench


def spoilt(value: float) -> Callable[[list[PathScore]], list[PathScore]]:
    """Return a verifier's fault: the first score of every path is this."""
    return lambda replies: [PathScore([value, *reply.values[1:]], reply.tokens) for reply in replies]


FAULTY: dict[str, Callable[[list[PathScore]], Any]] = {
    "a path too few": lambda replies: replies[:-1],
    "a path too many": lambda replies: [*replies, replies[-1]],
    "a score too few": lambda replies: [PathScore(reply.values[:-1], reply.tokens) for reply in replies],
    "a score too many": lambda replies: [PathScore([*reply.values, 0.5], reply.tokens) for reply in replies],
    "not a number": spoilt(math.nan),
    "infinity": spoilt(math.inf),
    "negative": spoilt(-0.1),
    "above one": spoilt(1.5),
    "nothing for a score": spoilt(None),  # type: ignore[arg-type]
    "nothing for scores": lambda replies: [PathScore(None, 0) for _ in replies],  # type: ignore[arg-type]
    "nothing for a path": lambda replies: [None for _ in replies],
    "nothing at all": lambda replies: None,
}


async def check(bench: Bench) -> None:
    """Under every way in which a verifier can break its word: no score is invented, no token lost from the books."""
    for fault, spoil in FAULTY.items():
        for schedule in (at_once, shuffled(1))[: 1 + bench.thorough]:
            trial = Trial(bench.strategy, Conditions(spoil=spoil, schedule=schedule))
            try:
                await trial.run()
            except (TypeError, ValueError, AttributeError) as error:
                raise LawBroken(5, f"{fault} is no typed error", error=error) from error
            refused(trial, fault)


def refused(trial: Trial, fault: str) -> None:
    """Check what became of a verifier's fault."""
    if trial.verifier is None or not trial.verifier.calls:
        return
    require(5, isinstance(trial.error, VerifierError), f"{fault} was accepted", error=trial.error)
    assert trial.outcome is not None
    require(5, trial.outcome.ended is Ended.ERROR, f"{fault} is no error in the outcome", ended=trial.outcome.ended)
    scored = [entry.key for entry in trial.outcome.candidates if entry.score is not None]
    require(5, not scored, f"scores came of {fault}", candidates=scored)
    charged_once(trial)
