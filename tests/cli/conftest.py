from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tts import registry
from tts.capabilities import Capabilities
from tts.cli.main import main
from tts.errors import BackendError
from tts.testing import ScriptedGenerator, ScriptedVerifier, tree_script

if TYPE_CHECKING:
    from tts.protocols import Generator, Verifier

NASTY = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J [bold]not bold[/bold] [link=http://x]y[/link] :smile:\n"
    "<script>alert(1)</script>\n"
    "\x1b]8;;http://x\x1b\\click\x1b]8;;\x1b\\ \u202egnp.exe \x00\x08\r\n\n"
    "The answer is \\boxed{[3,\u202e 4]\x1b[2J}"
)
"""What a model may say that a terminal, a renderer or a page would act upon."""


class Ran(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


Tts = Callable[..., Ran]


@pytest.fixture
def tts(capsys: pytest.CaptureFixture[str]) -> Tts:
    """Run the command line in this process."""

    def run(*argv: str) -> Ran:
        capsys.readouterr()
        code = main(argv)
        return Ran(code, *capsys.readouterr())

    return run


@dataclass
class Backends:
    """What the registered factories have made, and whether it was closed."""

    made: list[ScriptedGenerator]
    templates: list[str | None]


def fail_at_second(call: int) -> Exception | None:
    """Raise in the second request, in two lines."""
    return BackendError("the engine is gone\nfor good") if call else None


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> Backends:
    """Register scripted backends under names for a test."""
    backends = Backends([], [])
    for variable in ("TTS_GENERATOR", "TTS_VERIFIER"):
        monkeypatch.delenv(variable, raising=False)

    def add(name: str, make: Callable[[], ScriptedGenerator]) -> None:
        def factory(rest: str, *, template: str | None = None) -> Generator:
            """Say what a script says."""
            backends.made.append(make())
            backends.templates.append(template)
            return backends.made[-1]

        monkeypatch.setitem(registry._added["generator"], name, factory)

    def verifier(rest: str) -> Verifier:
        return ScriptedVerifier()

    add("scripted", lambda: ScriptedGenerator(tree_script()))
    add("nasty", lambda: ScriptedGenerator(lambda path, seed: NASTY))
    add("silent", lambda: ScriptedGenerator(lambda path, seed: "I do not know."))
    add("failing", lambda: ScriptedGenerator(tree_script(), faults=fail_at_second))
    for name in ("alpha", "beta", "gamma"):
        able = Capabilities(name=name, system="Think.")
        add(name, lambda able=able: ScriptedGenerator(tree_script(), able=able))  # type: ignore[misc]
    monkeypatch.setitem(registry._added["verifier"], "scripted", verifier)
    return backends
