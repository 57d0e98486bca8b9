"""Text for terminals: what a model or a problem says is data, and reaches the screen without control characters."""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_SEQUENCE = re.compile(
    r"""
    # CSI: colours, cursor, erasing
    (?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]
    # OSC, DCS and the like: titles, links, clipboard
    | (?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)
    # escapes of two characters
    | \x1b[ -/]*[0-~]
    """,
    re.VERBOSE,
)
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and newline, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of writing
    "\ud800-\udfff]"  # lone surrogates, which no stream can encode
)


def safe(text: str) -> str:
    """Return `text` without escape sequences and control characters; newlines and tabs stay.

    Markup is left as it is: `console` makes consoles that do not read any.
    """
    return _CONTROL.sub("", _SEQUENCE.sub("", text))


def one_line(text: str) -> str:
    """Return safe text with every run of white space made a single space."""
    return " ".join(safe(text).split())


def console(file: IO[str]) -> Console:
    """Return a console that takes every text literally: no markup, no emoji codes, no highlighting."""
    from rich.console import Console

    return Console(file=file, markup=False, emoji=False, highlight=False)
