"""Names to things."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest
from pydantic import Field

import tts
from tts import registry
from tts.errors import ParameterError, UnknownNameError
from tts.protocols import Strategy
from tts.strategies.beam import Beam

if TYPE_CHECKING:
    from tts.registry import Kind
    from tts.search import Search
    from tts.selection import Answer

KINDS: list[Kind] = ["strategy", "generator", "verifier", "task"]


class Mine(Strategy):
    """A strategy of somebody else."""

    name: ClassVar[str] = "mine"

    width: int = Field(default=3, ge=1, le=9)

    async def search(self, s: Search) -> Answer:
        raise NotImplementedError


@pytest.mark.parametrize("name", registry.names("strategy"))
def test_every_strategy_is_found_under_its_own_name_with_defaults_and_words(name: str) -> None:
    strategy = registry.strategy(name)
    assert strategy.name == name
    assert type(strategy).__doc__
    assert all(info.description for info in type(strategy).model_fields.values())
    assert type(strategy).model_json_schema()["properties"].keys() == type(strategy).model_fields.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_sorted_and_each_is_found(kind: Kind) -> None:
    names = registry.names(kind)
    assert names == sorted(names)
    assert names
    assert all(registry.find(kind, name) is not None for name in names)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_name_is_refused_with_the_nearest(kind: Kind) -> None:
    known = registry.names(kind)[0]
    with pytest.raises(UnknownNameError, match=f"unknown {kind} '{known}x'; did you mean {known}"):
        registry.find(kind, known + "x")


def test_unknown_parameters_are_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown parameter of beam 'widht'; did you mean width"):
        registry.strategy("beam", widht=3)


@pytest.mark.parametrize("value", [0, -1, "many", None, 1.5, float("nan")])
def test_values_out_of_range_are_refused_in_one_line(value: object) -> None:
    with pytest.raises(ParameterError, match=r"^beam: width=") as refused:
        registry.strategy("beam", width=value)
    assert "\n" not in str(refused.value)


def test_a_strategy_that_is_made_is_returned_as_it_is() -> None:
    beam = Beam(width=2)
    assert registry.strategy(beam) is beam


def test_strategies_are_values() -> None:
    assert Beam(width=2) == Beam(width=2) != Beam(width=3)
    assert hash(Beam(width=2)) == hash(Beam(width=2))


def test_what_is_registered_is_found_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._added, "strategy", {})
    tts.register("strategy", "mine", Mine)
    tts.register("strategy", "beam", Mine)
    assert registry.strategy("mine", width=4) == Mine(width=4)
    assert isinstance(registry.strategy("beam"), Mine)
    assert "mine" in registry.names("strategy")


def test_a_factory_is_given_what_follows_the_colon(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setitem(registry._added, "generator", {"mine": asked.append})
    registry.generator("mine:folder:with:colons")
    registry.generator("mine")
    assert asked == ["folder:with:colons", ""]


def test_other_packages_add_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_from_entry_points", lambda kind: {"theirs": "tts.strategies.beam:Beam"})
    assert registry.strategy("theirs", width=2) == Beam(width=2)
    assert "theirs" in registry.names("strategy")


def test_unknown_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown option 'budgets'; did you mean budget"):
        registry.check_options(["seed", "budgets"], tts.SolveOptions.__annotations__)


def test_a_bare_url_is_told_how_to_be_written() -> None:
    with pytest.raises(ParameterError, match="write vllm:http://"):
        registry.generator("http://localhost:8000")
