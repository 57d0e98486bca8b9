from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tts.trace import read_trace

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = [sys.executable, str(Path(__file__).with_name("scripted_tts.py"))]
SOLVE = ("solve", "1 + 1?", "--generator", "scripted", "--verifier", "scripted")
STALLED = ("solve", "1 + 1?", "--generator", "stalled", "--verifier", "scripted", "--set", "n=4")
posix = pytest.mark.skipif(os.name != "posix", reason="sends signals and opens terminals the POSIX way")


def start(argv: Sequence[str], **options: int) -> subprocess.Popen[str]:
    """Start the program with its output piped."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*PROGRAM, *argv], stdin=subprocess.DEVNULL, text=True, encoding="utf-8", **streams)  # type: ignore[call-overload, no-any-return]


@posix
@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["plain", "json"])
def test_interrupt_keeps_the_trace_and_tells_the_cost(tmp_path: Path, flags: tuple[str, ...]) -> None:
    trace = tmp_path / "run.jsonl"
    with start((*STALLED, "--trace", str(trace), *flags)) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "stalled\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    search = read_trace(trace)[0]
    assert process.returncode == 130
    assert out == ""
    assert err.startswith(f"tts: interrupted; spent: {search.generated():,} tokens, 4 samples") and err.count("\n") == 1
    assert str(trace) in err and "Traceback" not in err
    statuses = [event["status"] for event in search.events if event["event"] == "node"]
    assert sorted(statuses) == ["cancelled", "cancelled", "finished", "finished"]


def test_piped_output_is_plain() -> None:
    with start(SOLVE) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "answer " in out and "\x1b" not in out


def test_an_error_in_a_process() -> None:
    with start(("solve", "1?", "--strategy", "beem")) as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err == "tts: error: unknown strategy 'beem'; did you mean beam?\n"


def terminal(argv: Sequence[str]) -> str:
    """Return what a terminal on standard error is sent."""
    ours, theirs = os.openpty()
    with start(argv, stderr=theirs) as process:
        os.close(theirs)
        sent = b""
        while chunk := _read(ours):
            sent += chunk
        out, _ = process.communicate()
    os.close(ours)
    assert "answer " in out and "\x1b" not in out
    return sent.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's way to say that nobody holds the other end any more
        return b""


@posix
def test_a_terminal_gets_a_view_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    sent = terminal(SOLVE)
    assert "best_of_n" in sent
    assert sent.count("\x1b[?25l") == sent.count("\x1b[?25h") == 1


@posix
@pytest.mark.parametrize("term, flags", [("xterm", ("--quiet",)), ("dumb", ())])
def test_no_view_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch, term: str, flags: tuple[str, ...]) -> None:
    monkeypatch.setenv("TERM", term)
    assert terminal((*SOLVE, *flags)) == ""


@posix
def test_a_reader_that_leaves_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with start(("list",), stdout=write) as process:
        os.close(write)
        _, err = process.communicate()
    assert (process.returncode, err) == (1, "")


def test_module_is_the_command() -> None:
    command = [sys.executable, "-m", "tts", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout.startswith("tts ")


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys, tts.cli.main as m; m.main(['--help'])\n"
        "heavy = {'numpy', 'scipy', 'networkx', 'rich', 'onnxruntime', 'tokenizers', 'httpx', 'tts.benchmarks'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.stderr.strip() == ""
