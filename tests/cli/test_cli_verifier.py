"""`tts verifier evaluate`, as typed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.test_testbed import Digits, say, value
from tts import registry
from tts.calibration import read_calibration
from tts.testing import ScriptedGenerator, ScriptedVerifier

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Tts

EVALUATE = (
    "verifier", "evaluate", "--task", "digits", "--generator", "digits", "--verifier", "digits", "--problems", "12",
)  # fmt: skip


@pytest.fixture(autouse=True)
def digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tts.benchmarks.verifier_metrics.RESAMPLES", 20)
    monkeypatch.setitem(registry._added["task"], "digits", Digits())
    monkeypatch.setitem(registry._added["generator"], "digits", lambda rest: ScriptedGenerator(say))
    monkeypatch.setitem(registry._added["verifier"], "digits", lambda rest: ScriptedVerifier(value=value))
    monkeypatch.setitem(registry._added["verifier"], "flat", lambda rest: ScriptedVerifier(value=lambda path: 0.5))


def test_tables_files_and_a_plot(tts: Tts, tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("map.json", "figures.json", "plot.svg")]
    ran = tts(*EVALUATE, "--save", files[0], "--json", files[1], "--plot", files[2])
    assert ran.code == 0
    assert "12 problems" in ran.err
    assert "not measurable with" in ran.out and "platt map (slope" in ran.out
    headings = [line for line in ran.out.splitlines() if line.startswith(("of\t", "false positives\t"))]
    assert len(headings) == 3 and "recall at 0.1 % FP" in headings[0]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["after"]["whole"]["brier"]["estimate"] < figures["before"]["whole"]["brier"]["estimate"]
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")
    assert read_calibration(files[0]).fitted_on.spec == "digits"
    again = tts(*EVALUATE, "--calibration", files[0], "--quiet")
    assert (again.code, again.err) == (0, "")
    tables, cost = ran.out.split("cost of judging")
    assert again.out.startswith(tables)
    _, paths, one = (line.split("\t") for line in cost.splitlines())
    judged = int(paths[0].split()[0])
    assert paths[1] == str(judged) == str(figures["cost"]["paths"]) and int(paths[2]) > judged
    assert (one[0], one[1], one[2]) == ("one path", "1.00", f"{int(paths[2]) / judged:.1f}")
    assert (float(paths[3]), float(one[3])) == pytest.approx(tuple(figures["cost"]["seconds"].values()), abs=0.005)


def test_a_map_keeps_its_verifiers_options_but_no_headers(
    tts: Tts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(rest: str, *, headers: object = None, engine: object = None) -> ScriptedVerifier:
        return ScriptedVerifier(value=value)

    monkeypatch.setitem(registry._added["verifier"], "digits", make)
    file, saved = tmp_path / "backends.toml", tmp_path / "map.json"
    file.write_text(
        '[verifier]\nuse = "digits"\nheaders = {secret = "x"}\nengine = {rows = 8, headers = {secret = "x"}}\n'
    )
    ran = tts(*EVALUATE[:6], "--problems", "12", "--backends", str(file), "--quiet", "--save", str(saved))
    assert ran.code == 0
    assert read_calibration(saved).fitted_on.options == {"engine": {"rows": 8}}


def test_what_cannot_be_fitted_is_measured_and_said(tts: Tts, tmp_path: Path) -> None:
    ran = tts(*EVALUATE, "--verifier", "flat", "--quiet", "--save", str(tmp_path / "map.json"))
    assert ran.code == 1
    assert "AUC" in ran.out and ran.err.startswith("tts: nothing was fitted: all ")
    assert not (tmp_path / "map.json").exists()


BAD = {
    "no verifier": (("--verifier", "none"), "give --verifier"),
    "unknown task": (("--task", "digit"), "did you mean digits"),
    "unknown map": (("--fit", "spline"), "--fit"),
    "two maps": (("--fit", "platt", "--calibration", "x.json"), "leave --fit and --save out"),
    "nothing to save": (("--fit", "none", "--save", "x.json"), "leaves nothing to --save"),
    "no such map": (("--calibration", "no/such/file"), "no/such/file: cannot be read"),
    "no folder for figures": (("--json", "no/such/x.json"), "no/such/x.json: cannot be written"),
    "no folder for a plot": (("--plot", "no/such/x.svg"), "no/such/x.svg: cannot be written"),
    "no folder for a map": (("--save", "no/such/x.json"), "no/such/x.json: cannot be written"),
    "no problems": (("--problems", "0"), "problems=0"),
    "no samples": (("--samples", "0"), "samples=0"),
}


@pytest.mark.parametrize("flags, needle", BAD.values(), ids=BAD.keys())
def test_bad_use_is_one_line_and_exit_code_2(tts: Tts, flags: tuple[str, ...], needle: str) -> None:
    ran = tts(*EVALUATE, *flags)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert needle in ran.err
