"""Grading: what is equal, by which rules; and that whatever a worker does, it can be stopped and the rest goes on."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import to_thread

from tts.answers import MathAnswerReader
from tts.errors import MissingExtraError, ParameterError
from tts.grading import GradingError, KeyGrader, Undecided, WorkerGrader
from tts.grading_process import TimeUp, Worker
from tts.grading_worker import decided_by_keys
from tts.groups import Tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = "tests.grading_rules:misbehave"
ROOT = Path(__file__).resolve().parent.parent
SMALL = 256 << 20
PATIENT = 120.0
PAIRS = [(r"\frac12", "0.5", True), ("1,234", "1234", True), ("x+1", "1+x", True), ("5", "6", False), ("5", "", False)]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENT)
        yield server


def port(server: socket.socket) -> str:
    return str(server.getsockname()[1])


async def called(server: socket.socket) -> socket.socket:
    """Wait until a worker reports that it is in the middle of its question."""
    return (await to_thread.run_sync(server.accept))[0]


async def assert_ends(worker: socket.socket) -> None:
    """Wait until the worker's process has ended, with which its socket closes."""
    worker.settimeout(PATIENT)
    with worker:
        assert await to_thread.run_sync(worker.recv, 1) == b""


async def test_workers_judge_as_the_reader_does() -> None:
    async with WorkerGrader(seconds=PATIENT) as grader:
        for gold, answer, same in pairs():
            assert await grader.equal(gold, answer) is same
            assert await KeyGrader().equal(gold, answer) is same
        assert await grader.equal("", "5") == Undecided("unreadable") == await KeyGrader().equal("", "5")


def pairs() -> list[tuple[str, str, bool]]:
    """Return pairs made here, and where there are suites of others, what the reader's keys make of these."""
    found = list(PAIRS)
    folder, reader = os.environ.get("TTS_DATA"), MathAnswerReader()
    for path in sorted(Path(folder, "grader").glob("*.jsonl")) if folder else ():
        for line in path.read_text(encoding="utf-8").splitlines()[::8]:
            row = json.loads(line)
            if reader.key(row.get("gold", "")) is not None:
                found.append((row["gold"], row["pred"], reader.key(row["gold"]) == reader.key(row["pred"])))
    return found


async def test_a_question_that_takes_too_long_is_killed(listening: socket.socket) -> None:
    async with WorkerGrader(RULES, workers=1, seconds=0.2) as grader:
        verdict = await grader.equal(port(listening), "loop")
        assert isinstance(verdict, Undecided) and verdict.reason == "time"
        await assert_ends(await called(listening))


@needs_fork
async def test_what_a_worker_started_ends_with_it(listening: socket.socket) -> None:
    """A child holds the worker's pipe and socket open, so that killing the worker alone would wait for ever."""
    async with WorkerGrader(RULES, workers=1, seconds=0.2) as grader:
        verdict = await grader.equal(port(listening), "fork")
        assert isinstance(verdict, Undecided) and verdict.reason == "time"
        await assert_ends(await called(listening))


async def test_the_clock_starts_when_the_worker_has_begun() -> None:
    """Of more questions than places, none is timed while it waits, nor while a process starts, which takes longer."""
    verdicts = []
    async with WorkerGrader(RULES, workers=1, seconds=1.0) as grader:

        async def ask(answer: str) -> None:
            verdicts.append(await grader.equal("5", answer))

        async with Tasks() as tasks:
            for answer in ("loop", "5", "5"):
                tasks.start_soon(ask, answer)
    assert [verdict is True for verdict in verdicts].count(True) == 2


def test_the_clock_needs_no_event_loop_that_has_time_to_look_at_it() -> None:
    worker = Worker(RULES, SMALL, PATIENT)
    try:
        assert worker.ask("5", "5", PATIENT) == {"equal": True}
        with pytest.raises(TimeUp):
            worker.ask("5 or so", "loop", 0.2)
    finally:
        worker.kill()
        worker.reap()


async def test_a_limit_beyond_what_timers_hold_is_none() -> None:
    async with WorkerGrader(workers=1, seconds=1e30) as grader:
        assert await grader.equal("5", "5") is True


async def test_memory_is_limited_and_the_rest_goes_on() -> None:
    async with WorkerGrader(RULES, workers=1, seconds=PATIENT, memory_bytes=SMALL) as grader:
        verdict = await grader.equal("5", "eat")
        assert isinstance(verdict, Undecided) and verdict.reason == "memory"
        assert await grader.equal("5", "5") is True


async def test_what_earlier_questions_left_in_memory_does_not_hang_a_verdict() -> None:
    async with WorkerGrader(RULES, workers=1, seconds=PATIENT, memory_bytes=SMALL) as grader:
        assert [await grader.equal("keep", "keep") for _ in range(3)] == [True, True, True]


async def test_a_worker_that_dies_leaves_the_question_undecided() -> None:
    async with WorkerGrader(RULES, workers=1, seconds=PATIENT) as grader:
        verdict = await grader.equal("5", "die")
        assert verdict == Undecided("died", "the worker ended with exit status 3")
        assert await grader.equal("5", "5") is True


async def test_rules_that_raise_or_cannot_read_leave_the_worker_alive() -> None:
    async with WorkerGrader("tests.grading_rules:misbehave", workers=1, seconds=PATIENT) as grader:
        verdict = await grader.equal("5", "raise")
        assert str(verdict) == "undecided (error): the rules failed: ValueError: no such thing"
        assert not verdict
        assert await grader.equal("5", "unreadable") == Undecided("unreadable")
        assert await grader.equal("print", "print") is True


async def test_a_worker_lives_for_many_questions() -> None:
    async with WorkerGrader("tests.grading_rules:process", workers=1, seconds=PATIENT) as grader:
        assert [await grader.equal(str(number), "") for number in (1, 2, 3)] == [True, True, True]


async def test_cancelling_kills_the_worker_that_was_on_it(listening: socket.socket) -> None:
    async with WorkerGrader(RULES, workers=1, seconds=PATIENT) as grader:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(grader.equal, port(listening), "loop")
            worker = await called(listening)
            tasks.cancel_scope.cancel()
        await assert_ends(worker)
        assert await grader.equal("5", "5") is True


async def test_closing_kills_all_and_says_so(listening: socket.socket) -> None:
    grader = WorkerGrader(RULES, workers=2, seconds=PATIENT)
    refused = []

    async def ask() -> None:
        with pytest.raises(GradingError, match="closed"):
            await grader.equal(port(listening), "loop")
        refused.append(True)

    async with Tasks() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        workers = [await called(listening), await called(listening)]
        await grader.aclose()
    for worker in workers:
        await assert_ends(worker)
    assert refused == [True, True]
    with pytest.raises(GradingError, match="closed"):
        await grader.equal("5", "5")


@pytest.mark.parametrize("answer", ["loop", pytest.param("fork", marks=needs_fork)])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_workers_end_with_the_process_that_started_them(listening: socket.socket, answer: str) -> None:
    """Also in the middle of a question."""
    script = (
        "import anyio, os, sys\n"
        "from tts.grading import WorkerGrader\n"
        f"grader = WorkerGrader({RULES!r}, seconds={PATIENT})\n"
        "async def main():\n"
        "    async with anyio.create_task_group() as tasks:\n"
        "        tasks.start_soon(grader.equal, *sys.argv[1:])\n"
        "        await anyio.to_thread.run_sync(sys.stdin.read)\n"
        "        os._exit(1)\n"
        "anyio.run(main)\n"
    )
    async with await anyio.open_process([sys.executable, "-c", script, port(listening), answer], cwd=ROOT) as parent:
        worker = await called(listening)
        assert parent.stdin is not None
        await parent.stdin.aclose()
        assert await parent.wait() == 1
    await assert_ends(worker)


def test_a_grader_serves_one_event_loop_after_another() -> None:
    grader = WorkerGrader(workers=1, seconds=PATIENT)
    assert anyio.run(grader.equal, "1/2", "0.5") is True
    assert anyio.run(grader.equal, "1/2", "0.4", backend="trio") is False
    anyio.run(grader.aclose)


async def test_workers_see_no_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    async with WorkerGrader("tests.grading_rules:secrets", workers=1, seconds=PATIENT) as grader:
        assert [await grader.equal(name, "") for name in ("SOME_API_KEY", "PYTHONPATH")] == [False, True]


async def test_rules_that_cannot_be_loaded_are_an_error() -> None:
    async with WorkerGrader("tests.grading_rules:nothing") as grader:
        with pytest.raises(GradingError, match=r"did not start: exit status 1: AttributeError: .*'nothing'"):
            await grader.equal("5", "5")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"rules": "sympy"}, "rules='sympy'"),
        ({"seconds": 0.0}, "seconds=0.0"),
        ({"workers": -1}, "workers=-1"),
        ({"seconds": float("inf")}, "seconds=inf; give a finite number"),
        ({"memory_bytes": 0}, "memory_bytes=0"),
        ({"workers": 1.5}, "workers=1.5; give a whole number"),
        ({"memory_bytes": 1e9}, "memory_bytes=1000000000.0; give a whole number"),
    ],
)
def test_limits_and_rules_are_checked(options: dict[str, object], what: str) -> None:
    with pytest.raises(ParameterError, match=what):
        WorkerGrader(**options)  # type: ignore[arg-type]


def test_a_missing_extra_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"inference-time-scaling\[grading\]"):
        WorkerGrader("math_verify")


@pytest.mark.parametrize(
    ("gold", "answer", "decided"),
    [
        ("1/2", "1/2", True),
        ("1/3", "333/1000", False),
        ("evil", "live", False),
        ("even number", "odd number", False),
        ("x^2", "x*x", None),
        ("1/2", r"\pi", None),
        ("evil", "5", None),
        ("1/0", "2/0", None),
        ("12:00", "1:00", False),
        ("3:20", "6:40", False),
        ("9:05", "09:05", True),
        ("3:2", "6:4", None),
        ("123_4", "123_5", False),
        ("13_4", "7_10", True),
        ("9_4", "9_5", False),
        ("123_4", "123", None),
        ("5", r"\ne5", False),
        (r"\ge5", "5", False),
        (">5", "x>5", None),
        ("5", r"\neg", None),
    ],
)
def test_keys_decide_where_they_say_enough(gold: str, answer: str, decided: bool | None) -> None:
    assert decided_by_keys(gold, answer) is decided


SAME = [
    ("x^2+2x+1", "(x+1)^2"), (r"\binom{10}{3}", "120"), (r"\sqrt{3+2\sqrt2}", r"1+\sqrt2"), (r"10\%", "10"),
    (r"\sqrt{50}", r"5\sqrt2\text{ cm}"), ("10!", "3628800 ways"), (r"\pi", "3.14159265"),
    (r"\pi(R^2-r^2)", r"\pi(R-r)(R+r)"), (r"\{\sqrt8,1\}", r"1, 2\sqrt2"), (r"(\sqrt8,1)", r"(2\sqrt2,1)"),
    (r"[\sqrt8,3]", r"[2\sqrt2,3]"), (r"(1,\sqrt8),(3,4)", r"(3,4),(1,2\sqrt2)"),
    (r"\begin{pmatrix}\sqrt8\\1\end{pmatrix}", r"\begin{pmatrix}2\sqrt2\\1\end{pmatrix}"),
    (r"\begin{pmatrix}3\\5\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}+\begin{pmatrix}2\\3\end{pmatrix}"),
    ("2x+4y-3=0", r"y=-\frac12x+\frac34"), ("x<1", "-x>-1"), ("x>5", r"(5,\infty)"), ("|x|<0", "|x|<0"),
]  # fmt: skip
DIFFERENT = [
    ("1/2004!", "1/2006!"), ("1/2^{99}", "1/2^{98}"), ("0.333333", "1/3"), ("evil", "live"), ("5", ""),
    ("60t", "60"), ("n+3m", "n+3"), ("b h", "b"), (r"5\sqrt2\text{ million}", r"5\sqrt2"),
    (r"\pi(R^2-r^2)", "0"), (r"\frac{R}{r}", "1"), (r"2\pi r", r"2\pi R"), ("1-1/e", "1+1/e"),
    (r"x+\pi/10^{20}", "x"), (r"\pi x/10^{20}", "0"), (r"\{\pi,1/2^{99}\}", r"\{\pi,1/2^{98}\}"),
    (r"(\pi,1/2^{99})", r"(\pi,1/2^{98})"), (r"[0,\pi/10^{20}]", r"[0,\pi/10^{21}]"),
    (r"\begin{pmatrix}\pi/10^{20}\\1\end{pmatrix}", r"\begin{pmatrix}\pi/10^{21}\\1\end{pmatrix}"),
    (r"y<\pi/10^{20}", r"y<\pi/10^{21}"), (r"x^2+1=0", "x^2+1=0.5"), (r"\sqrt{x}=-1", r"\sqrt{x}=-2"),
    (r"\{1,2\}", "(1,2)"), ("(1,2)", r"\{1,2\}"), ("(1,2)", "(2,1)"), ("5", r"\neq 5"), ("123_4", "123_5"),
]  # fmt: skip


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_math_verify_finds_what_keys_do_not_and_is_held_to_digits_and_letters() -> None:
    async with WorkerGrader("math_verify", workers=1, seconds=PATIENT) as grader:
        assert set(grader.fingerprint) > {"rules", "math-verify", "sympy"}
        for expected, listed in ((True, SAME), (False, DIFFERENT)):
            assert [(pair, await grader.equal(*pair)) for pair in listed] == [(pair, expected) for pair in listed]
        assert await grader.equal("", "5") == Undecided("unreadable")
