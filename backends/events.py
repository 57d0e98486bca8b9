"""Server-sent events out of the bytes of a stream, however it is cut into pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

END = b"[DONE]"


class Events:
    """Reads events; each of them is one line of data.

    Attributes:
        ended: The mark of the end has come.
    """

    def __init__(self) -> None:
        self.ended = False
        self._begun: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of each event that is complete with this chunk; there are none after the mark of the end."""
        # Split by hand: a JSON text may hold characters that line readers take for the end of a line.
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            whole = b"".join((*self._begun, line)).strip()
            self._begun.clear()
            if self.ended or not whole.startswith(b"data:"):
                continue
            data = whole[5:].strip()
            self.ended = data == END
            if data and not self.ended:
                yield data
        if rest:
            self._begun.append(rest)
