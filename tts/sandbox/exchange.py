"""What passes between the process of candidate code and that of its check: data, and operations on what is none.

Copies of data cross: a call is made with copies of its arguments and brings back a copy of its result; lists and other
containers that it changed are changed on this side too. What is no data (an object of a class, a generator, a function)
stays where it is, and is a `Remote` on the other side. Of what is the check's the candidate can call functions and read
iterators, both only where it was handed them. It sends text that is read as data, never code.
"""

from __future__ import annotations

import builtins
import datetime
import importlib
import json
import operator
import os
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from types import CoroutineType, ModuleType
from typing import Any


class Remote:
    """Something in the other process. What is done to it is done there, but for comparing and reckoning with data.

    Those would hand what is expected to an object that could say that it is equal.
    """

    __slots__ = ("__ask",)

    def __init__(self, ask: Callable[..., Any]) -> None:
        object.__setattr__(self, "_Remote__ask", ask)

    def __call__(self, *arguments: Any, **named: Any) -> Any:  # noqa: D102
        return self.__ask("call", self, arguments, named)

    def __getattr__(self, name: str) -> Any:
        return self.__ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.__ask("setattr", self, name, value)

    def __instancecheck__(self, instance: Any) -> bool:
        return type(instance) is Remote and bool(self.__ask("isinstance", instance, self))

    def __subclasscheck__(self, other: Any) -> bool:
        return type(other) is Remote and bool(self.__ask("issubclass", other, self))

    def __enter__(self) -> Any:
        return self.__ask("getattr", self, "__enter__")()

    def __exit__(self, *_: object) -> Any:
        return self.__ask("getattr", self, "__exit__")(None, None, None)


def _call(function: Any, arguments: Any, named: Any) -> Any:
    return function(*arguments, **named)


def _await(coroutine: CoroutineType[Any, Any, Any]) -> Any:
    import asyncio

    return asyncio.run(coroutine)


_BUILT_IN: tuple[Any, ...] = (len, iter, next, str, repr, hash, bool, int, float, abs, reversed)
_OF_ONE: dict[str, Callable[..., Any]] = {
    one.__name__: one for one in (*_BUILT_IN, operator.neg, operator.getitem, operator.setitem, operator.delitem)
}
_OF_TWO = {
    name.rstrip("_"): getattr(operator, name)
    for name in (
        *("eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul"),
        *("matmul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor"),
    )
}
OPERATIONS: dict[str, Callable[..., Any]] = {
    **_OF_ONE, **_OF_TWO, "call": _call, "getattr": getattr, "setattr": setattr, "isinstance": isinstance,
    "issubclass": issubclass, "await": _await,
}  # fmt: skip
"""What a check may have done to what is the candidate's."""
HANDED_OVER = {name: OPERATIONS[name] for name in ("call", "next", "iter", "hash", "bool", "str", "repr", "eq")}
"""What a candidate may have done to the functions and iterators that a check hands over."""


def _of_one(name: str) -> Callable[..., Any]:
    return lambda self, *arguments: self._Remote__ask(name, self, *arguments)


def _of_two(name: str) -> Callable[..., Any]:
    return lambda self, other: self._Remote__ask(name, self, other) if type(other) is Remote else NotImplemented


for _name in _OF_ONE:
    setattr(Remote, f"__{_name}__", _of_one(_name))
for _name in _OF_TWO:
    setattr(Remote, f"__{_name}__", _of_two(_name))


def _pairs(value: dict[Any, Any]) -> list[Any]:
    return [part for pair in dict.items(value) for part in pair]


def _from_pairs(parts: list[Any]) -> dict[Any, Any]:
    return dict(zip(parts[::2], parts[1::2], strict=True))


Kind = tuple[type, Callable[[Any], Any], Callable[[list[Any]], Any]]
_KINDS: dict[str, Kind] = {
    "Counter": (Counter, _pairs, lambda parts: Counter(_from_pairs(parts))),
    "OrderedDict": (OrderedDict, _pairs, lambda parts: OrderedDict(_from_pairs(parts))),
    "dict": (dict, _pairs, _from_pairs),
    **{kind.__name__: (kind, list, kind) for kind in (list, tuple, set, frozenset, deque, bytes, bytearray)},
    "complex": (complex, lambda value: [value.real, value.imag], lambda parts: complex(*parts)),
    "range": (range, lambda value: [value.start, value.stop, value.step], lambda parts: range(*parts)),
    "slice": (slice, lambda value: [value.start, value.stop, value.step], lambda parts: slice(*parts)),
    "Fraction": (Fraction, lambda value: [value.numerator, value.denominator], lambda parts: Fraction(*parts)),
    "Decimal": (Decimal, lambda value: [str(value)], lambda parts: Decimal(*parts)),
    **{
        kind.__name__: (kind, lambda value: [value.isoformat()], lambda parts, kind=kind: kind.fromisoformat(*parts))  # type: ignore[misc]
        for kind in (datetime.datetime, datetime.date, datetime.time)
    },
    "timedelta": (
        datetime.timedelta,
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: datetime.timedelta(*parts),
    ),
}
"""What is data beside numbers and text: how it is taken apart into data, and put together. Of a subclass of one of
these, the part that is of the class is what crosses."""


class Exchange:
    """One end of the line between the processes: asks the other for operations, and carries out what it asks."""

    def __init__(self, reading: int, writing: int, operations: dict[str, Callable[..., Any]], trusts: bool) -> None:
        self._reading, self._writing = os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
        self._operations, self._trusts = operations, trusts
        self._kept: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._remotes: dict[int, Any] = {}

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Have an operation carried out in the other process; return its result, or raise what it raised."""
        sent = [self.written(one) for one in arguments]
        self.send(["ask", operation, sent])
        while True:
            said, *content = self.receive()
            if said == "ask":
                self.send(self._answer(*content))
            elif said == "raised":
                raise _not_swallowed(operation, self._error(*map(self.read, content)))
            else:
                break
        result, after = content
        if after != sent:
            _, given, named = map(self.read, after)
            for old, new in zip([*arguments[1], *arguments[2].values()], [*given, *named.values()], strict=True):
                _change(old, new)
        return self.read(result)

    def serve(self) -> None:
        """Carry out what is asked until the line is closed."""
        while True:
            self.send(self._answer(*self.receive()[1:]))

    def send(self, content: object) -> None:
        """Say something to the other process."""
        self._writing.write(json.dumps(content).encode() + b"\n")
        self._writing.flush()

    def receive(self) -> Any:
        """Return what the other process says next.

        Raises:
            LineClosed: It has ended.
        """
        line = self._reading.readline()
        if not line.endswith(b"\n"):
            raise LineClosed
        return json.loads(line)

    def _answer(self, operation: str, arguments: list[Any]) -> list[Any]:
        try:
            if operation not in self._operations or not (self._trusts or arguments[0][0] == "yours"):
                refusal = AttributeError if operation == "getattr" else TypeError
                raise refusal(f"a test hands over functions and iterators, to which {operation} cannot be done")
            given = [self.read(one) for one in arguments]
            result = self.written(self._operations[operation](*given))
            return ["value", result, [self.written(one) for one in given] if operation == "call" else arguments]
        except LineClosed:
            raise
        except BaseException as error:  # It is raised again in the other process.
            return ["raised", *self._written_error(error)]

    def written(self, value: Any) -> Any:
        """Return a value as JSON: what is no data, by a number under which it is kept here.

        Raises:
            CannotCross: It is no data, and the other process must not have its hands on it.
        """
        if value is None or isinstance(value, (bool, float, str)):
            return value
        if isinstance(value, int):
            return int(value) if -(2**63) <= value < 2**63 else ["int", hex(value)]
        if isinstance(value, CoroutineType) and self._trusts:
            return ["coroutine", self._keep(value)]
        if type(value) is Remote:
            return ["yours", self._numbers[id(value)]]
        for name, (kind, apart, _) in _KINDS.items():
            if isinstance(value, kind):
                return [name, *(self.written(part) for part in apart(value))]
        numpy = sys.modules.get("numpy")
        if numpy and isinstance(value, numpy.generic):
            return self.written(value.item())
        if numpy and isinstance(value, numpy.ndarray):
            return ["array", self.written(value.tolist()), str(value.dtype)]
        return self._written_name(value) or ["mine", self._keep(value)]

    def _written_name(self, value: Any) -> list[Any] | None:
        """Return what both processes have under a name: modules, built-in types and errors; None for all else."""
        if isinstance(value, ModuleType):
            return ["module", value.__name__]
        if not isinstance(value, type):
            return None
        name = value.__name__
        if getattr(builtins, name, None) is value:
            return ["type", name]
        if issubclass(value, BaseException):
            return ["error", value.__module__, name, self._keep(value), self.written(value.__base__)]
        return None

    def _keep(self, value: Any) -> int:
        if not (self._trusts or callable(value) or isinstance(value, Iterator)):
            raise CannotCross(f"a test hands over {type(value).__name__} {value!r:.80}, which is no data")
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._kept)
            self._kept.append(value)
        return self._numbers[id(value)]

    def read(self, data: Any) -> Any:
        """Return the value that was written so."""
        if not isinstance(data, list):
            return data
        match data:
            case ["int", digits]:
                return int(digits, 16)
            case ["yours", number]:
                return self._kept[number]
            case ["mine", number]:
                return self._remote(number)
            case ["coroutine", number]:
                return self._awaited(self._remote(number))
            case ["module", name]:
                return importlib.import_module(name)
            case ["type", name] if isinstance(vars(builtins).get(name), type):
                return getattr(builtins, name)
            case ["error", module, name, number, base]:
                return self._error_type(module, name, number, self.read(base))
            case ["array", items, kind]:
                return importlib.import_module("numpy").array(self.read(items), dtype=kind)
            case [tag, *parts]:
                return _KINDS[tag][2]([self.read(part) for part in parts])
        raise ValueError(f"no value is written {data!r:.80}")

    def _remote(self, number: int) -> Any:
        if number not in self._remotes:
            self._remotes[number] = remote = Remote(self.ask)
            self._numbers[id(remote)] = number
        return self._remotes[number]

    async def _awaited(self, coroutine: Any) -> Any:
        return self.ask("await", coroutine)

    def _written_error(self, error: BaseException) -> list[Any]:
        try:
            said = [self.written(list(error.args)), self.written(vars(error))]
        except CannotCross:
            said = [self.written([str(error)]), self.written({})]
        return [self.written(type(error)), *said]

    def _error(self, kind: Any, arguments: list[Any], attributes: dict[str, Any]) -> BaseException:
        """Return an error as it was raised; one whose class may want other arguments is not initialised anew."""
        known: bool = kind.__module__ == "builtins"
        error: BaseException = kind(*arguments) if known else kind.__new__(kind, *arguments)
        vars(error).update(attributes)
        return error

    def _error_type(self, module: str, name: str, number: int, base: Any) -> Any:
        """Return the class of an error: the one of an installed module, or one made in the likeness of the other's."""
        if number not in self._remotes:
            bases = (base,) if isinstance(base, type) and issubclass(base, BaseException) else (Exception,)
            self._remotes[number] = _installed_error(module, name) or type(name, bases, {"__module__": module})
        return self._remotes[number]


class LineClosed(BaseException):
    """Raised when the other process has ended; nothing that catches errors of code is to catch it."""


class CannotCross(BaseException):
    """Raised when a test hands the code something that is no data; nothing that catches errors is to catch it."""


def _not_swallowed(operation: str, error: BaseException) -> BaseException:
    """Return an error, but another for one by which a call would end a loop of the check's as if there was no more."""
    return (
        RuntimeError("the code raised StopIteration")
        if isinstance(error, StopIteration) and operation == "call"
        else error
    )


def _change(old: Any, new: Any) -> None:
    """Give a container of the check what the same container has come to in the other process."""
    if type(old) is not type(new):
        return
    if isinstance(old, (list, bytearray)):
        old[:] = new
    elif isinstance(old, (dict, set, deque)):
        old.clear()
        (old.extend if isinstance(old, deque) else old.update)(new)


def _installed_error(module: str, name: str) -> Any:
    if module in ("candidate", "__main__", "builtins", __name__):
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    return found if isinstance(found, type) and issubclass(found, BaseException) else None
