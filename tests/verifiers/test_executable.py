"""The executable verifier: what it runs, what passes, and what is an error rather than a score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.test_sandbox import AVAILABLE, LIMITS
from tts.errors import NeedsError, ParameterError, ProblemError, VerifierError
from tts.protocols import Path
from tts.sandbox import Program, Result, Sandbox
from tts.testing import check_verifier
from tts.types import Message
from tts.verifiers.executable import Executable, extract_code, split_tests

if TYPE_CHECKING:
    from collections.abc import Sequence

QUESTION = (Message(role="user", content="Write double."),)
TESTS = "assert double(2) == 4\nassert double(3) == 9\n"


def answer(code: str) -> Path:
    return Path(QUESTION, ("I think so.\n\n", f"```python\n{code}\n```\n"), True)


class Scripted(Sandbox):
    """Runs nothing; a program completes if its source and check evaluate together."""

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__()
        self.ran: list[list[Program]] = []
        self.fault = fault

    async def connect(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def run(self, programs: Sequence[Program]) -> list[Result]:
        await self.connect()
        self.ran.append(list(programs))
        done = [program.source.strip() in program.check for program in programs]
        return [Result(one, "completed" if one else "exited", None if one else 1, "", "") for one in done]


async def test_the_score_is_the_share_of_tests_that_pass() -> None:
    sandbox = Scripted()
    verifier = Executable("assert one\nassert two\nassert one + 1\nassert three", sandbox=sandbox)
    replies = await verifier.score([answer("one"), answer("two"), answer("four")])
    assert [reply.values for reply in replies] == [[0.5], [0.25], [0.0]]
    assert [(reply.tokens, reply.calls) for reply in replies] == [(0, 1)] * 3


async def test_all_or_nothing_runs_all_tests_together() -> None:
    sandbox = Scripted()
    (reply,) = await Executable(TESTS, partial_credit=False, sandbox=sandbox).score([answer("double")])
    assert reply.values == [1.0] and sandbox.ran == [[Program("double\n", TESTS)]]


async def test_a_path_without_code_passes_nothing_and_runs_nothing() -> None:
    sandbox = Scripted()
    (reply,) = await Executable(TESTS, sandbox=sandbox).score([Path(QUESTION, ("I do not know.",), True)])
    assert reply.values == [0.0] and sandbox.ran == [[]]


async def test_tests_come_by_problem_or_from_a_function() -> None:
    for tests in ({"Write double.": "assert double"}, lambda messages: f"assert double, {messages[-1].content!r}"):
        (reply,) = await Executable(tests, sandbox=Scripted()).score([answer("double")])
        assert reply.values == [1.0]
    with pytest.raises(ProblemError, match=r"no tests for the problem 'Write double\.'"):
        await Executable({"Another": "assert one"}, sandbox=Scripted()).score([answer("double")])


async def test_what_cannot_be_judged_is_an_error() -> None:
    for fault in (VerifierError("it broke"), NeedsError("no sandbox here")):
        with pytest.raises(type(fault)):
            await Executable(TESTS, sandbox=Scripted(fault)).score([answer("double")])
        with pytest.raises(type(fault)):
            await Executable(TESTS, sandbox=Scripted(fault)).connect()
    with pytest.raises(VerifierError, match="not finished"):
        await Executable(TESTS, sandbox=Scripted()).score([Path(QUESTION, ("```python\n",), False)])
    with pytest.raises(ParameterError, match="not Python"):
        await Executable(lambda _: "assert (", sandbox=Scripted()).score([answer("double")])


def test_tests_are_read_at_the_start() -> None:
    with pytest.raises(ParameterError, match="not Python"):
        Executable({"one": "assert ("})
    with pytest.raises(ParameterError, match="without a statement"):
        Executable("# nothing")
    with pytest.raises(ParameterError, match="concurrency=0"):
        Executable(TESTS, concurrency=0)


def test_what_it_says_of_itself_tells_tests_apart() -> None:
    one, two = (Executable(tests).capabilities for tests in ("assert one", "assert two"))
    assert (one.steps, one.partial, one.calls) == (False, False, 1)
    assert one.fingerprint["tests"] != two.fingerprint["tests"]
    swapped = [Executable({key: f"assert {name}" for key, name in pairs}) for pairs in (("ax", "by"), ("bx", "ay"))]
    assert swapped[0].capabilities.fingerprint["tests"] != swapped[1].capabilities.fingerprint["tests"]
    assert one.fingerprint["disk"] == Sandbox().limits.disk


def test_each_assert_is_a_test_after_what_stands_before_it() -> None:
    text = "x = f()\nassert x\nx += 1\nassert x > 1, 'small'\nfor y in x:\n    assert y"
    assert split_tests(text) == [
        "x = f()\nassert x",
        "x = f()\nx += 1\nassert x > 1, 'small'",
        "x = f()\nx += 1\nfor y in x:\n    assert y",
    ]
    assert split_tests("def check(g):\n    assert g()\ncheck(f)") == ["def check(g):\n    assert g()\ncheck(f)"]


def test_the_last_python_block_after_the_thinking_is_the_code() -> None:
    assert extract_code("<think>```python\nno\n```</think>so") is None
    assert extract_code("```python\none\n```\n```py\ntwo\n```\nIt prints\n```\n3\n```") == "two\n"
    assert extract_code("```\none\n```") == "one\n"
    assert extract_code("1. Like this:\n   ```python\n   if x:\n       y\n   ```") == "if x:\n    y\n"
    assert extract_code("```python\nnever closed") == "never closed"


if AVAILABLE:

    async def test_code_is_run_against_its_tests() -> None:
        verifier = Executable(TESTS, sandbox=Sandbox(LIMITS))
        equal = "class double(int):\n    def __eq__(self, _): return True"
        codes = ("def double(x): return 2 * x", "import os\nos._exit(0)", "print('passed')", equal)
        replies = await verifier.score([answer(code) for code in codes])
        assert [reply.values for reply in replies] == [[0.5], [0.0], [0.0], [0.0]]

    async def test_it_keeps_what_verifiers_promise() -> None:
        await check_verifier(
            lambda: Executable(TESTS, sandbox=Sandbox(LIMITS)), steps=answer("def double(x): return x * x").steps
        )

else:

    async def test_it_refuses_where_there_is_no_sandbox() -> None:
        with pytest.raises(NeedsError, match="no sandbox here"):
            await Executable(TESTS).score([answer("def double(x): return 2 * x")])
