"""A proxy that faults: it stands before any HTTP server and spoils some of its answers, over real TCP, in threads."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.backends.raw import Asked, RawServer, Wire, said
from tts.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Iterator

FAULTS = (
    "reset", "stall", "500", "502", "503", "503 at once",
    "reset midway", "stall midway", "cut", "garbled", "502 afterwards",
)  # fmt: skip
"""What it does: the first six before the server has heard of the request, the others after it has done its work."""
CLOSE = "connection: close\r\n"
BUSY = b'{"error": {"message": "busy", "code": 503}}'
REFUSALS = {
    "500": said(b"Internal Server Error", "500 Internal Server Error", CLOSE),
    "502": said(b"<html>Bad Gateway</html>", "502 Bad Gateway", CLOSE),
    "502 afterwards": said(b"<html>Bad Gateway</html>", "502 Bad Gateway", CLOSE),
    "503": said(BUSY, "503 Service Unavailable", CLOSE),
    "503 at once": said(BUSY, "503 Service Unavailable", "retry-after: 0\r\n" + CLOSE),
}


class FaultProxy:
    """The proxy; a context manager. Which requests are spoiled, and how, hangs on the seed and on what they say.

    Attributes:
        share: Of the requests, those that are spoiled.
        met: How often each fault was.
    """

    def __init__(self, target: str, *, share: float = 0.2, seed: int = 0, faults: tuple[str, ...] = FAULTS) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._seed = seed
        self._faults = faults
        self._seen: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._server = RawServer(self._answer)
        self.share = share
        self.met: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return self._server.url

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(*error)

    def _fault(self, asked: Asked) -> str | None:
        what = derive(self._seed, asked.line, asked.body)
        with self._lock:
            chance = derive(what, self._seen[what])
            self._seen[what] += 1
            if chance % 10_000 >= self.share * 10_000:
                return None
            fault = self._faults[derive(chance) % len(self._faults)]
            self.met[fault] += 1
            return fault

    def _answer(self, wire: Wire, asked: Asked) -> None:
        fault = self._fault(asked)
        if fault == "reset":
            wire.reset()
        elif fault == "stall":
            wire.wait_until_left()
        elif fault in REFUSALS and fault != "502 afterwards":
            wire.say(REFUSALS[fault])
        elif fault is None:
            for place, part in enumerate(self._relay(wire, asked)):
                wire.say(part if place else part.replace(b"\r\n", b"\r\n" + CLOSE.encode(), 1))
        else:
            self._spoil(wire, fault, b"".join(self._relay(wire, asked)))

    def _spoil(self, wire: Wire, fault: str, answer: bytes) -> None:
        head = answer.find(b"\r\n\r\n") + 4
        middle = head + (len(answer) - head) // 2
        if fault in REFUSALS:
            wire.say(REFUSALS[fault])
        elif fault == "garbled":
            wire.say(answer[:middle] + b"\x00" * (len(answer) - middle))
        else:
            wire.say(answer[:middle])
        if fault == "reset midway":
            wire.reset()
        elif fault == "stall midway":
            wire.wait_until_left()

    def _relay(self, wire: Wire, asked: Asked) -> Iterator[bytes]:
        """Yield the server's answer as it comes, up to its end or until the client leaves."""
        fields = "".join(f"{name}: {value}\r\n" for name, value in asked.headers.items() if name != "connection")
        with socket.create_connection(self._target) as server, DefaultSelector() as selector:
            server.sendall(f"{asked.line}\r\n{fields}connection: close\r\n\r\n".encode() + asked.body)
            for one in (server, wire.socket):
                selector.register(one, EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                part = server.recv(65536) if server in ready else None
                if part:
                    yield part
                elif part is not None:
                    return
                elif wire.socket in ready:
                    raise ConnectionResetError
