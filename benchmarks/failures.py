"""When a run gives up: one problem may fail, but where nothing else comes, its engine cannot be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts.errors import BackendError, EngineDeadError, TransientError

if TYPE_CHECKING:
    from tts.benchmarks.results import Record

AT_FIRST = 10
"""Failures in a row that end a run in which no search has come to an end yet."""
IN_A_ROW = 20
"""Failures in a row that end any run."""
_FAULTS = tuple(kind.__name__ for kind in (BackendError, TransientError, EngineDeadError))


class Failures:
    """Counts failures in a row of one kind, over all parts of a run."""

    def __init__(self) -> None:
        self._kind: str | None = None
        self._count = 0
        self._worked = False

    def note(self, record: Record) -> None:
        """Take note of a problem that has just been searched.

        Raises:
            EngineDeadError: The engine is gone.
            BackendError: So many problems in a row failed alike that the others would.
        """
        kind = (record.error or "").partition(":")[0]
        if kind not in _FAULTS:
            self._kind, self._count, self._worked = None, 0, True
            return
        assert record.error is not None
        if kind == EngineDeadError.__name__:
            raise EngineDeadError(f"{record.error}; once an engine is there again the same command goes on from here")
        self._count = self._count + 1 if kind == self._kind else 1
        self._kind = kind
        if self._count >= (IN_A_ROW if self._worked else AT_FIRST):
            raise BackendError(
                f"{self._count} problems in a row failed, so the run stops: {record.error}; once this is mended the "
                "same command goes on from here, and with --retry-errors it searches those that failed again"
            )
