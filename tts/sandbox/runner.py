"""What runs candidate code, and the check of it, in two processes that exchange data and nothing else.

The sandbox hands this file and exchange.py to a fresh interpreter as text. That forks the process of the candidate
before it has read anything. In the check a name of the candidate's stands for what has that name over there. So the
candidate sees neither the check, nor what it expects, nor the token that says that it has passed; and a result is equal
to what is expected by the rules of plain data, not by a method of its own.
"""

from __future__ import annotations

import ast
import builtins
import os
import select
import signal
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from tts.sandbox.exchange import HANDED_OVER, OPERATIONS, CannotCross, Exchange, LineClosed

if TYPE_CHECKING:
    from collections.abc import Callable

_ORDERS, _ANSWERS = 3, 4
_CANDIDATE = "candidate"


class Names(dict[str, Any]):
    """The names that a check sees: its own, and the candidate's.

    A name that is also built in means the candidate's only where the check uses no other name of the candidate's: else
    code could define its own `abs`, by which any result is near enough.
    """

    def __init__(self, ask: Callable[..., Any], check: str) -> None:
        super().__init__(__name__="check")
        self._ask = ask
        self._uses_others = _uses_others(check)

    def __missing__(self, name: str) -> Any:
        if name.startswith("__") or (self._uses_others and hasattr(builtins, name)):
            raise KeyError(name)
        return self._ask("name", name)


def _uses_others(check: str) -> bool:
    """Return whether a check reads a name that it does not bind and that is not built in."""
    read, bound = set(), set(dir(builtins))
    for node in ast.walk(ast.parse(check)):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                read.add(name)
            case ast.ImportFrom(module=module) if module == _CANDIDATE:
                return True
            case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                bound.add(name)
            case ast.alias(name=name, asname=other):
                bound.add(other or name.partition(".")[0])
    return not read <= bound


def _run_candidate(reading: int, writing: int) -> None:
    """Run the code; then do what the check asks for. An error ends the process as it would any program."""
    module = ModuleType(_CANDIDATE)
    sys.modules[_CANDIDATE] = module
    names = vars(module)

    def named(name: str) -> Any:
        if name == "__all__" and name not in names:
            return [one for one in names if not one.startswith("_")]
        return names[name]

    exchange = Exchange(reading, writing, {**OPERATIONS, "name": named}, trusts=True)
    exec(compile(exchange.receive(), "<candidate>", "exec", dont_inherit=True), names)
    try:
        exchange.serve()
    except (LineClosed, BrokenPipeError):
        os._exit(0)


def _run_check(reading: int, writing: int, candidate: int) -> None:
    """Run the check on the code in the other process; hand back the token if it comes to its end."""
    # Else the candidate could raise KeyboardInterrupt here.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    source, check, token = (_received() for _ in range(3))
    os.write(_ANSWERS, b"s")
    _follow(candidate)
    exchange = Exchange(reading, writing, HANDED_OVER, trusts=False)
    module = ModuleType(_CANDIDATE)
    module.__dict__["__getattr__"] = lambda name: _attribute(exchange, name)
    sys.modules[_CANDIDATE] = module
    try:
        exchange.send(source)
        exchange.ask("name", "__name__")
        exec(compile(check, "<check>", "exec", dont_inherit=True), Names(exchange.ask, check))
    except (LineClosed, BrokenPipeError):
        while True:  # Until it has ended, or time has.
            select.select([], [], [], 1.0)
    except CannotCross as error:
        os.write(_ANSWERS, b"!" + str(error).encode(errors="replace")[:1000])
    else:
        os.write(_ANSWERS, token.encode())


def _attribute(exchange: Exchange, name: str) -> Any:
    try:
        return exchange.ask("name", name)
    except KeyError:
        raise AttributeError(f"the code defines no {name}") from None


def _received() -> str:
    size = int.from_bytes(_exactly(8), "big")
    return _exactly(size).decode("utf-8", "surrogatepass")


def _exactly(size: int) -> bytes:
    given = b""
    while len(given) < size:
        piece = os.read(_ORDERS, size - len(given))
        if not piece:
            raise EOFError
        given += piece
    return given


def _follow(candidate: int) -> None:
    """End when the candidate's process ends, and as it did; processes that it has left may keep the line open."""

    def look(*_: object) -> None:
        ended, status = os.waitpid(candidate, os.WNOHANG)
        if ended:
            _end_as(os.waitstatus_to_exitcode(status))

    signal.signal(signal.SIGCHLD, look)
    look()


def _end_as(status: int) -> NoReturn:
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _main() -> None:
    to_candidate, to_check = os.pipe(), os.pipe()
    candidate = os.fork()
    if candidate:
        os.close(to_candidate[0])
        os.close(to_check[1])
        _run_check(to_check[0], to_candidate[1], candidate)
    else:
        for end in (_ORDERS, _ANSWERS, to_candidate[1], to_check[0]):
            os.close(end)
        _run_candidate(to_candidate[0], to_check[1])


if __name__ == "__main__":
    _main()
