"""What an object has of its own in each event loop."""

from __future__ import annotations

from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from anyio.lowlevel import RunVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One value an owner and event loop, forgotten with either; for the module that defines the owners.

    A value must not refer to its owner, which would then live as long as the loop.
    """

    def __init__(self, name: str) -> None:
        self._held: RunVar[WeakKeyDictionary[object, T]] = RunVar(name)

    def get(self, owner: object) -> T | None:
        """Return the owner's value in the running event loop, or None."""
        held = self._held.get(None)
        return None if held is None else held.get(owner)

    def set(self, owner: object, value: T) -> None:
        """Give the owner a value in the running event loop."""
        held = self._held.get(None)
        if held is None:
            held = WeakKeyDictionary()
            self._held.set(held)
        held[owner] = value

    def pop(self, owner: object) -> T | None:
        """Take the owner's value away, and return it."""
        held = self._held.get(None)
        return None if held is None else held.pop(owner, None)
