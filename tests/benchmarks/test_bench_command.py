"""`tts bench`, as typed."""

from __future__ import annotations

import io
import json
import signal
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tts.benchmarks.results import read_results
from tts.benchmarks.runner import Progress
from tts.cli.bench_progress import KEPT, Bar, Lines
from tts.cli.text import safe

if TYPE_CHECKING:
    from pathlib import Path

    from tests.benchmarks.conftest import Bench, Tts

RUN = ("bench", "run", "toy", "--problems", "6", "--generator", "scripted", "--verifier", "scripted")
PLAIN = ("--strategies", "best_of_n,self_consistency", "--set", "best_of_n.n=2", "--set", "self_consistency.n=3")


def only(folder: Path) -> Path:
    (path,) = folder.glob("results/*.jsonl")
    return path


def test_a_run_prints_a_plain_table_where_nobody_looks(tts: Tts, tmp_path: Path) -> None:
    ran = tts(*RUN, *PLAIN)
    lines = [line.split("\t") for line in ran.out.splitlines()]
    assert ran.code == 0
    assert [line[:4] for line in lines] == [
        ["strategy", "parameters", "budget", "problems"],
        ["best_of_n", "n=2", "unlimited", "6"],
        ["self_consistency", "n=3", "unlimited", "6"],
    ]
    assert "best_of_n unlimited (1/2): 6/6 problems  accuracy " in ran.err
    assert "\x1b" not in ran.out + ran.err
    assert len(read_results(only(tmp_path)).records) == 12


def test_the_same_command_goes_on_and_another_starts_anew(tts: Tts, tmp_path: Path) -> None:
    first = tts(*RUN, *PLAIN)
    content = only(tmp_path).read_bytes()
    assert tts(*RUN, *PLAIN).out == first.out
    assert only(tmp_path).read_bytes() == content
    assert tts(*RUN, *PLAIN, "--seed", "1").code == 0
    assert len(list(tmp_path.glob("results/*.jsonl"))) == 2


def test_a_file_of_another_run_is_refused(tts: Tts, tmp_path: Path) -> None:
    assert tts(*RUN, *PLAIN, "--out", "r.jsonl", "--quiet").err == ""
    ran = tts(*RUN, *PLAIN, "--out", "r.jsonl", "--temperature", "0.3")
    assert (ran.code, ran.out) == (2, "")
    assert "sampling.temperature: 0.8 there, 0.3 here" in ran.err


def test_strategies_are_sized_to_budgets(tts: Tts) -> None:
    ran = tts(*RUN, "--strategies", "best_of_n,wide=beam", "--set", "wide.expansion=8", "--size", "wide=width",
              "--budget", "64samples", "--budget", "800tok,60s", "--json")  # fmt: skip
    shown = json.loads(ran.out)["rows"]
    assert [(row["label"], row["budget"]) for row in shown] == [
        ("best_of_n", "64samples"), ("wide", "64samples"), ("best_of_n", "800tok,60s"), ("wide", "800tok,60s"),
    ]  # fmt: skip
    assert shown[0]["given"] == {"n": 64}
    assert set(shown[1]["given"]) == {"expansion", "width"}
    assert "wide 64samples (2/4), sizing: 8/8 problems" in ran.err


def test_errors_are_shown_and_can_be_tried_again(tts: Tts, bench: Bench) -> None:
    failing = [*RUN, "--strategies", "best_of_n", "--set", "best_of_n.n=2", "--out", "r.jsonl"]
    failing[failing.index("scripted")] = "failing:Question 2"
    ran = tts(*failing)
    assert ran.code == 1
    assert "1 searches failed, first: BackendError: out of order; --retry-errors tries again" in ran.err
    assert ran.out.splitlines()[0].endswith("\terrors")
    assert tts(*failing, "--quiet").code == 1
    assert tts(*failing, "--retry-errors").code == 1
    assert [record.session for record in read_results("r.jsonl").records] == [0] * 6 + [1]


def test_an_interrupted_run_keeps_what_was_done_and_says_how_to_go_on(tts: Tts, bench: Bench) -> None:
    bench.more = lambda call: signal.raise_signal(signal.SIGINT) if call == 4 else None
    command = (*RUN, *PLAIN, "--in-flight", "1", "--out", "r.jsonl")
    ran = tts(*command)
    assert (ran.code, ran.out) == (130, "")
    assert (
        ran.err.splitlines()[-1] == "tts: interrupted; what was done is in r.jsonl: the same command goes on from there"
    )
    done = read_results("r.jsonl").records
    assert 0 < len(done) < 6
    bench.more = lambda call: None
    assert tts(*command).code == 0
    assert read_results("r.jsonl").records[: len(done)] == done
    assert len(read_results("r.jsonl").records) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench"], "ACTION"),
        (["bench", "run", "countdwn", "--strategies", "beam"], "did you mean countdown"),
        ([*RUN], "--strategies"),
        ([*RUN, "--strategies", ","], "name one at least"),
        ([*RUN, "--strategies", "beem"], "did you mean beam"),
        ([*RUN, "--strategies", "beam,beam"], "beam is given twice; write LABEL=NAME"),
        ([*RUN, "--strategies", "a=beam", "--set", "beam.width=2"], "unknown label"),
        ([*RUN, "--strategies", "beam", "--set", "width=2"], "label of a strategy first, as in beam.width=4"),
        ([*RUN, "--strategies", "beam", "--set", "beam.wide=2"], "width"),
        ([*RUN, "--strategies", "beam", "--set", "beam.width=0"], "width=0"),
        ([*RUN, "--strategies", "beam", "--size", "beam"], "as in beam=width"),
        ([*RUN, "--strategies", "beam", "--budget", "512"], "has no unit"),
        ([*RUN, "--strategies", "beam", "--problems", "0"], "problems=0"),
        ([*RUN, "--strategies", "beam", "--temperature", "-1"], "temperature"),
        ([*RUN, "--strategies", "beam", "--verifier", "none"], "beam needs a verifier"),
        ([*RUN, "--strategies", "b\x1b[31m=beam"], "label 'b\\x1b[31m' of beam"),
    ],
)
def test_bad_use_is_one_line_and_spends_nothing(tts: Tts, tmp_path: Path, arguments: list[str], message: str) -> None:
    ran = tts(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err and ran.err.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_a_report_of_several_files(tts: Tts, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        tts(*RUN, *PLAIN, "--seed", seed, "--out", f"{seed}.jsonl")
    plain = tts("bench", "report", "1.jsonl", "2.jsonl")
    assert (plain.code, len(plain.out.splitlines())) == (0, 5)
    markdown = tts("bench", "report", "1.jsonl", "--markdown", "--svg", "plot.svg")
    assert markdown.out.startswith("| strategy | parameters |")
    assert (tmp_path / "plot.svg").read_text().startswith("<svg ")
    assert len(json.loads(tts("bench", "report", "1.jsonl", "2.jsonl", "--json").out)["rows"]) == 4


def test_a_report_says_which_line_is_damaged(tts: Tts, tmp_path: Path) -> None:
    tts(*RUN, *PLAIN, "--out", "r.jsonl")
    content = (tmp_path / "r.jsonl").read_bytes()
    (tmp_path / "r.jsonl").write_bytes(content.replace(b"toy-", b"tov-", 3))
    ran = tts("bench", "report", "r.jsonl")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "r.jsonl:3: the line is damaged" in ran.err
    assert tts("bench", "report", "none.jsonl").code == 2
    (tmp_path / "r.jsonl").write_bytes(content[:-5])
    assert "5 of 6" in tts("bench", "report", "r.jsonl").out
    assert tts("bench", "report", "r.jsonl", "--svg", "no/plot.svg").code == 2


def test_at_a_terminal_the_table_is_ruled_and_noted(
    tts: Tts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tts.benchmarks.report import rows
    from tts.cli.bench_table import rendered

    tts(*RUN, *PLAIN, "--out", "r.jsonl")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "250")
    text = rendered(rows(read_results("r.jsonl")))
    assert "\t" not in text
    assert "credible interval" in text and "have no room" not in text
    monkeypatch.setenv("COLUMNS", "80")
    text = rendered(rows(read_results("r.jsonl")))
    assert "columns have no room here: --markdown and --json show all." in " ".join(text.split())
    assert "…" not in text and all(len(line.rstrip()) <= 80 for line in safe(text).splitlines())


STATES = [
    Progress(part="beam 9tok", number=1, parts=2, sizing=True, done=1, problems=2),
    Progress(part="beam 9tok", number=1, parts=2, sizing=True, done=2, problems=2),
    *(
        Progress(
            part="beam 9tok",
            number=1,
            parts=2,
            done=done,
            problems=30,
            right=done // 2,
            errors=int(done > 7),
            generated=40 * done,
        )
        for done in range(31)
    ),
    Progress(part="bon 9tok", number=2, parts=2, done=0, problems=30),
]


def test_lines_come_at_the_ends_of_each_part_and_now_and_then() -> None:
    file, seconds = io.StringIO(), iter(range(1000))
    with Lines(file, now=lambda: float(next(seconds))) as show:
        for state in STATES:
            show(state)
    lines = file.getvalue().splitlines()
    assert lines[:3] == [
        "beam 9tok (1/2), sizing: 1/2 problems",
        "beam 9tok (1/2), sizing: 2/2 problems",
        "beam 9tok (1/2): 0/30 problems",
    ]
    assert lines[-2:] == [
        "beam 9tok (1/2): 30/30 problems  accuracy 0.500  40 tok/problem  1 errors", "bon 9tok (2/2): 0/30 problems",
    ]  # fmt: skip
    assert 5 < len(lines) < 12


def test_a_bar_shows_accuracy_and_tokens_so_far() -> None:
    file = io.StringIO()
    with Bar(Console(file=file, force_terminal=True, width=120, markup=False)) as show:
        for state in STATES:
            show(state)
    assert "accuracy 0.500  40 tok/problem" in file.getvalue()
    assert "30/30" in file.getvalue()


def test_bars_of_parts_long_done_make_room() -> None:
    bar = Bar(Console(file=io.StringIO(), force_terminal=True, width=120, markup=False))
    with bar as show:
        for number in range(3 * KEPT):
            show(Progress(part=f"part {number}", number=number, parts=3 * KEPT, done=1, problems=1))
        assert [task.description.split(" (")[0] for task in bar._progress.tasks] == [
            f"part {number}" for number in range(2 * KEPT, 3 * KEPT)
        ]
