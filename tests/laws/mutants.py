"""What a mutant is: a runtime that breaks one law, so that a check that would let it pass is found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tts.protocols import Strategy

    Mutation = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutant:
    """One way to break a law, and a strategy on which it shows.

    `caught_as` are the laws whose clauses may speak up first.
    """

    law: int
    name: str
    mutate: Mutation
    strategy: Strategy
    caught_as: tuple[int, ...] = ()


MUTANTS: list[Mutant] = []


def mutant(law: int, strategy: Strategy, *caught_as: int) -> Callable[[Mutation], Mutation]:
    """Enter a mutation under its law."""

    def enter(mutate: Mutation) -> Mutation:
        MUTANTS.append(Mutant(law, mutate.__name__, mutate, strategy, (law, *caught_as)))
        return mutate

    return enter
