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
from dataclasses import replace
from fractions import Fraction
from functools import partial
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any

from tts._latex import without_unit
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
MAX_BACKSTOP = 1e8
"""Seconds; the system's timers know no more than some 292 years."""

_READER = MathAnswerReader()
_PLACES = 3
"""At how many values of their letters expressions are compared."""
_LENGTH = 4
_RATIONAL = re.compile(r"-?[0-9]+(?:/0*[1-9][0-9]*)?")
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_BASED = re.compile(r"([0-9]+)_([0-9]{1,2})")
_COMPARED = re.compile(r"[<>]|\\(?:ne|le|ge)(?![a-z])")
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
    """Whether two keys are equal, where they say enough, else None.

    Enough is one key, two exact numbers, two of plain words, two times of day (3:20 is not 6:40), two numbers that name
    their bases (13_4 is 7_{10}), and a relation without a left side beside a value (>5 is not 5).
    """
    if gold == answer:
        return True
    if _RATIONAL.fullmatch(gold) and _RATIONAL.fullmatch(answer):
        return Fraction(gold) == Fraction(answer)
    for pattern, value in ((_CLOCK, _time), (_BASED, _in_base)):
        one, other = pattern.fullmatch(gold), pattern.fullmatch(answer)
        if one and other:
            return value(*one.groups()) == value(*other.groups())
    if _WORDS.fullmatch(gold) and _WORDS.fullmatch(answer):
        return False
    return False if _bounds(gold, answer) or _bounds(answer, gold) else None


def _bounds(key: str, value: str) -> bool:
    return bool(_COMPARED.match(key)) and not _COMPARED.search(value)


def _time(hours: str, minutes: str) -> tuple[int, int]:
    return int(hours), int(minutes)


def _in_base(digits: str, base: str) -> int | str:
    known = 2 <= int(base) <= 36 and int(max(digits)) < int(base)
    return int(digits, int(base)) if known else f"{digits}_{base}"


class MathVerify:
    r"""Whether math-verify takes two answers for equal, where their keys leave it open.

    Keys go first, so that these rules never undo what the built-in ones find equal, and since math-verify 0.9 judges by
    six decimals: 1/2^99 is 1/2^98 to it, and 0.333333 is 1/3. It also reads words as products of letters: live is evil.
    It is not let take R for r, nor drop a last letter that could be a unit: 60t would be 60, and b h be b. Units are
    dropped as the built-in reader does.

    What remains of its verdicts "equal" is believed only if numbers, and expressions where their letters have values,
    agree in relative terms: to 6 digits if one was written with a decimal point, else to 30, or by simplification. So
    1/2004! is not 1/2006!. Of tuples, sets, intervals and matrices each part is held to this. Two equations have to be
    multiples of each other: it takes any two without a solution for equal. `\{1,2\}` is no (1,2).

    Known to be taken for equal: what it reads last of a chain (6 and 5=6), 123 and 123_4, and words that stand beside
    numbers and have the same letters.
    """

    _DECIMAL, _EXACT = 1e-6, 1e-30

    def __init__(self) -> None:
        self._math_verify: Any = importlib.import_module("math_verify")
        self._sympy: Any = importlib.import_module("sympy")
        self._extraction = self._configured()
        self._compare("x^2-1", r"(x-1)(x+1)+\frac12")  # loads what they load late, before any clock runs

    def _configured(self) -> list[Any]:
        """Have letters keep their case, for which math-verify has no option, and nothing dropped as a unit."""
        parser: Any = importlib.import_module("math_verify.parser")
        latex: Any = importlib.import_module("latex2sympy2_extended")
        cased = latex.latex2sympy2.ConversionConfig(lowercase_symbols=False)
        parser.latex2sympy = partial(latex.latex2sympy, conversion_config=cased)
        plain = self._math_verify.LatexExtractionConfig()
        unitless = replace(plain.normalization_config, units=False)
        return [replace(plain, normalization_config=unitless), self._math_verify.ExprExtractionConfig()]

    def __call__(self, gold: str, answer: str) -> bool | None:
        """Return None where the gold answer cannot be read."""
        keys = _READER.key(gold), _READER.key(answer)
        if keys[0] is None or keys[1] is None:
            return None if keys[0] is None else False
        decided = decided_by_keys(keys[0], keys[1])
        if decided is not None:
            return decided
        if _is_set(gold, keys[0]) != _is_set(answer, keys[1]) and {keys[0][0], keys[1][0]} & {"(", "["}:
            return False
        return self._compare(gold, answer)

    def _compare(self, gold: str, answer: str) -> bool | None:
        golds, answers = self._parse(gold), self._parse(answer)
        if not golds:
            return None
        return any(self._same(one, other) for one in golds for other in answers)

    def _parse(self, text: str) -> list[Any]:
        marked = text if _MATHS.search(text) else rf"\boxed{{{without_unit(text)}}}"
        # Its own time limits are signals that swallow what interrupts them; the worker is killed from outside.
        return list(self._math_verify.parse(marked, self._extraction, parsing_timeout=None, raise_on_error=True))

    def _same(self, gold: Any, answer: Any) -> bool:
        same = self._math_verify.verify(gold, answer, timeout_seconds=None, raise_on_error=True)
        return bool(same) and self._agree(gold, answer)

    def _agree(self, gold: Any, answer: Any) -> bool:
        """Whether two that are taken for equal agree beyond a fixed number of decimals; what has none is taken to."""
        relation = self._sympy.core.relational.Relational
        if isinstance(gold, relation) and isinstance(answer, relation):
            return self._multiples(gold.lhs - gold.rhs, answer.lhs - answer.rhs)
        if self._is_scalar(gold) and self._is_scalar(answer):
            return self._near(gold, answer)
        parts, others = self._parts(gold), self._parts(answer)
        if len(parts) != len(others):
            return True
        if isinstance(gold, self._sympy.FiniteSet) or isinstance(answer, self._sympy.FiniteSet):
            return all(any(self._agree(part, other) for other in others) for part in parts)
        return all(map(self._agree, parts, others))

    def _is_scalar(self, thing: Any) -> bool:
        return isinstance(thing, self._sympy.Expr) and not thing.is_Matrix

    def _parts(self, thing: Any) -> list[Any]:
        if self._is_scalar(thing):
            return [thing]
        if isinstance(thing, self._sympy.MatrixExpr):
            thing = thing.doit()
        if isinstance(thing, self._sympy.MatrixBase):
            return list(thing.flat())
        if isinstance(thing, self._sympy.Interval):
            return [thing.start, thing.end]
        return list(thing.args) if isinstance(thing, (self._sympy.Tuple, self._sympy.FiniteSet)) else []

    def _near(self, gold: Any, answer: Any) -> bool:
        """Whether two expressions have about the same value, whatever their letters stand for."""
        pairs = [(self._value(gold, place), self._value(answer, place)) for place in range(_PLACES)]
        if any(value is None for pair in pairs for value in pair):
            return True
        near = self._digits(gold, answer)
        close = all(abs(one - other) <= near * max(abs(one), abs(other)) for one, other in pairs)
        return close or bool(self._sympy.simplify(gold - answer) == 0)

    def _multiples(self, gold: Any, answer: Any) -> bool:
        """Whether one expression is a multiple of the other."""
        ratios = [self._value(gold / answer, place) for place in range(_PLACES)]
        if any(ratio is None for ratio in ratios):
            return True
        near = self._digits(gold, answer) * abs(ratios[0])
        return ratios[0] != 0 and all(abs(ratio - ratios[0]) <= near for ratio in ratios)

    def _digits(self, *expressions: Any) -> float:
        return self._DECIMAL if any(each.has(self._sympy.Float) for each in expressions) else self._EXACT

    def _value(self, expression: Any, place: int) -> Any:
        """Return an expression's value where its letters have values of their own, or None if it has none there."""
        letters = {
            symbol: self._sympy.Rational(int.from_bytes(str(symbol).encode(), "big") % 8191 + 1, 4096 + 1021 * place)
            for symbol in expression.free_symbols
        }
        value = self._sympy.N(expression.subs(letters), 50)
        return value if value.is_number and value.is_finite else None


def _is_set(text: str, key: str) -> bool:
    return r"\{" in text and key.startswith(r"\{")


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
    """Pass questions on, and end the process with them, whatever it is doing, and what it started."""
    try:
        with os.fdopen(os.dup(0), "rb") as stream:
            while (question := receive(stream)) is not None:
                questions.put(question)
    finally:
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
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
        signal.setitimer(signal.ITIMER_REAL, min(seconds, MAX_BACKSTOP))
