"""Which event loop this is, and running asynchronous code from synchronous code, inside a running loop too."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from tts.errors import RuntimeSupportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")


def current_runtime() -> str:
    """Return "trio" or "asyncio", whichever runs this task."""
    trio: Any = sys.modules.get("trio")
    return "trio" if trio is not None and trio.lowlevel.in_trio_run() else "asyncio"


def check_runtime(name: str, supported: Sequence[str]) -> None:
    """Refuse a backend that does not run here.

    Raises:
        RuntimeSupportError: It does not support this event loop.
    """
    current = current_runtime()
    if current not in supported:
        raise RuntimeSupportError(f"{name} runs under {' or '.join(supported)}, not under {current}")


def run_sync(main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` to its end; in a thread of its own where a loop already runs in this one, as in a notebook."""
    if not _loop_is_running():
        return anyio.run(main)
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(anyio.run(main))
        except BaseException as error:  # carried over to the caller's thread, whatever it is
            errors.append(error)

    thread = threading.Thread(target=work, name="tts-sync")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _loop_is_running() -> bool:
    if current_runtime() == "trio":
        return True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
