"""Checks of code that is in another process: what they can do to it, and that code cannot pass them by deceit."""

from __future__ import annotations

import pytest

from tests.test_sandbox import AVAILABLE, LIMITS
from tts.errors import VerifierError
from tts.sandbox import Program, Sandbox

READ_ALL = """
import os
def pass_on():
    said = b''
    for end in range(3, 64):
        try:
            os.set_blocking(end, False)
            said += os.read(end, 65536)
        except OSError: pass
    for end in range(3, 64):
        for word in (b'sl', b'', said[-32:], said[-32:]):
            try: os.write(end, word)
            except OSError: pass
"""
FORGED = {
    "leaving early": "import os\nos._exit(0)",
    "leaving by an error": "raise SystemExit",
    "leaving where it is called": "import os\ndef double(number): os._exit(0)",
    "saying that it has passed": """
import os
print('passed')
for end in range(64):
    try: os.write(end, b's' + b'0' * 32)
    except OSError: pass""",
    "passing on the token": f"{READ_ALL}pass_on()\ndef double(number): pass_on()",
    "passing it on at the end": f"{READ_ALL}import atexit\natexit.register(pass_on)\ndef double(_): raise SystemExit",
    "passing it on beside": f"{READ_ALL}import threading\nthreading.Thread(target=pass_on).start()\ndouble = print",
    "being equal to all": "class double:\n    def __init__(self, _): pass\n    def __eq__(self, _): return True",
    "being a number that is equal to all": """
class Any(int):
    def __eq__(self, _): return True
    __lt__ = __gt__ = __sub__ = __rsub__ = __abs__ = __eq__
def double(number): return Any()""",
    "what a frame knows": """
import gc, sys
def double(number):
    frame, found = sys._getframe(), []
    while frame:
        found += frame.f_code.co_consts
        frame = frame.f_back
    for kept in gc.get_objects(): found += kept if type(kept) in (list, tuple) else ()
    return ([one for one in found if type(one) is int and one // 10 == 400] or [0])[0]""",
    "patching what checks": """
import builtins, os, sys
leave = os._exit
builtins.AssertionError = builtins.exec = builtins.compile = builtins.len = print
os.write = os.read = sys.exit = lambda *_: b''
sys.settrace(lambda *_: leave(0))
def double(number):
    builtins.AssertionError = ValueError
    sys.modules['__main__'].__dict__.clear()
    return 5""",
    "ending loops": "def double(number): raise StopIteration",
    "interrupting": "import os, signal\ndef double(number): os.kill(os.getppid(), signal.SIGINT)",
    "two answers": "import os\ndouble = lambda _: 4 if os.fork() else 4003",
    "naming itself like a built-in": "def double(number): return 0\ndef abs(_): return 0\ndef all(_): return True",
}
"""Ways to pass without being right; each is checked by `UNMET`, which nothing here should pass."""
UNMET = """
assert all(map(lambda number: double(number) == 2 * number, [2002]))
assert abs(double(2002) - 4004) < 1e-6
"""
CODE = """
import asyncio, json, math
from collections import Counter
def double(number): return 2 * number
def sort(items): items.sort()
def flip(rows, *, sign): rows[0][0] *= sign
def count(text): return Counter(text)
def up_to(number): yield from range(number)
def apply(function, value): return function(value)
def same(value): return value
class Refused(ValueError):
    def __init__(self, code, why): super().__init__(why); self.code = code
def refuse(code): raise Refused(code, 'no')
def parse(text): return json.loads(text)
class Stack:
    def __init__(self): self.items = []
    def push(self, item): self.items.append(item)
    def __len__(self): return len(self.items)
    def __getitem__(self, place): return self.items[place]
    def __eq__(self, other): return self.items == other.items
    def __repr__(self): return f'Stack({self.items})'
    def __enter__(self): return self
    def __exit__(self, *_): self.items.clear()
calls = 0
def called():
    global calls
    calls += 1
async def later(number): return number
"""
MET = {
    "data": """
from collections import OrderedDict, deque
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
for value in (None, True, 3, -10**5000, 0.5, float('inf'), 2j, 'a\\ud800', b'ab', bytearray(b'c'), [1, [2]], (1, (2,)),
              {1, 2}, frozenset({(1,)}), {(1, 2): {'a': [None]}}, deque([1]), OrderedDict(a=1), slice(1, None),
              range(1, 9, 2), Fraction(1, 3), Decimal('0.10'), datetime(2020, 1, 2, 3), date(2020, 1, 2),
              timedelta(1, 2, 3), int):
    assert same(value) == value and type(same(value)) is type(value), value
assert math.isnan(same(math.nan)) and count('aab') == {'a': 2, 'b': 1} and count('a').most_common() == [('a', 1)]""",
    "arguments that are changed": """
items, rows, row = [3, 1, 2], [[1], [2]], {1: 2}
sort(items), flip(rows, sign=-1)
assert items == [1, 2, 3] and rows == [[-1], [2]] and same(row) is not row""",
    "functions and iterators, both ways": """
assert apply(lambda number: number + 1, 3) == 4 and apply(len, 'abc') == 3 and apply(sum, iter([1, 2])) == 3
assert apply(sum, (number for number in [1, 2])) == apply(list, map(int, '3'))[0] == 3
assert list(up_to(3)) == [0, 1, 2] and next(up_to(1)) == 0 and same(double) is double and same(same)(1) == 1
given = lambda: 1
assert same(given) is given""",
    "errors": """
for kind in (Refused, ValueError):
    try: refuse(3)
    except kind as error: assert (error.code, str(error), error.args) == (3, 'no', ('no',))
    else: assert False
try: parse('{')
except json.JSONDecodeError as error: assert error.pos == 1
else: assert False
try: apply(lambda _: {}['key'], 1)
except KeyError as error: assert error.args == ('key',)
else: assert False""",
    "objects": """
stack, other = Stack(), Stack()
stack.push(1), other.push(1)
assert len(stack) == 1 and stack[0] == 1 and stack == other and stack != 1 and str(stack) == f'{other}' == 'Stack([1])'
assert isinstance(stack, Stack) and not isinstance(1, Stack) and hasattr(stack, 'push') and not hasattr(stack, 'pop')
assert 1 in stack and 2 not in stack and bool(stack)
stack.items = [5]
stack.items.append(6)
assert list(stack) == [5] and same(stack) is stack
with other: assert len(other) == 1
assert not other""",
    "names": """
import candidate
from candidate import double as twice
assert calls == 0
called()
assert calls == candidate.calls == 1 and twice(2) == candidate.double(2) == 4 and math.sqrt(4) == 2
class Test:
    def run(self): return double(3)
def check(function): assert function(3) == 6 == Test().run()
check(double)""",
    "coroutines": "assert asyncio.run(later(3)) == 3",
}

if AVAILABLE:

    async def test_code_that_deceives_does_not_pass() -> None:
        results = await Sandbox(LIMITS).run([Program(source, UNMET) for source in FORGED.values()])
        assert [name for name, result in zip(FORGED, results, strict=True) if result.completed] == []

    async def test_checks_reach_what_is_in_the_other_process() -> None:
        results = await Sandbox(LIMITS).run([Program(CODE, check) for check in MET.values()])
        said = {name: result.stderr for name, result in zip(MET, results, strict=True) if not result.completed}
        assert said == {}

    async def test_checks_that_are_not_met() -> None:
        checks = {
            "assert double(2) == 5": "AssertionError",
            "assert double(later_on)": "NameError",
            "Stack() + 1": "TypeError",
            "refuse(1)": "candidate.Refused",
        }
        results = await Sandbox(LIMITS).run([Program(CODE, check) for check in checks])
        last = [result.stderr.splitlines()[-1].split(":")[0] for result in results]
        assert last == list(checks.values()) and not any(result.completed for result in results)

    async def test_a_built_in_name_is_the_codes_where_the_check_names_nothing_else_of_it() -> None:
        code = "def sum(one, other): return one + other"
        (result,) = await Sandbox(LIMITS).run([Program(code, "assert sum(10, 15) == 25")])
        assert result.completed

    async def test_what_cannot_be_handed_over_is_an_error_and_no_failure() -> None:
        with pytest.raises(
            VerifierError, match=r"hands over Case <.*no data.*; hand over data, functions or iterators"
        ):
            await Sandbox(LIMITS).run([Program(CODE, "class Case: pass\ntry: same(Case())\nexcept Exception: pass")])

    async def test_numpy_arrays_are_data() -> None:
        pytest.importorskip("numpy")
        code = "import numpy\ndef count(number): return numpy.arange(number)\ndef same(value): return value"
        check = """
import numpy
assert (count(3) == numpy.array([0, 1, 2])).all() and count(2).dtype == int
for value in (numpy.int64(0), numpy.float64(0.5), numpy.bool_(False)): assert same(value) == value
"""
        (result,) = await Sandbox().run([Program(code, check)])
        assert result.completed, result.stderr
