"""Keys and values of prefixes that were computed before, so that a continuation computes only what is new."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.backends.embedded.arrays import Floats

ROOT = -1


class PrefixCache:
    """A tree of tokens, each with its keys and values, bounded in bytes; what was used longest ago goes first.

    An entry is found under its parent's slot and its token, so prefixes that share a beginning share its memory. A
    parent was always used later than its children, so what goes first is a leaf.
    """

    def __init__(self, sizes: tuple[int, ...], limit: int) -> None:
        capacity = limit // (4 * int(np.prod(sizes)))
        self._states = np.empty((capacity, *sizes), np.float32)
        self._free = list(range(capacity))[::-1]
        self._slots: OrderedDict[tuple[int, int], int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._slots)

    def fetch(self, tokens: Sequence[int]) -> Floats:
        """Return the keys and values of the longest prefix of `tokens` that is known."""
        path = self._known(tokens)
        self._touch(path)
        return self._states[[self._slots[key] for key in path]]

    def store(self, tokens: Sequence[int], states: Floats) -> None:
        """Keep `states`, those of the last tokens; nothing is kept where the tokens before them are not known."""
        path = self._known(tokens)
        self._touch(path)
        known, total = len(path), min(len(tokens), len(self._states))
        skipped = known - (len(tokens) - len(states))
        if skipped < 0 or total == known:
            return
        self._make_room(total - known)
        slots = [self._free.pop() for _ in range(total - known)]
        self._states[slots] = states[skipped : skipped + len(slots)]
        parent = self._slots[path[-1]] if path else ROOT
        for slot, token in zip(slots, tokens[known:total], strict=True):
            path.append((parent, token))
            self._slots[path[-1]] = parent = slot
        self._touch(path)

    def _known(self, tokens: Sequence[int]) -> list[tuple[int, int]]:
        parent, path = ROOT, []
        for token in tokens:
            slot = self._slots.get((parent, token))
            if slot is None:
                break
            path.append((parent, token))
            parent = slot
        return path

    def _touch(self, path: list[tuple[int, int]]) -> None:
        for key in reversed(path):
            self._slots.move_to_end(key)

    def _make_room(self, needed: int) -> None:
        """Free slots; what was just touched stays, because no more is asked for than lies beside it."""
        while len(self._free) < needed:
            _, slot = self._slots.popitem(last=False)
            self._free.append(slot)
