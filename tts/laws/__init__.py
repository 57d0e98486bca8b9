"""The laws that every strategy keeps, each as a check on scripted backends under adversarial conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts.laws import accounting, answers, budget, cancellation, determinism, errors, steps, verifiers
from tts.laws.bench import Bench
from tts.laws.trials import Conditions, LawBroken, Trial

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LAWS: dict[int, Callable[[Bench], Awaitable[None]]] = {
    1: budget.check,
    2: accounting.check,
    3: determinism.check,
    4: steps.check,
    5: verifiers.check,
    6: cancellation.check,
    7: errors.check,
    8: answers.check,
}
"""Each law's check, by its number."""

__all__ = ["LAWS", "Bench", "Conditions", "LawBroken", "Trial"]
