"""Every law has mutants, and its check finds each of them out."""

from __future__ import annotations

import pytest

from tests.laws import mutants_of_conduct, mutants_of_the_books
from tests.laws.mutants import MUTANTS, Mutant
from tts.laws import LAWS, Bench, LawBroken

ROOMS = (mutants_of_the_books, mutants_of_conduct)
"""Importing them enters their mutants."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.law}-{mutant.name}")
async def test_the_law_finds_it_out(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    await LAWS[mutant.law](Bench(mutant.strategy))
    mutant.mutate(monkeypatch)
    with pytest.raises(LawBroken) as broken:
        await LAWS[mutant.law](Bench(mutant.strategy))
    assert broken.value.law in mutant.caught_as


def test_every_law_has_mutants() -> None:
    assert {mutant.law for mutant in MUTANTS} == set(LAWS)


def test_mutants_are_told_apart() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.mutate.__module__ for mutant in MUTANTS} == {room.__name__ for room in ROOMS}
