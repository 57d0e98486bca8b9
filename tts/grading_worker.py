"""What runs in a grading worker: questions in, verdicts out, one at a time, by the rules that it was started with.

Frames are four bytes of length, the greatest first, and as much JSON. A worker says "ready" when its rules are loaded
and "began" before each question, so that neither starting nor waiting counts as thinking. It ends with its standard
input, also in the middle of a question, so that none outlives the process that started it.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
import threading
from fractions import Fraction
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any

from tts.answers import MathAnswerReader
from tts.boundary import typed_errors
from tts.errors import TTSError

if TYPE_CHECKING:
    from collections.abc import Callable

    Rules = Callable[[str, str], bool | None]

OUT_OF_MEMORY = 77
"""Exit status of a worker that reached its limit of memory; others mean that it died of something else."""
MAX_FRAME = 1 << 26
MAX_DETAIL = 300
BACKSTOP = 60.0
"""Seconds beyond its time after which a worker ends by itself, should nobody be left to kill it."""

_READER = MathAnswerReader()
_LENGTH = 4
_RATIONAL = re.compile(r"-?[0-9]+(?:/[0-9]+)?")
_WORDS = re.compile(r"(?:[A-Za-z]+ )*[A-Za-z]{3,}(?: [A-Za-z]+)*")
_MATHS = re.compile(r"\$|\\(?:boxed|fbox)(?![A-Za-z])|\\[(\[]")


def send(stream: IO[bytes], message: dict[str, Any]) -> None:
    """Write one frame."""
    body = json.dumps(message).encode("ascii")
    stream.write(len(body).to_bytes(_LENGTH, "big") + body)
    stream.flush()


def receive(stream: IO[bytes]) -> dict[str, Any] | None:
    """Read one frame, or None where the stream has ended, in the middle of a frame or not."""
    length = int.from_bytes(stream.read(_LENGTH), "big")
    body = stream.read(length) if 0 < length <= MAX_FRAME else b""
    return json.loads(body) if body and len(body) == length else None


def same_key(gold: str, answer: str) -> bool | None:
    """Whether two answers have one key by the built-in reader; None where the gold answer has none.

    An answer without a key is not right.
    """
    key = _READER.key(gold)
    return None if key is None else key == _READER.key(answer)


def decided_by_keys(gold: str, answer: str) -> bool | None:
    """Whether two keys are equal, where they say enough: one key, two exact numbers, two of plain words; else None."""
    if gold == answer:
        return True
    if _RATIONAL.fullmatch(gold) and _RATIONAL.fullmatch(answer):
        return Fraction(gold) == Fraction(answer)
    return False if _WORDS.fullmatch(gold) and _WORDS.fullmatch(answer) else None


class MathVerify:
    """Whether math-verify takes two answers for equal, where their keys leave it open.

    Keys go first, so that these rules never undo what the built-in ones find equal, and since math-verify 0.9 judges by
    six decimals: 1/2^99 is 1/2^98 to it, and 0.333333 is 1/3. It also reads words as products of letters: live is evil.
    What remains of its verdicts "equal" is believed of two numbers only if they agree in relative terms: to 6 digits if
    one was written with a decimal point, else to 30, or by simplification. So 1/2004! is not 1/2006!. Numbers within
    sets, tuples and intervals are not held to this.
    """

    _DECIMAL, _EXACT = 1e-6, 1e-30

    def __init__(self) -> None:
        self._math_verify: Any = importlib.import_module("math_verify")
        self._sympy: Any = importlib.import_module("sympy")
        self._compare("x^2-1", r"(x-1)(x+1)+\frac12")  # loads what they load late, before any clock runs

    def __call__(self, gold: str, answer: str) -> bool | None:
        """Return None where the gold answer cannot be read."""
        keys = _READER.key(gold), _READER.key(answer)
        if keys[0] is None or keys[1] is None:
            return None if keys[0] is None else False
        decided = decided_by_keys(keys[0], keys[1])
        return self._compare(gold, answer) if decided is None else decided

    def _compare(self, gold: str, answer: str) -> bool | None:
        golds, answers = self._parse(gold), self._parse(answer)
        if not golds:
            return None
        return any(self._same(one, other) for one in golds for other in answers)

    def _parse(self, text: str) -> list[Any]:
        marked = text if _MATHS.search(text) else rf"\boxed{{{text}}}"
        # Its own time limits are signals that swallow what interrupts them; the worker is killed from outside.
        return list(self._math_verify.parse(marked, parsing_timeout=None, raise_on_error=True))

    def _same(self, gold: Any, answer: Any) -> bool:
        same = self._math_verify.verify(gold, answer, timeout_seconds=None, raise_on_error=True)
        return bool(same) and self._agree(gold, answer)

    def _agree(self, gold: Any, answer: Any) -> bool:
        """Whether two numbers agree beyond a fixed number of decimals; what is no number is taken to."""
        numbers = [one for one in (gold, answer) if isinstance(one, self._sympy.Expr) and one.is_number]
        if len(numbers) < 2:
            return True
        decimal = any(number.has(self._sympy.Float) for number in numbers)
        one, other = (self._sympy.N(number, 50) for number in numbers)
        near = (self._DECIMAL if decimal else self._EXACT) * max(abs(one), abs(other))
        return bool(abs(one - other) <= near) or bool(self._sympy.simplify(gold - answer) == 0)


def load(rules: str) -> Rules:
    """Return the rules of a name: "canonical", "math_verify", or a function as "module:function"."""
    if rules == "canonical":
        return same_key
    if rules == "math_verify":
        return MathVerify()
    module, _, name = rules.partition(":")
    found: Rules = getattr(importlib.import_module(module), name)
    return found


def main() -> None:
    """Answer questions until standard input ends. Arguments: rules, bytes of memory, seconds for a question."""
    rules, memory, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "wb")
    _discard(1)
    limit_memory(memory)
    judge = load(rules)
    _discard(2)
    questions: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_listen, args=(questions,), daemon=True).start()
    send(replies, {"ready": True})
    while True:
        question = questions.get()
        send(replies, {"began": True})
        _backstop(seconds + BACKSTOP)
        reply = _judged(judge, question["gold"], question["answer"])
        _backstop(0)
        send(replies, reply)


def _judged(judge: Rules, gold: str, answer: str) -> dict[str, Any]:
    try:
        with typed_errors(TTSError, "the rules"):
            try:
                same = judge(gold, answer)
            except MemoryError:
                os._exit(OUT_OF_MEMORY)
    except TTSError as error:
        return {"undecided": "error", "detail": str(error)[:MAX_DETAIL]}
    return {"undecided": "unreadable"} if same is None else {"equal": bool(same)}


def _listen(questions: SimpleQueue[dict[str, Any]]) -> None:
    """Pass questions on, and end the process with them, whatever it is doing."""
    try:
        with os.fdopen(os.dup(0), "rb") as stream:
            while (question := receive(stream)) is not None:
                questions.put(question)
    finally:
        os._exit(0)


def _discard(descriptor: int) -> None:
    """Let what is written to a descriptor go nowhere: nobody reads it, so that it would fill up and block."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def limit_memory(memory: int) -> None:
    """Limit the address space of this process, where the platform does that; Linux does."""
    try:
        import resource
    except ImportError:
        return
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    except (ValueError, OSError):
        return


def _backstop(seconds: float) -> None:
    """Have the system end this process after so long, for rules in which no other thread gets a turn; 0 is never."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
