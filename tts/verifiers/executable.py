"""Candidate code against unit tests, in a sandbox."""

from __future__ import annotations

import ast
import hashlib
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import RunVar

from tts.answers import split_thinking
from tts.capabilities import VerifierCapabilities
from tts.errors import ParameterError, ProblemError, VerifierError
from tts.groups import Tasks
from tts.protocols import PathScore
from tts.sandbox import Program, Sandbox

if TYPE_CHECKING:
    from tts.protocols import Path
    from tts.types import Message

Tests = str | Mapping[str, str] | Callable[[Sequence["Message"]], str]

_FENCED = re.compile(r"^[ \t]*```[ \t]*([^\s`]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_PYTHON = ("python", "python3", "py")


class Executable:
    """Runs the code of a finished path against unit tests; the score is the share of tests that pass.

    Functional correctness as in Evaluating Large Language Models Trained on Code (Chen et al. 2021, arXiv 2107.03374),
    whose pass or fail for all tests together is `partial_credit=False`; the share of tests passed as a reward is that
    of APPS (Hendrycks et al. 2021, arXiv 2105.09938). It asks no model and reads no tokens. The tests are public ones:
    with hidden ones the score is the grade itself, and a search that uses it has seen the answer.

    What is run is the last block fenced as Python (where none is, the last fenced block) of what the path says after
    its thinking. A path without a block passes no test, nor does code that crashes, exits, or runs into a limit of the
    sandbox. A failure of the sandbox, or of the tests to be Python, is an error and no score.

    A test is an `assert` at the top level, after all other statements that stand before it at the top level; what
    follows the last `assert` is one test more, and so is a text without one (as HumanEval's `check(candidate)`). Each
    test is run after a fresh run of the code, so that no test sees what another left.

    A test runs in a process of its own, in which names that it does not define stand for the code's (see
    `tts.sandbox.Program`), and has passed when that process hands back a token. The code sees the arguments that it is
    called with, not the test; what it returns is compared as plain data. So printing, exiting, patching, searching
    frames or memory, objects that are equal to everything, and writing to each pipe pass nothing. What remains: a name
    that a test uses and neither defines nor imports is the code's word, `math` too; so tests must import what they use
    (names of built-in functions are safe where the test names anything else of the code). And answers that are known by
    heart pass, as in any test.

    Known to fail: tests that compare objects of the code's classes with data by operators (`Vector(1, 2) == (1, 2)`;
    with each other they may be compared); that patch the code's module, catch what it prints, or look at its source;
    that need the network, /proc or more than the limits; time limits on a machine so busy that sound code meets them;
    code that draws on chance or the clock. A test that hands over an object of a class of its own is an error.
    """

    def __init__(
        self, tests: Tests, *, partial_credit: bool = True, sandbox: Sandbox | None = None, concurrency: int = 2
    ) -> None:
        """Say what to run.

        Args:
            tests: Python: of all problems, by the text of a problem's last message, or what a function of its messages
                returns.
            partial_credit: Whether some tests passed is worth their share; else it is 1 for all, and 0.
            sandbox: Where code is run; None is one with the limits that `tts.sandbox.Limits` names.
            concurrency: How many paths are run side by side, at most; each is one process at a time, beside those that
                its code starts.

        Raises:
            ParameterError: `concurrency` is below 1, or a text of tests is not Python or has no statement.
        """
        if concurrency < 1:
            raise ParameterError(f"concurrency={concurrency}: at least one path must be run at a time")
        for text in _texts(tests):
            split_tests(text)
        self._tests = tests
        self._partial_credit = partial_credit
        self._sandbox = sandbox or Sandbox()
        self._concurrency = concurrency
        self._places: RunVar[anyio.CapacityLimiter] = RunVar(f"executable {id(self)}")

    async def connect(self) -> None:
        """Find out whether there is a sandbox here.

        Raises:
            NeedsError: Isolation is not to be had.
        """
        await self._sandbox.connect()

    @property
    def capabilities(self) -> VerifierCapabilities:
        """One score a path, of finished paths; free of tokens, dollars and operations of a model."""
        given = _named(self._tests) or [getattr(self._tests, "__qualname__", type(self._tests).__qualname__)]
        return VerifierCapabilities(
            name="executable",
            steps=False,
            partial=False,
            dollars_per_token=0.0,
            flops_per_token=0.0,
            fingerprint={
                "tests": hashlib.sha256("\0".join(given).encode()).hexdigest()[:16],
                "partial_credit": self._partial_credit,
                **asdict(self._sandbox.limits),
            },
        )

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Run the code of each path.

        Raises:
            NeedsError: Isolation is not to be had.
            ParameterError: The tests of a problem are not Python, or there are none in the text.
            ProblemError: There are no tests for a problem.
            VerifierError: The sandbox failed, or a path has not finished.
        """
        work = [self._programs(path) for path in paths]
        places = self._places.get(None) or anyio.CapacityLimiter(self._concurrency)
        self._places.set(places)
        values: dict[int, float] = {}

        async def judge(place: int, programs: list[Program]) -> None:
            async with places:
                results = await self._sandbox.run(programs)
            values[place] = sum(result.completed for result in results) / max(1, len(programs))

        async with Tasks() as tasks:
            for place, programs in enumerate(work):
                tasks.start_soon(judge, place, programs)
        return [PathScore([values[place]]) for place in range(len(paths))]

    def _programs(self, path: Path) -> list[Program]:
        """Return what is run for a path: a program a test; none where the path has no code."""
        if not path.finished:
            raise VerifierError("executable: a path that has not finished has no code to run yet; score finished ones")
        text = self._tests_of(path.messages)
        tests = split_tests(text)
        code = extract_code("".join(path.steps))
        if code is None:
            return []
        return [Program(code, test) for test in (tests if self._partial_credit else [text])]

    def _tests_of(self, messages: Sequence[Message]) -> str:
        if isinstance(self._tests, str):
            return self._tests
        if not isinstance(self._tests, Mapping):
            return self._tests(messages)
        text = messages[-1].content
        if text not in self._tests:
            raise ProblemError(f"executable: no tests for the problem {text[:80]!r}; tests= knows {len(self._tests)}")
        return self._tests[text]

    async def aclose(self) -> None:
        """Release nothing: processes end with their runs."""


def extract_code(text: str) -> str | None:
    """Return the last block of a text that is fenced as Python, else the last fenced one; thinking is not looked at."""
    blocks = _FENCED.findall(split_thinking(text)[1])
    python = [code for language, code in blocks if language.lower() in _PYTHON]
    codes = python or [code for _, code in blocks]
    return textwrap.dedent(codes[-1]) if codes else None


def split_tests(text: str) -> list[str]:
    """Return each top-level assert after the other statements before it, and what follows the last, if anything.

    Raises:
        ParameterError: It is not Python, or there is no statement.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError) as error:
        raise ParameterError(f"tests are not Python: {error}; they begin {text[:80]!r}") from error
    if not statements:
        raise ParameterError(f"tests without a statement pass whatever is tested: {text[:80]!r}")
    tests: list[str] = []
    others: list[ast.stmt] = []
    for statement in statements:
        if isinstance(statement, ast.Assert):
            tests.append(ast.unparse(ast.Module([*others, statement], [])))
        else:
            others.append(statement)
    if not isinstance(statements[-1], ast.Assert):
        tests.append(ast.unparse(ast.Module(others, [])))
    return tests


def _named(tests: Tests) -> list[str]:
    """Return the texts of tests, each after the problem that it is for; nothing of a function."""
    return [part for pair in tests.items() for part in pair] if isinstance(tests, Mapping) else _texts(tests)


def _texts(tests: Tests) -> list[str]:
    """Return the texts of tests that are known before there is a problem."""
    if isinstance(tests, str):
        return [tests]
    return list(tests.values()) if isinstance(tests, Mapping) else []
