from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Backends, Tts

SOLVE = ("solve", "1 + 1?", "--generator", "scripted", "--verifier", "scripted")

BAD = {
    "no command": ((), "no command"),
    "unknown command": (("slove", "x"), "did you mean solve"),
    "option alone": (("--nope",), "unrecognized"),
    "no problem": (("solve",), "PROBLEM"),
    "empty problem": (("solve", ""), "empty"),
    "blank problem": (("solve", " \n"), "empty"),
    "problem of no encoding": (("solve", "\udcff"), "UTF-8"),
    "unknown strategy": ((*SOLVE, "--strategy", "beem"), "did you mean beam"),
    "unknown generator": (("solve", "1 + 1?", "--generator", "embeded"), "did you mean embedded"),
    "unknown verifier": ((*SOLVE, "--verifier", "embeded"), "did you mean embedded"),
    "unknown parameter": ((*SOLVE, "--strategy", "beam", "--set", "widht=4"), "did you mean width"),
    "unknown task": ((*SOLVE, "--task", "coutdown"), "did you mean countdown"),
    "unknown flag": ((*SOLVE, "--budgets", "4tok"), "--budgets"),
    "abbreviated flag": ((*SOLVE, "--bud", "4tok"), "--bud"),
    "N zero": ((*SOLVE, "--set", "n=0"), "n=0"),
    "N negative": ((*SOLVE, "--set", "n=-3"), "n=-3"),
    "N huge": ((*SOLVE, "--set", "n=1000000000000"), "65536"),
    "N no number": ((*SOLVE, "--set", "n=many"), "n='many'"),
    "N infinite": ((*SOLVE, "--set", "n=1e999"), "n=inf"),
    "setting without value": ((*SOLVE, "--set", "n"), "NAME=VALUE"),
    "setting twice": ((*SOLVE, "--set", "n=1", "--set", "n=2"), "twice"),
    "budget zero": ((*SOLVE, "--budget", "0tok"), "positive"),
    "budget negative": ((*SOLVE, "--budget=-5tok"), "tokens is -5; a limit is positive"),
    "seconds negative": ((*SOLVE, "--budget=-1s"), "seconds is -1.0; a limit is positive"),
    "dollars negative": ((*SOLVE, "--budget=$-1"), "dollars is -1.0; a limit is positive"),
    "budget negative beyond measure": ((*SOLVE, "--budget=-1e999s"), "seconds is -inf; a limit is positive"),
    "value with a dash": ((*SOLVE, "--budget", "-1s"), "write --budget=VALUE where the value begins with -"),
    "budget without unit": ((*SOLVE, "--budget", "4096"), "no unit"),
    "budget empty": ((*SOLVE, "--budget", ""), "empty"),
    "budget unknown unit": ((*SOLVE, "--budget", "4 parsecs"), "parsecs"),
    "seed": ((*SOLVE, "--seed", "x"), "--seed"),
    "concurrency": ((*SOLVE, "--concurrency", "0"), "concurrency"),
    "temperature": ((*SOLVE, "--temperature", "-1"), "temperature"),
    "empty delimiter": ((*SOLVE, "--delimiter", ""), "delimiter"),
    "max tokens": ((*SOLVE, "--max-tokens", "1000000"), "does not fit"),
    "no verifier": (("solve", "1?", "--generator", "scripted", "--strategy", "beam"), "needs a verifier"),
    "verifier none": ((*SOLVE, "--strategy", "beam", "--verifier", "none"), "needs a verifier"),
    "trace": ((*SOLVE, "--trace", "no/such/folder/x"), "no/such/folder/x"),
    "backends file": ((*SOLVE, "--backends", "no/such/file"), "no/such/file"),
    "template file": ((*SOLVE, "--template", "no/such/file"), "no/such/file"),
    "list what": (("list", "models"), "models"),
    "show without name": (("strategy", "show"), "NAME"),
    "show unknown": (("strategy", "show", "best_of_m"), "did you mean best_of_n"),
    "show unknown parameter": (("strategy", "show", "best_of_n", "--set", "m=1"), "parameter of best_of_n"),
}


@pytest.mark.parametrize("argv, needle", BAD.values(), ids=BAD.keys())
def test_bad_use_is_one_line_and_exit_code_2(tts: Tts, argv: tuple[str, ...], needle: str) -> None:
    ran = tts(*argv)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("tts: error: ") and ran.err.count("\n") == 1 and ran.err.endswith("\n")
    assert needle in ran.err
    assert "Traceback" not in ran.err


def test_empty_standard_input(tts: Tts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    ran = tts("solve", "-")
    assert (ran.code, ran.err) == (2, "tts: error: the problem is empty\n")


def test_standard_input_that_is_no_text(tts: Tts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))
    assert tts("solve", "-").err == "tts: error: the problem is not valid UTF-8\n"


FILES = {
    "not TOML": ("use =", "not TOML"),
    "unknown table": ("[verifer]\nuse = 'scripted'", "did you mean verifier"),
    "no use": ("[generator]\nmodel = 'x'", "needs use"),
    "no table": ("generator = 'scripted'", "needs use"),
    "unknown option": ("[generator]\nuse = 'scripted'\ntemplat = 'x'", "did you mean template"),
}


@pytest.mark.parametrize("text, needle", FILES.values(), ids=FILES.keys())
def test_bad_backends_file(tts: Tts, tmp_path: Path, text: str, needle: str) -> None:
    file = tmp_path / "backends.toml"
    file.write_text(text)
    ran = tts("solve", "1 + 1?", "--backends", str(file))
    assert ran.code == 2
    assert needle in ran.err and ran.err.count("\n") == 1


def test_an_existing_trace_survives_bad_use(tts: Tts, tmp_path: Path) -> None:
    trace = tmp_path / "run.jsonl"
    trace.write_text("kept")
    assert tts(*SOLVE[:-2], "--strategy", "beam", "--trace", str(trace)).code == 2
    assert trace.read_text() == "kept"


def test_backends_are_closed_after_bad_use(tts: Tts, scripted: Backends) -> None:
    tts(*SOLVE, "--max-tokens", "1000000")
    assert [generator.closed for generator in scripted.made] == [True]


def test_an_error_of_an_engine_tells_what_was_spent(tts: Tts) -> None:
    ran = tts("solve", "1 + 1?", "--generator", "failing", "--verifier", "scripted", "--strategy", "beam")
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith("tts: error: the engine is gone for good (spent until then: ")
    assert ran.err.count("\n") == 1
