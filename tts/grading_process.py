"""A grading worker as a process: started, asked one question at a time, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tts.grading_worker import OUT_OF_MEMORY, receive, send

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 120.0
"""How long a worker may take to start and load its rules; math-verify took 5 on a busy machine."""
LAST_WORDS = 5.0
"""Seconds that a worker which has closed its output gets to end."""
_PASSED_ON = ("PATH", "HOME", "TMPDIR", "TEMP", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


class NotStarted(Exception):
    """The worker ended before it had loaded its rules, or did not begin; says what it said last."""


class TimeUp(Exception):
    """The worker thought for too long, and was killed."""


class Ended(Exception):
    """The worker ended in the middle of a question, or before it."""

    def __init__(self, status: int | None) -> None:
        super().__init__("it stopped answering" if status is None else f"the worker ended with exit status {status}")
        self.out_of_memory = status == OUT_OF_MEMORY


class Worker:
    """A process; its methods block, and belong in threads. `kill` alone may be called beside another.

    Attributes:
        used: It has judged something.
    """

    def __init__(self, rules: str, memory: int, seconds: float) -> None:
        # -P: a folder `tts` where the process happens to be is not the library.
        call = [sys.executable, "-P", "-c", "from tts.grading_worker import main; main()"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [*call, rules, str(memory), str(seconds)], stdin=pipe, stdout=pipe, stderr=pipe, env=_environment(),
            start_new_session=True,
        )  # fmt: skip
        self._talking = threading.Lock()
        self._ready = False
        self.used = False

    def ask(self, gold: str, answer: str, seconds: float) -> dict[str, Any]:
        """Return what the worker says of a question.

        It is killed here when its seconds are over, which run from when it has begun: neither an event loop that is
        busy with other things nor a wait for a thread is counted as its thinking.

        Raises:
            NotStarted: It could not load its rules, or did not begin.
            TimeUp: It thought for longer.
            Ended: It is gone.
        """
        with self._talking:
            with self._killed_after(START_SECONDS, NotStarted(f"it did not begin within {START_SECONDS:g} s")):
                self._begin(gold, answer)
            with self._killed_after(seconds, TimeUp()):
                reply = self._next()
            self.used = True
            return reply

    def kill(self) -> None:
        """End the process, whatever it is doing, and what it started: a child of it would hold the pipe open."""
        if hasattr(os, "killpg"):
            if self._process.returncode is None:  # else it was collected, and its number may be another's by now
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()

    def reap(self) -> None:
        """Collect a process that was killed, once nobody reads from it."""
        with self._talking:
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()

    @contextmanager
    def _killed_after(self, seconds: float, error: Exception) -> Iterator[None]:
        over = threading.Event()

        def end() -> None:
            over.set()
            self.kill()

        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (Ended, NotStarted):
            if over.is_set():
                raise error from None
            raise
        finally:
            timer.cancel()
            timer.join()
        if over.is_set():  # it answered at the last moment, and was killed all the same
            raise error

    def _begin(self, gold: str, answer: str) -> None:
        if not self._ready:
            self._wait_until_ready()
        with suppress(OSError):  # the pipe is broken; that nothing comes back says so too
            send(_usable(self._process.stdin), {"gold": gold, "answer": answer})
        self._next()

    def _wait_until_ready(self) -> None:
        if receive(_usable(self._process.stdout)) is None:
            said = _usable(self._process.stderr).read().decode(errors="replace").strip()
            raise NotStarted(f"exit status {self._process.wait()}: {said.rpartition(chr(10))[2]}")
        self._ready = True

    def _next(self) -> dict[str, Any]:
        reply = receive(_usable(self._process.stdout))
        if reply is None:
            raise Ended(self._status())
        return reply

    def _status(self) -> int | None:
        try:
            return self._process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            return None


def _usable(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None or stream.closed:  # collected by whoever killed it, between two questions of one conversation
        raise Ended(None)
    return stream


def _environment() -> dict[str, str]:
    """Return what a worker needs: this process's modules, the same hashes each time, and no keys."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    modules = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    return {**passed, "PYTHONPATH": modules, "PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
