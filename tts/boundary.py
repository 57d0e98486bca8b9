"""Where code of other people is called: whatever it raises becomes a typed error that says whose it was."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tts.errors import TTSError
from tts.groups import unwrap

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def typed_errors(kind: type[TTSError], who: str) -> Iterator[None]:
    """Let typed errors through and turn any other into `kind`, with the original as its cause.

    Cancellation and interrupts are no errors, and pass.
    """
    try:
        yield
    except TTSError:
        raise
    except Exception as error:
        inner = unwrap(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(inner, TTSError):
            raise inner from None
        raise kind(f"{who} failed: {type(inner).__name__}: {inner}") from inner
