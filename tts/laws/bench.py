"""The runs that several laws look at: one strategy under budgets that cut it short, each in adversarial orders."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tts.budget import Budget
from tts.fakes import shuffled, tree_script
from tts.laws.trials import PATH_TOKENS, Conditions, Trial
from tts.seeds import derive
from tts.types import Sampling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tts.protocols import Strategy
    from tts.types import Usage


class Bench:
    """A strategy, with the trials that have been made of it; not `thorough`, under fewer budgets and schedules."""

    def __init__(self, strategy: Strategy, *, thorough: bool = True) -> None:
        self.strategy = strategy
        self.thorough = thorough
        self._free: Trial | None = None
        self._matrix: list[list[Trial]] | None = None

    async def run(self, conditions: Conditions) -> Trial:
        """Run the strategy once."""
        return await Trial(self.strategy, conditions).run()

    async def free(self) -> Trial:
        """Return a run without a budget, every child at once."""
        if self._free is None:
            self._free = await self.run(Conditions())
            self._free.ended()
        return self._free

    async def matrix(self) -> list[list[Trial]]:
        """Return a row of trials for each budget, each row under the same adversarial schedules."""
        if self._matrix is None:
            every = None if self.thorough else 3
            limits = [Budget(), *tight((await self.free()).ended().usage)]
            firsts = [Conditions(budget=each) for each in limits]
            firsts = firsts[:every] if every else [*firsts, *map(thinking, limits[:2])]
            rows = [list(schedules(first))[:every] for first in firsts]
            self._matrix = [[await self.run(conditions) for conditions in row] for row in rows]
        return self._matrix


def tight(usage: Usage) -> Iterator[Budget]:
    """Yield budgets that cut short a search which took so much when it had none."""
    # A hold is taken at the caps: this leaves room for a few children at a time, and a quarter below for hardly one.
    yield Budget(tokens=usage.generated // 2 + PATH_TOKENS)
    if usage.verifier_calls:
        yield Budget(verifier_calls=max(1, usage.verifier_calls // 2))
    yield Budget(samples=max(1, usage.samples // 2))
    yield Budget(tokens=max(1, usage.generated // 4))
    if usage.flops:
        yield Budget(flops=usage.flops * 0.6)
    if usage.dollars:
        yield Budget(dollars=usage.dollars * 0.6)


def schedules(conditions: Conditions) -> Iterator[Conditions]:
    """Yield the same conditions under adversarial orders of arrival, wide and one at a time."""
    yield conditions
    yield replace(conditions, schedule=shuffled(3), judging=shuffled(4, 40), concurrency=1)
    yield replace(conditions, schedule=shuffled(1), judging=shuffled(8))
    yield replace(conditions, schedule=shuffled(2), judging=shuffled(9), concurrency=3)
    yield replace(conditions, judging=shuffled(5, 40))


def thinking(budget: Budget) -> Conditions:
    """Return conditions under which the model thinks first, and is cut short by the cap on thinking now and then."""
    sampling = Sampling(max_tokens=PATH_TOKENS, step_tokens=60, thinking_tokens=24)
    return Conditions(budget=budget, script=thinking_script, sampling=sampling)


def thinking_script(path: str, seed: int) -> str:
    """Think for a while, unless that is over, then speak."""
    thought, closed, said = path.partition("</think>")
    if closed:
        return tree_script()(said.lstrip("\n"), seed)
    more = "" if thought else "<think>" + "hm " * (1 + derive("thought", seed) % 12)
    return f"{more}</think>\n\n{tree_script()('', seed)}"


def halting_script(path: str, seed: int) -> str:
    """Say nothing but a delimiter now and then, which is an empty step."""
    return "\n\n" if seed % 3 == 0 else tree_script()(path, seed)
