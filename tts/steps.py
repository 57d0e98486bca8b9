"""How text divides into steps."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@lru_cache(maxsize=64)
def _pattern(delimiters: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(delimiters, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)))


def split_steps(text: str, delimiters: Sequence[str]) -> list[str]:
    """Cut `text` after each delimiter; joining gives it back. White space alone stays with the step before."""
    if not delimiters:
        return [text] if text else []
    steps: list[str] = []
    start = 0
    for match in _pattern(tuple(delimiters)).finditer(text):
        _append(steps, text[start : match.end()])
        start = match.end()
    _append(steps, text[start:])
    return steps


def _append(steps: list[str], piece: str) -> None:
    if steps and not piece.strip():
        steps[-1] += piece
    elif piece:
        steps.append(piece)


def is_empty_step(text: str, delimiters: Sequence[str]) -> bool:
    """Whether nothing but delimiters and white space is left."""
    rest = _pattern(tuple(delimiters)).sub("", text) if delimiters else text
    return not rest.strip()
