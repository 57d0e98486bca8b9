from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tts import registry
from tts.notation import best, expand, keep, loop, score
from tts.strategies.beam import Beam

if TYPE_CHECKING:
    from tests.cli.conftest import Tts
    from tts.capabilities import Capabilities, VerifierCapabilities


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
    assert width["default"] == 4 and ">= 1" in width["type"] and width["description"]


def test_options_of_a_generator(tts: Tts) -> None:
    out = tts("list", "generators").out
    assert "Say what a script says." in out and "template=null" in out


def test_a_strategy_registered_with_its_parameters(tts: Tts, monkeypatch: pytest.MonkeyPatch) -> None:
    line = loop(expand(4) >> score() >> keep(4)) >> best()
    monkeypatch.setitem(registry._added["strategy"], "my_line", line)
    monkeypatch.setitem(registry._added["strategy"], "my_beam", Beam(width=2))
    ran = tts("list", "strategies")
    assert ran.code == 0
    section = ran.out.partition("my_line")[2].partition("\n  particle")[0]
    assert "loop(" in section and "keep(n=4)" in section.splitlines()[0]
    assert "needs: verifier, partial scores, continuation" in section and "takes no parameters" in section
    assert "operators" not in section
    shown = tts("strategy", "show", "my_line").out
    assert "loop(" in shown and "takes no parameters" in shown and "operators=" not in shown
    assert "takes no parameters" in tts("strategy", "show", "my_beam").out


def test_backends_are_generators_and_verifiers(tts: Tts) -> None:
    found = json.loads(tts("list", "backends", "--json").out)
    assert found == json.loads(tts("list", "generators", "--json").out) | json.loads(
        tts("list", "verifiers", "--json").out
    )
    assert list(found) == ["generators", "verifiers"]


def test_types_of_options_are_told_in_words(tts: Tts, monkeypatch: pytest.MonkeyPatch) -> None:
    def factory(rest, *, untyped=None, strange: NoSuchName = 1):  # type: ignore[no-untyped-def, name-defined]  # noqa: F821
        """Do."""

    monkeypatch.setitem(registry._added["generator"], "odd", factory)
    out = tts("list", "generators").out
    assert "template=null  text or null" in out and "threads=1      integer\n" in out
    assert "untyped=null  any" in out and "strange=1     NoSuchName" in out
    assert " str | None" not in out and " int\n" not in out


def test_what_a_backend_needs_and_gives_is_said_in_its_docstring(tts: Tts, monkeypatch: pytest.MonkeyPatch) -> None:
    def factory(rest: str) -> None:
        """Ask a server.

        Needs: a server, httpx
        Gives: continuation
        """

    monkeypatch.setitem(registry._added["generator"], "embedded", factory)
    out = tts("list", "generators").out
    assert "      needs: a server, httpx\n      gives: continuation" in out
    assert "extra" not in out


def test_what_the_embedded_backends_give_is_so(tts: Tts) -> None:
    found = json.loads(tts("list", "backends", "--json").out)
    generator = next(entry for entry in found["generators"] if entry["name"] == "embedded")
    verifier = next(entry for entry in found["verifiers"] if entry["name"] == "embedded")
    assert generator["needs"] == verifier["needs"] == ["extra embedded"]
    able: Capabilities = registry.generator("embedded").capabilities
    assert able.continuation and able.logprobs and able.seeds and able.exact_cancellation
    assert generator["gives"] == ["continuation", "log-probabilities", "seeds", "exact cancellation"]
    judging: VerifierCapabilities = registry.verifier("embedded").capabilities
    assert judging.steps and judging.partial
    assert verifier["gives"] == ["scores of steps", "partial scores"]


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
