"""`tts bench suite`: several runs as one command, checked before anything is spent, resumable, and written up."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tts.benchmarks.results import read_results
from tts.benchmarks.suite import bundled, find_suite, plan, read_suite
from tts.benchmarks.suite_report import pivot
from tts.errors import BackendError, ParameterError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.benchmarks.conftest import Bench, Tts

TWO = """
title = "Toys"
note = "Questions with numbers."
[quick]
problems = 3
[[runs]]
name = "first"
title = "The first"
task = "toy"
strategies = [
    { label = "two", strategy = "best_of_n", parameters = { n = 2 } },
    { strategy = "self_consistency", parameters = { n = 3 } },
]
budgets = ["9000tok", "9001tok"]
problems = 6
[[runs]]
name = "second"
task = "toy"
strategies = ["best_of_n", "beam"]
reference = ["best_of_n", "beam"]
budgets = ["64samples"]
problems = 4
quick = false
"""
ON = ("--generator", "scripted", "--verifier", "scripted")


@pytest.fixture
def suite(tmp_path: Path, bench: Bench) -> Path:
    path = tmp_path / "two.toml"
    path.write_text(TWO)
    return path


def test_runs_become_files_a_document_and_plots(tts: Tts, suite: Path, tmp_path: Path) -> None:
    ran = tts("bench", "suite", "two.toml", *ON, "--out", "out")
    assert ran.code == 0
    folder = tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == [
        "first.jsonl", "first.svg", "results.md", "second.jsonl", "second.svg",
    ]  # fmt: skip
    assert read_results(folder / "first.jsonl").complete and read_results(folder / "second.jsonl").complete
    lines = ran.out.splitlines()
    assert lines[0] == "first: accuracy %, 6 problems"
    assert lines[1].split("\t") == ["strategy", "9000tok", "9001tok"]
    assert [line.split("\t")[0] for line in lines[2:4]] == ["two", "self_consistency"]
    assert lines[-1] == "tables, intervals and plots: out/results.md"
    assert "first: two 9000tok (1/6): 6/6 problems" in ran.err
    assert "second: beam 64samples (6/6): 4/4 problems" in ran.err


def test_the_document_has_all_there_is_to_know(tts: Tts, suite: Path, tmp_path: Path) -> None:
    tts("bench", "suite", "two.toml", *ON, "--out", "out")
    text = (tmp_path / "out" / "results.md").read_text()
    assert text.startswith("# Toys\n\nQuestions with numbers.\n\n```\ntts bench suite two.toml --generator scripted")
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# Toys", "## The first", "### Tokens needed for the accuracy of two", "## second",
        "### Tokens needed for the accuracy of best_of_n", "### Tokens needed for the accuracy of beam",
    ]  # fmt: skip
    assert "generator scripted" in text and "![accuracy against generated tokens](first.svg)" in text
    assert "| strategy | parameters | budget |" in text


def test_bands_have_tables_and_panels(tts: Tts, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.benchmarks.conftest import Toy

    items = Toy.items
    monkeypatch.setattr(
        Toy, "items", lambda self, limit=None: [replace(item, band=f"gold {item.gold}") for item in items(self, limit)]
    )
    assert tts("bench", "suite", "two.toml", *ON, "--out", "out", "--quick").code == 0
    assert (tmp_path / "out" / "first-bands.svg").read_text().count("gold ") == 3
    assert "### By band of difficulty" in (tmp_path / "out" / "results.md").read_text()


def test_what_is_complete_is_not_run_again(tts: Tts, suite: Path, bench: Bench, tmp_path: Path) -> None:
    first = tts("bench", "suite", "two.toml", *ON, "--out", "out")
    content = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    calls: list[int] = []
    bench.more = calls.append
    again = tts("bench", "suite", "two.toml", *ON, "--out", "out")
    assert (again.code, again.out, again.err, calls) == (0, first.out, "", [])
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == content


def test_a_suite_that_was_broken_off_keeps_what_is_whole_and_goes_on(
    tts: Tts, suite: Path, tmp_path: Path, bench: Bench
) -> None:
    gone = False

    def fail(_: int) -> None:
        if gone:
            raise BackendError("no route")

    bench.more = fail
    assert tts("bench", "suite", "two.toml", *ON, "--out", "out").code == 0
    whole = (tmp_path / "out" / "first.jsonl").read_bytes()
    second = (tmp_path / "out" / "second.jsonl").read_bytes()
    (tmp_path / "out" / "second.jsonl").write_bytes(b"".join(second.splitlines(keepends=True)[:1]))
    gone = True
    ran = tts("bench", "suite", "two.toml", *ON, "--out", "out", "--quiet")
    assert (ran.code, ran.out) == (1, "")
    assert "no route" in ran.err
    gone = False
    assert tts("bench", "suite", "two.toml", *ON, "--out", "out").code == 0
    assert (tmp_path / "out" / "first.jsonl").read_bytes() == whole
    assert read_results(tmp_path / "out" / "second.jsonl").complete


def test_an_interrupted_suite_says_how_to_go_on(tts: Tts, suite: Path, tmp_path: Path, bench: Bench) -> None:
    bench.more = lambda call: signal.raise_signal(signal.SIGINT) if call == 4 else None
    ran = tts("bench", "suite", "two.toml", *ON, "--out", "out", "--quiet")
    assert (ran.code, ran.out) == (130, "")
    assert ran.err == "tts: interrupted; what was done is in out: the same command goes on from there\n"
    assert (tmp_path / "out" / "first.jsonl").exists()
    assert not (tmp_path / "out" / "results.md").exists()


def test_quick_measures_less_and_elsewhere(tts: Tts, suite: Path, tmp_path: Path) -> None:
    assert tts("bench", "suite", "two.toml", *ON, "--quick").code == 0
    folder = tmp_path / "results" / "two-quick"
    assert [path.name for path in folder.glob("*.jsonl")] == ["first.jsonl"]
    assert read_results(folder / "first.jsonl").header.problems == 3


def test_flags_go_before_the_file_and_seeds_have_files_of_their_own(tts: Tts, suite: Path, tmp_path: Path) -> None:
    ran = tts("bench", "suite", "two.toml", *ON, "--quick", "--problems", "2", "--seed", "7", "--out", "out")
    assert ran.code == 0
    header = read_results(tmp_path / "out" / "first-seed7.jsonl").header
    assert (header.problems, header.configuration.seed) == (2, 7)
    text = (tmp_path / "out" / "results.md").read_text()
    assert "## The first, seed 7" in text
    assert "--quick --problems 2 --seed 7" in text


def test_each_seed_of_a_run_is_a_part(suite: Path) -> None:
    suite.write_text(TWO.replace("problems = 6", "problems = 6\nseeds = [0, 3]"))
    parts = plan(read_suite(suite), generator="g", verifier=None)
    assert [(part.name, part.configuration.seed) for part in parts] == [("first", 0), ("first-seed3", 3), ("second", 0)]


def test_what_a_run_says_of_quick_goes_before_what_the_suite_says(suite: Path) -> None:
    suite.write_text(TWO.replace("quick = false", 'quick = { budgets = ["1tok"] }'))
    first, second = read_suite(suite).shortened().runs
    assert (first.problems, first.budgets) == (3, ("9000tok", "9001tok"))
    assert (second.problems, second.budgets) == (3, ("1tok",))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[quick]", "[quick", "not TOML"),
        ('title = "Toys"', 'titel = "Toys"', "titel: unknown key 'titel'; did you mean title"),
        ("problems = 3", "problems = 0", "quick.problems=0: "),
        ("problems = 3", "problem = 3", "quick.problem: unknown key 'problem'; did you mean problems"),
        ("problems = 6", "problems = 'x'", "run 'first': problems='x'"),
        ("problems = 4", "hardly = true", "run 'second': hardly: unknown key 'hardly'; did you mean hard"),
        ('name = "second"', "", "run 2: name is missing"),
        ('name = "second"', 'name = "a/b"', "run 'a/b': name='a/b'"),
        ('name = "second"', 'name = "first"', "two runs have the name 'first'"),
        ('"toy"\nstrategies = ["best', '"toi"\nstrategies = ["best', "run 'second': unknown task 'toi'; did you"),
        ('"beam"]\nref', '"beem"]\nref', "run 'second': unknown strategy 'beem'; did you mean beam"),
        ('"beam"]\nref', '"best_of_n"]\nref', "run 'second': strategy best_of_n is given twice"),
        ("{ n = 3 }", "{ m = 3 }", "run 'first': unknown parameter of self_consistency 'm'"),
        ("{ n = 3 }", "{ n = 0 }", "run 'first': self_consistency: n=0"),
        ('label = "two",', 'lable = "two",', "run 'first': strategies.0.lable: unknown key 'lable'; did you mean"),
        ('label = "two"', 'label = "t o"', "label 't o' of best_of_n"),
        ('["64samples"]', '["64"]', "run 'second': budget '64' has no unit"),
        ('["64samples"]', "[64]", "run 'second': budgets.0=64"),
        ('["64samples"]', "[]", "run 'second': budgets=[]"),
        ('["best_of_n", "beam"]\nbudgets', '["bon"]\nbudgets', "unknown label in reference 'bon'; did you"),
        ("quick = false", "quick = { seed = 1 }", "run 'second': quick.seed: unknown key 'seed'; did you mean seeds"),
        ("problems = 4", "problems = 41", "has 40 problems, not 41"),
    ],
)  # fmt: skip
def test_a_bad_suite_is_refused_before_anything_is_spent(
    tts: Tts, suite: Path, bench: Bench, old: str, new: str, message: str
) -> None:
    assert TWO.count(old) == 1
    suite.write_text(TWO.replace(old, new))
    calls: list[int] = []
    bench.more = calls.append
    ran = tts("bench", "suite", str(suite), *ON, "--out", "out")
    assert (ran.code, ran.out, calls) == (2, "", [])
    assert message in ran.err and ran.err.count("\n") == 1
    assert not (suite.parent / "out").exists()


def test_a_file_of_another_run_is_refused_before_any_run_is_made(tts: Tts, suite: Path, tmp_path: Path) -> None:
    tts("bench", "suite", "two.toml", *ON, "--out", "out")
    (tmp_path / "out" / "first.jsonl").unlink()
    suite.write_text(TWO.replace("problems = 4", "problems = 5"))
    ran = tts("bench", "suite", "two.toml", *ON, "--out", "out")
    assert ran.code == 2
    assert "second.jsonl holds another run" in ran.err and "problems: 4 there, 5 here" in ran.err
    assert not (tmp_path / "out" / "first.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["testbad"], "unknown suite 'testbad'; did you mean testbed"),
        (["none.toml"], "none.toml: cannot be read"),
        (["two.toml", "--problems", "0"], "--problems is 0"),
        (["full.toml", "--quick"], "full.toml: --quick leaves no run"),
    ],
)
def test_bad_use_is_one_line(tts: Tts, suite: Path, arguments: list[str], message: str) -> None:
    (suite.parent / "full.toml").write_text("[[runs]]" + TWO.split("[[runs]]")[2])
    ran = tts("bench", "suite", *arguments, *ON)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert message in ran.err


def test_failed_searches_are_told_and_searched_again_when_asked(tts: Tts, suite: Path, tmp_path: Path) -> None:
    failing = ("--generator", "failing:Question 2", "--verifier", "scripted", "--out", "out", "--quick")
    ran = tts("bench", "suite", "two.toml", *failing)
    assert ran.code == 1
    assert "tts: 4 searches failed; --retry-errors tries again" in ran.err
    assert tts("bench", "suite", "two.toml", *failing, "--retry-errors").code == 1
    assert len(read_results(tmp_path / "out" / "first.jsonl").records) == 12 + 4


def test_short_tables_leave_open_what_is_not_measured(bench: Bench) -> None:
    assert pivot([]) == (["strategy"], [])


@pytest.mark.parametrize("name", bundled())
def test_bundled_suites_can_be_planned(name: str) -> None:
    suite = read_suite(find_suite(name))
    for part in plan(suite, generator="embedded", verifier="embedded"):
        values: dict[str, Any] = part.configuration.model_dump()
        assert values["generator"] == "embedded"
    assert suite.shortened().runs


def test_the_testbed_measures_six_strategies_at_six_budgets_on_three_tasks() -> None:
    suite = read_suite(find_suite("testbed"))
    quick = suite.shortened()
    assert all(len(run.budgets) >= 6 for run in suite.runs if run.name == run.task)
    assert {run.task for run in quick.runs} == {"countdown", "countdown-hard", "arithmetic-words"}
    for run in quick.runs:
        assert {contender.strategy for contender in run.strategies} == {
            "best_of_n", "self_consistency", "beam", "a_star", "particle_filter", "first_finish",
        }  # fmt: skip
        assert len(run.budgets) >= 4 and run.pilot <= 16


def test_a_run_that_says_nothing_of_a_key_names_the_file(suite: Path) -> None:
    suite.write_text("[quick]\nproblems = 1\n")
    with pytest.raises(ParameterError, match=r"two\.toml: runs is missing"):
        read_suite(suite)
