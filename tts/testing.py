"""Everything for tests: scripted fakes, and the laws as checks that third parties can call."""

from tts.checks import check_generator, check_scorer, check_strategy, check_verifier
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
from tts.laws import LawBroken

__all__ = [
    "FakeClock",
    "LawBroken",
    "Schedule",
    "Script",
    "ScriptedGenerator",
    "ScriptedVerifier",
    "at_once",
    "check_generator",
    "check_scorer",
    "check_strategy",
    "check_verifier",
    "cut",
    "letters",
    "paced",
    "shuffled",
    "tree_script",
]
