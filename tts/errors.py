"""Everything the library raises on purpose.

TTSError
├── UsageError                  refused before a token is paid for
│   ├── UnknownNameError        a strategy, verifier, backend or task that is not there
│   ├── ParameterError          a value out of range
│   ├── ProblemError            a problem that cannot be asked
│   ├── BudgetError             a limit without a unit, of zero, or that cannot be metered
│   ├── NeedsError              the strategy needs what the backends do not have
│   ├── RuntimeSupportError     the backend does not run under this event loop
│   └── MissingExtraError       an optional dependency is not installed
├── BackendError                an engine failed
│   ├── TransientError          may work when tried again
│   └── EngineDeadError         will not work again in this process
├── StrategyError               a strategy failed
├── VerifierError               a verifier failed
│   ├── ScoreCountError         too few or too many scores
│   └── ScoreValueError         a score that is not a probability
└── FileFormatError             a trace or results file that cannot be read
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tts.outcome import Outcome


class TTSError(Exception):
    """Base of every error that the library raises on purpose.

    `outcome` is what a search had come to when it failed, where one was under way.
    """

    outcome: Outcome | None = None


class UsageError(TTSError):
    """Raised when what was asked for cannot be done; nothing was spent."""


class UnknownNameError(UsageError):
    """Raised when a name is not registered; names the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(names) or 'none'}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")
        self.kind = kind
        self.name = name


class ParameterError(UsageError):
    """Raised when a parameter is unknown or out of its range."""


class ProblemError(UsageError):
    """Raised when a problem is empty or cannot be rendered for the generator."""


class BudgetError(UsageError):
    """Raised when a limit has no unit, is not positive, or cannot be metered."""


class NeedsError(UsageError):
    """Raised when a strategy needs what the generator or the verifier cannot give."""


class RuntimeSupportError(UsageError):
    """Raised when a backend is used under an event loop that it does not support."""


class MissingExtraError(UsageError):
    """Raised when an optional dependency is missing; names the extra that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'inference-time-scaling[{extra}]'")
        self.package = package
        self.extra = extra


class BackendError(TTSError):
    """Raised when a generator or scorer failed for good."""


class TransientError(BackendError):
    """Raised by a backend for a fault that may pass; the runtime tries again.

    Attributes:
        delay: How many seconds the backend asks to be left alone, or None.
        at_once: There is no reason to wait: a connection that was closed is opened anew, or another replica answers.
        began: Something may have been sampled for it. If not, nothing is charged.
    """

    def __init__(self, message: str, *, delay: float | None = None, at_once: bool = False, began: bool = True) -> None:
        super().__init__(message)
        self.delay = delay
        self.at_once = at_once
        self.began = began


class EngineDeadError(BackendError):
    """Raised when the engine is gone and no request can succeed any more."""


class StrategyError(TTSError):
    """Raised when a strategy's own code failed."""


class VerifierError(TTSError):
    """Raised when a verifier failed; an error is never turned into a score."""


class ScoreCountError(VerifierError):
    """Raised when a verifier returns another number of scores than it was asked for."""


class ScoreValueError(VerifierError):
    """Raised when a score is missing, not finite, or outside [0, 1]."""


class FileFormatError(TTSError):
    """Raised when a trace or results file is unreadable, truncated or of another version."""
