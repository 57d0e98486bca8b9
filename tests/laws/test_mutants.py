"""Every law has mutants, and its check finds each of them out."""

from __future__ import annotations

import anyio
import pytest

from tests.laws import mutants_of_conduct, mutants_of_the_books
from tests.laws.mutants import MUTANTS, Mutant
from tests.laws.subjects import EVERY
from tts.laws import LAWS, Bench, LawBroken

ROOMS = (mutants_of_the_books, mutants_of_conduct)
"""Importing them enters their mutants."""


CASES = [(("asyncio", "trio")[place % 2], mutant) for place, mutant in enumerate(MUTANTS)]
"""One event loop each is enough: on both, the laws' own tests hold for the strategies that mutants are tried on."""


@pytest.mark.parametrize(("loop", "mutant"), CASES, ids=lambda one: getattr(one, "name", one))
def test_the_law_finds_it_out(loop: str, mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mutant.strategy in EVERY
    mutant.mutate(monkeypatch)
    with pytest.raises(LawBroken) as broken:
        anyio.run(LAWS[mutant.law], Bench(mutant.strategy), backend=loop)
    assert broken.value.law in mutant.caught_as


def test_every_law_has_mutants() -> None:
    assert {mutant.law for mutant in MUTANTS} == set(LAWS)


def test_mutants_are_told_apart() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.mutate.__module__ for mutant in MUTANTS} == {room.__name__ for room in ROOMS}
