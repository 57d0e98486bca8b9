"""For which problem something is asked, so that it goes where that problem's prefix is cached, and in its turn."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Caller:
    """A problem that is being solved.

    Attributes:
        problem: What tells it from others, the same in every run; empty if nothing is known.
        order: How many problems had begun before it in this process.
    """

    problem: str = ""
    order: int = 0


_caller: ContextVar[Caller] = ContextVar("tts_caller", default=Caller())  # noqa: B039 (it is frozen)
_begun = itertools.count()


def caller() -> Caller:
    """Return for which problem this task works."""
    return _caller.get()


@contextmanager
def on_behalf_of(problem: str) -> Iterator[None]:
    """Let all that is asked within the block, in tasks begun there too, be asked for a problem."""
    token = _caller.set(Caller(problem, next(_begun)))
    try:
        yield
    finally:
        _caller.reset(token)
