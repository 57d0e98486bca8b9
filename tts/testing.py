"""Everything for tests: scripted fakes, and the laws as checks that third parties can call."""

from tts.fakes import (
    FakeClock,
    Schedule,
    Script,
    ScriptedGenerator,
    ScriptedVerifier,
    at_once,
    cut,
    letters,
    paced,
    shuffled,
    tree_script,
)

__all__ = [
    "FakeClock",
    "Schedule",
    "Script",
    "ScriptedGenerator",
    "ScriptedVerifier",
    "at_once",
    "cut",
    "letters",
    "paced",
    "shuffled",
    "tree_script",
]
