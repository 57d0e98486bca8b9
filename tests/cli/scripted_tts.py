"""The command line with backends whose pace a test decides; run as a program."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import anyio

from tts import register
from tts.cli.main import main
from tts.testing import ScriptedGenerator, ScriptedVerifier, tree_script

if TYPE_CHECKING:
    from tts.protocols import Generator, Verifier


def stalled(rest: str) -> Generator:
    """Let two children finish; the others say three tokens, then that they stall, and never go on."""
    stalled: set[int] = set()

    async def schedule(seed: int, tokens: int) -> None:
        if seed % 4096 > 1 and tokens > 3:
            stalled.add(seed)
            if len(stalled) == 2:
                sys.stdout.write("stalled\n")
                sys.stdout.flush()
            await anyio.sleep_forever()

    return ScriptedGenerator(tree_script(), schedule=schedule)


def scripted(rest: str) -> Generator:
    """Say it at once."""
    return ScriptedGenerator(tree_script())


def verifier(rest: str) -> Verifier:
    """Score by a hash."""
    return ScriptedVerifier()


if __name__ == "__main__":
    register("generator", "stalled", stalled)
    register("generator", "scripted", scripted)
    register("verifier", "scripted", verifier)
    sys.exit(main())
