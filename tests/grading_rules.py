"""Rules for grading workers that go wrong on purpose. They report to the port that the gold answer names.

The socket closes when the process ends, so that a test sees the end without looking at the clock.
"""

from __future__ import annotations

import os
import socket
import sys
from itertools import count

_questions = count(1)
_sockets: list[socket.socket] = []
_held: list[bytearray] = []


def _report(gold: str) -> None:
    if gold.isdecimal():
        _sockets.append(socket.create_connection(("127.0.0.1", int(gold))))


def misbehave(gold: str, answer: str) -> bool | None:
    """Do what the answer says."""
    if answer in ("loop", "fork"):
        _report(gold)
        if answer == "fork":
            os.fork()
        while True:
            pass
    if answer == "eat":
        while True:
            _held.append(bytearray(1 << 24))
    if answer == "keep":
        _held.append(bytearray(100 << 20))
    if answer == "die":
        os._exit(3)
    if answer == "raise":
        raise ValueError("no such thing")
    if answer == "print":
        sys.stdout.write("noise " * 100_000)
        sys.stderr.write("noise " * 100_000)
    return None if answer == "unreadable" else gold == answer


def process(gold: str, answer: str) -> bool:
    """Tell whether this is the worker's question of the number that the gold answer says."""
    return int(gold) == next(_questions)


def secrets(gold: str, answer: str) -> bool:
    """Tell whether the worker sees an environment variable."""
    return gold in os.environ
