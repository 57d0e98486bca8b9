"""`tts bench` where its words are the command line's own: exit codes, names of flags, notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tts.benchmarks.report import rows
from tts.benchmarks.results import read_results
from tts.cli.bench_table import rendered

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Tts

RUN = (
    "bench", "run", "countdown", "--problems", "2", "--strategies", "best_of_n", "--set", "best_of_n.n=1", "--verifier",
    "scripted", "--quiet",
)  # fmt: skip
SILENT = (*RUN, "--generator", "silent")
NOTE = "the estimate lies outside its interval"


@pytest.fixture
def out(tmp_path: Path) -> str:
    """Return where the results go."""
    return str(tmp_path / "r.jsonl")


def test_files_that_cannot_be_read_are_bad_use(tts: Tts, tmp_path: Path, out: str) -> None:
    garbage = tmp_path / "r.jsonl"
    garbage.write_text("garbage\nmore\n")
    for command in (("bench", "report", out), (*SILENT, "--out", out), ("bench", "report", str(tmp_path / "none"))):
        ran = tts(*command)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert garbage.read_text() == "garbage\nmore\n"


def test_another_budget_is_named_as_a_budget(tts: Tts, out: str) -> None:
    assert tts(*SILENT, "--budget", "512tok", "--out", out).code == 0
    ran = tts(*SILENT, "--budget", "1024tok", "--out", out)
    assert ran.code == 2
    assert "budget tokens: 512 there, 1024 here" in ran.err and "budgets." not in ran.err


def test_an_estimate_outside_its_interval_is_explained(tts: Tts, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tts(*SILENT, "--out", out)
    assert NOTE in tts("bench", "report", out, "--markdown").out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = rows(read_results(out))
    assert NOTE in " ".join(rendered(shown).split())
    assert shown[0].accuracy is not None
    within = shown[0].accuracy.model_copy(update={"low": 0.0})
    assert NOTE not in " ".join(rendered([shown[0].model_copy(update={"accuracy": within})]).split())
