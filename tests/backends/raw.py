"""A server that does with its connections whatever a test says, over real TCP, in threads of its own."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Asked:
    """A request as it came: the `number`-th to the server, and the `place`-th on its connection, both from 0."""

    line: str
    headers: dict[str, str]
    body: bytes
    number: int
    place: int

    @property
    def path(self) -> str:
        return self.line.split()[1]


Answer = "Callable[[Wire, Asked], bool | None]"
"""Answers on the wire; the connection is closed unless it returns True."""


@dataclass
class Wire:
    """One connection."""

    socket: socket.socket
    begun: bytes = b""

    def say(self, *parts: bytes) -> None:
        """Send parts, each in a packet of its own."""
        for part in parts:
            self.socket.sendall(part)

    def reset(self) -> None:
        """End it as a crash does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def wait_until_left(self) -> None:
        """Wait until the client closes."""
        with suppress(OSError):
            while self.socket.recv(4096):
                pass

    def read(self) -> tuple[str, dict[str, str], bytes] | None:
        """Return the next request, or None if the client has left."""
        while b"\r\n\r\n" not in self.begun:
            if not (more := self.socket.recv(65536)):
                return None
            self.begun += more
        head, _, body = self.begun.partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
        length = int(headers.get("content-length", 0))
        while len(body) < length:
            if not (more := self.socket.recv(1 << 20)):
                return None
            body += more
        self.begun = body[length:]
        return line, headers, body[:length]


@dataclass
class RawServer:
    """The server; a context manager.

    Attributes:
        answer: Answers a request; returns True to go on with the connection.
        asked: Every request so far.
        connections: How many there have been.
        left: Connections that were seen to end.
    """

    answer: Callable[[Wire, Asked], bool | None]
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    left: int = 0

    def __post_init__(self) -> None:
        self.lock = threading.Condition()
        self._open: set[socket.socket] = set()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def wait_for(self, is_so: Callable[[], bool]) -> bool:
        """Wait until something has happened; False if it does not."""
        with self.lock:
            return self.lock.wait_for(is_so, timeout=20)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self.lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        assert self.wait_for(lambda: not self._open)

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._socket.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                self._open.add(one)
            threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one: socket.socket) -> None:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._talk(Wire(one))
        except OSError:
            pass
        finally:
            one.close()
            with self.lock:
                self._open.discard(one)
                self.left += 1
                self.lock.notify_all()

    def _talk(self, wire: Wire) -> None:
        place = 0
        while (request := wire.read()) is not None:
            with self.lock:
                asked = Asked(*request, number=len(self.asked), place=place)
                self.asked.append(asked)
                self.lock.notify_all()
            if not self.answer(wire, asked):
                return
            place += 1


def said(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """Return a whole response."""
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


def begin_stream(headers: str = "") -> bytes:
    """Return the head of a stream that ends with the connection."""
    return f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{headers}\r\n".encode()


@contextmanager
def deaf() -> Iterator[str]:
    """Yield the URL of a port at which connections neither succeed nor fail."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}"
        for filler in fillers:
            filler.close()


def refusing() -> str:
    """Return the URL of a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"
