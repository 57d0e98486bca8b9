"""Questions of concurrent callers, gathered into lists, and each asked once."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from tts.backends.per_loop import PerLoop
from tts.errors import ParameterError, TTSError, VerifierError
from tts.groups import Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence

Item = TypeVar("Item")
Reply = TypeVar("Reply")
REFUSALS = (ParameterError, VerifierError)
"""What one item of a list can be to blame for."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much goes out at a time, and how much is kept.

    Attributes:
        batch: Items in a list, at most.
        in_flight: Lists under way at a time, at most, in one event loop.
        remembered: Replies that are kept; those not asked for the longest time go first.

    Raises:
        ParameterError: A number is out of range.
    """

    batch: int
    in_flight: int
    remembered: int

    def __post_init__(self) -> None:
        if self.batch < 1 or self.in_flight < 1 or self.remembered < 0:
            raise ParameterError(f"{self}: batch and in_flight are at least 1, remembered is at least 0")


@dataclass(eq=False, slots=True)
class _Asker(Generic[Reply]):
    """A call that waits.

    Attributes:
        missing: Keys of what it still waits for.
        found: What has come.
        error: Why it will not all come.
        news: Set when there is something to look at, or to carry.
    """

    missing: set[Hashable]
    found: dict[Hashable, Reply] = field(default_factory=dict)
    error: TTSError | None = None
    news: anyio.Event = field(default_factory=anyio.Event)


@dataclass(eq=False, slots=True)
class _Question(Generic[Item, Reply]):
    key: Hashable
    item: Item
    askers: list[_Asker[Reply]] = field(default_factory=list)
    alone: bool = False


class _Line(Generic[Item, Reply]):
    """What one event loop's callers wait for: questions in the order of their coming, and those under way.

    While there is room and something waits, an asker of the first in line has been called.
    """

    def __init__(self, sizes: Sizes) -> None:
        self._batch = sizes.batch
        self._room = sizes.in_flight
        self._waiting: dict[Hashable, _Question[Item, Reply]] = {}
        self._carried: dict[Hashable, _Question[Item, Reply]] = {}

    def join(self, items: Mapping[Hashable, Item]) -> _Asker[Reply]:
        asker = _Asker[Reply](set(items))
        for key, item in items.items():
            question = self._waiting.get(key) or self._carried.get(key)
            if question is None:
                question = self._waiting[key] = _Question(key, item)
            question.askers.append(asker)
        return asker

    def leave(self, asker: _Asker[Reply]) -> None:
        """Forget an asker, and what nobody else waits for; what is under way may still be answered."""
        for key in asker.missing:
            question = self._waiting.get(key) or self._carried.get(key)
            if question is not None and asker in question.askers:
                question.askers.remove(asker)
                if not question.askers:
                    self._waiting.pop(key, None)
        self._call_first()

    def take(self, asker: _Asker[Reply]) -> list[_Question[Item, Reply]]:
        """Return what an asker is to carry: the next of its own, and as much of others' as fits; or nothing."""
        own = [question for key, question in self._waiting.items() if key in asker.missing] if self._room else []
        if not own:
            return []
        taken = own[:1]
        if not taken[0].alone:
            others = (question for question in self._waiting.values() if question.key not in asker.missing)
            together = (question for question in itertools.chain(own, others) if not question.alone)
            taken = list(itertools.islice(together, self._batch))
        for question in taken:
            self._carried[question.key] = self._waiting.pop(question.key)
        self._room -= 1
        self._call_first()
        return taken

    def answer(self, question: _Question[Item, Reply], reply: Reply) -> None:
        del self._carried[question.key]
        for asker in question.askers:
            asker.missing.discard(question.key)
            asker.found[question.key] = reply
            asker.news.set()

    def fail(self, question: _Question[Item, Reply], error: TTSError) -> None:
        del self._carried[question.key]
        for asker in question.askers:
            asker.error = error
            asker.news.set()

    def end(self, questions: Iterable[_Question[Item, Reply]]) -> None:
        """Note that a request is over; what it left open waits again, before all that came later."""
        left = [self._carried.pop(question.key) for question in questions if question.key in self._carried]
        self._waiting = {question.key: question for question in left if question.askers} | self._waiting
        self._room += 1
        self._call_first()

    def _call_first(self) -> None:
        if self._room and self._waiting:
            for asker in next(iter(self._waiting.values())).askers:
                asker.news.set()


_lines = PerLoop[_Line[Any, Any]]("tts.coalesce")


class Coalescer(Generic[Item, Reply]):
    """Asks each thing once, in lists: what is known or under way is not asked again.

    No task outlives a call, and none runs beside the calls: a caller sends lists with something of its own in them,
    filled up with what others wait for. When it is cancelled, what it carried for others waits again, and one of them
    takes it up. It may be used from several event loops; they share what is known, not what is under way.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Reply]]],
        key: Callable[[Item], Hashable],
        sizes: Sizes,
    ) -> None:
        """Say how to ask.

        Args:
            send: Asks for a list, and returns as many replies, in order.
            key: What tells items apart.
            sizes: Of the lists, and of what is kept.
        """
        self._send = send
        self._key = key
        self.sizes = sizes
        self._memory = _Memory[Reply](sizes.remembered)

    async def ask(self, items: Sequence[Item]) -> list[Reply]:
        """Return the reply to each item, in order.

        Raises:
            TTSError: What `send` raised for a list with one of the items in it. A list that is refused for what it says
                (ParameterError, VerifierError) is sent again one by one, so that others do not suffer for it.
        """
        keys = [self._key(item) for item in items]
        found = self._memory.find(keys)
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in found}
        if missing:
            found |= await self._fetch(missing)
        else:
            await checkpoint()
        return [found[key] for key in keys]

    async def _fetch(self, items: Mapping[Hashable, Item]) -> dict[Hashable, Reply]:
        line: _Line[Item, Reply] | None = _lines.get(self)
        if line is None:
            line = _Line(self.sizes)
            _lines.set(self, line)
        asker = line.join(items)
        try:
            # Those who ask in the same turn of the event loop go together.
            await checkpoint()
            async with Tasks() as carriers:
                while asker.missing and asker.error is None:
                    while taken := line.take(asker):
                        carriers.start_soon(self._carry, line, taken)
                    await asker.news.wait()
                    asker.news = anyio.Event()
                carriers.cancel()
        finally:
            line.leave(asker)
        if asker.error is not None:
            # Several callers raise it, and each may add to it.
            raise copy(asker.error) from asker.error.__cause__
        return asker.found

    async def _carry(self, line: _Line[Item, Reply], questions: list[_Question[Item, Reply]]) -> None:
        try:
            replies = await self._send([question.item for question in questions])
            answered = list(zip(questions, replies, strict=True))
            self._memory.keep((question.key, reply) for question, reply in answered)
            for question, reply in answered:
                line.answer(question, reply)
        except TTSError as error:
            for question in questions:
                question.alone = True
                if len(questions) == 1 or not isinstance(error, REFUSALS):
                    line.fail(question, error)
        finally:
            line.end(questions)


class _Memory(Generic[Reply]):
    """The replies asked for last, for every thread."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[Hashable, Reply] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, keys: Iterable[Hashable]) -> dict[Hashable, Reply]:
        with self._lock:
            found = {key: self._known[key] for key in keys if key in self._known}
            for key in found:
                self._known.move_to_end(key)
        return found

    def keep(self, replies: Iterable[tuple[Hashable, Reply]]) -> None:
        with self._lock:
            for key, reply in replies:
                self._known[key] = reply
                self._known.move_to_end(key)
            while len(self._known) > self._size:
                self._known.popitem(last=False)
