from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tts import registry

if TYPE_CHECKING:
    from tests.cli.conftest import Tts


def test_everything_registered_is_listed(tts: Tts) -> None:
    ran = tts("list")
    assert (ran.code, ran.err) == (0, "")
    for heading, kind in (("strategies", "strategy"), ("verifiers", "verifier"), ("tasks", "task")):
        assert heading in ran.out
        for name in registry.names(kind):  # type: ignore[arg-type]
            assert f"\n  {name}" in ran.out


def test_a_strategy_with_needs_and_parameters(tts: Tts) -> None:
    found = json.loads(tts("list", "strategies", "--json").out)
    beam = next(entry for entry in found["strategies"] if entry["name"] == "beam")
    width = next(parameter for parameter in beam["parameters"] if parameter["name"] == "width")
    assert list(found) == ["strategies"]
    assert "verifier" in beam["needs"] and beam["papers"]
    assert width["default"] == 4 and ">=1" in width["type"] and width["description"]


def test_options_of_a_generator(tts: Tts) -> None:
    out = tts("list", "generators").out
    assert "Say what a script says." in out and "template=null" in out


def test_what_another_package_broke_is_told(tts: Tts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_from_entry_points", lambda kind: {"broken": "no.such.module:Thing"})
    ran = tts("list", "strategies")
    assert ran.code == 0
    assert "not available: No module named 'no'" in ran.out


@pytest.mark.parametrize("name", registry.names("strategy"))
def test_show(tts: Tts, name: str) -> None:
    ran = tts("strategy", "show", name)
    assert ran.code == 0
    assert ran.out.startswith(f"{name}: ")
    assert "arXiv" in ran.out and "parameters\n" in ran.out
    assert "\nstart\n" in ran.out and ran.out.endswith("\nanswer\n")


def test_show_with_parameters(tts: Tts) -> None:
    out = tts("strategy", "show", "self_consistency", "--set", "n=5", "--set", "stopping=beta").out
    assert "n=5 " in out and 'stopping="beta"' in out and "arrivals(n=5, whole, order=key)" in out


def test_help_and_version(tts: Tts) -> None:
    assert tts("--version").code == 0
    assert "exit codes" in tts("solve", "--help").out.lower()
    for command in ("solve", "list", "strategy"):
        assert command in tts("--help").out
