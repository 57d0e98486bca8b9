"""Rows, tables, Markdown, JSON and the plot."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from tts.benchmarks.plot import Point, accuracy_svg
from tts.benchmarks.report import Row, as_json, as_markdown, as_svg, notes, rows, table
from tts.benchmarks.results import Header, Record, Results
from tts.benchmarks.sizing import Cell
from tts.benchmarks.statistics import bayes_interval
from tts.outcome import Ended
from tts.types import Usage

if TYPE_CHECKING:
    from tests.benchmarks.conftest import Bench

BUDGETS = ("128tok", "512tok")


@pytest.fixture
async def results(bench: Bench) -> Results:
    """Return a run of two strategies at two budgets, one of whose searches failed."""
    contenders = [{"label": "bon", "strategy": "best_of_n"}, {"label": "wide-beam", "strategy": "beam"}]
    configuration = bench.configuration(contenders=contenders, budgets=BUDGETS, problems=10)
    return await bench.run(configuration, bench.generator("Question 4"))


async def test_a_row_for_each_strategy_at_each_budget(results: Results) -> None:
    shown = rows(results)
    assert [(row.budget, row.label) for row in shown] == [(b, label) for b in BUDGETS for label in ("bon", "wide-beam")]
    for row in shown:
        records = [record for record in results.records if (record.label, record.budget) == (row.label, row.budget)]
        assert (row.problems, row.asked, row.errors, row.sized) == (10, 10, 1, True)
        assert row.accuracy == bayes_interval(sum(record.right for record in records), 10)
        assert row.generated is not None and row.seconds is not None
        assert row.generated.estimate == pytest.approx(sum(record.usage.generated for record in records) / 10)
        assert row.verifier_calls == pytest.approx(sum(record.usage.verifier_calls for record in records) / 10)
        assert row.seconds == pytest.approx(sum(record.usage.seconds for record in records) / 10)


async def test_strategies_are_compared_with_the_first_one_on_the_same_problems(results: Results) -> None:
    first, second = rows(results)[:2]
    assert first.paired is None and first.against is None
    assert second.against == "bon" and second.paired is not None
    paired = second.paired
    assert paired.both + paired.first_only + paired.second_only + paired.neither == 10
    assert first.accuracy is not None and second.accuracy is not None
    assert paired.difference.estimate == pytest.approx(second.accuracy.estimate - first.accuracy.estimate)


async def test_a_run_that_is_not_complete_says_so(results: Results) -> None:
    some = replace(results, records=results.records[:13])
    shown = rows(some)
    assert [row.problems for row in shown] == [10, 3, 0, 0]
    assert shown[1].paired is not None
    assert shown[2].accuracy is None and shown[2].generated is None
    assert shown[2].throughput is None and shown[3].paired is None
    assert [line[3] for line in table(shown)[1]] == ["10", "3 of 10", "0 of 10", "0 of 10"]
    assert any("not complete" in note for note in notes(shown))


async def test_throughput_sums_what_the_sessions_took(results: Results) -> None:
    moved = [
        record.model_copy(update={"session": place % 2, "at": 2.0 + place % 2})
        for place, record in enumerate(results.records[:10])
    ]
    assert rows(replace(results, records=tuple(moved)))[0].throughput == pytest.approx(10 / 5)


async def test_columns_with_nothing_to_say_are_left_out(results: Results) -> None:
    headings, lines = table(rows(results))
    assert "errors" in headings and "cut %" not in headings
    assert {len(line) for line in lines} == {len(headings)}
    cut = [record.model_copy(update={"ended": Ended.BUDGET}) for record in results.records]
    headings, lines = table(rows(replace(results, records=tuple(cut))))
    assert "errors" not in headings and "cut %" in headings
    assert lines[0][-1] == "100.0"


@pytest.mark.parametrize("width", range(60, 200, 10))
async def test_a_narrow_table_leaves_out_what_matters_least(results: Results, width: int) -> None:
    headings, lines = table(rows(results), width)
    assert {"strategy", "budget", "accuracy %", "tokens", "verifier calls", "s/problem", "errors"} <= set(headings)
    widest = [max(map(len, (*heading.split(), *column))) for heading, *column in zip(headings, *lines, strict=True)]
    assert sum(widest) + 2 * len(widest) - 2 <= max(width, 80)
    if width == 190:
        assert (headings, lines) == table(rows(results))


async def test_what_has_not_begun_has_no_row(results: Results) -> None:
    some = replace(results, cells=results.cells[:3], records=results.records[:25])
    assert len(rows(some)) == 3
    none = rows(replace(results, cells=(), records=()))
    assert none == []
    assert "polyline" not in as_svg(none)
    assert "not complete" in as_markdown(none)


async def test_rows_of_several_files_are_told_apart(results: Results) -> None:
    header = results.header
    again = header.model_copy(update={"configuration": header.configuration.model_copy(update={"seed": 5})})
    shown = [*rows(results), *rows(replace(results, header=again))]
    headings, lines = table(shown)
    assert headings[0] == "seed" and {line[0] for line in lines} == {"0", "5"}
    assert ">bon 5</text>" in as_svg(shown)


async def test_a_budget_that_was_missed_is_owned_up_to(results: Results) -> None:
    cheap = [record.model_copy(update={"usage": Usage(generated=90)}) for record in results.records]
    exact = [record.model_copy(update={"usage": Usage(generated=128)}) for record in results.records]
    missed = " ".join(notes(rows(replace(results, records=tuple(cheap)))))
    assert "off the budget: bon 128tok, wide-beam 128tok, bon 512tok, wide-beam 512tok." in missed
    met = " ".join(notes(rows(replace(results, records=tuple(exact)))[:2]))
    assert "off the budget" not in met


async def test_markdown_is_a_table(results: Results) -> None:
    lines = as_markdown(rows(results)).splitlines()
    assert len({line.count("|") for line in lines[:6]}) == 1
    assert lines[1].startswith("| --- |")
    assert lines[6] == ""
    assert any("on average" in line for line in lines[7:])


async def test_what_parameters_say_cannot_break_a_markdown_table(results: Results) -> None:
    row = rows(results)[0].model_copy(update={"given": {"text": "a|b\nc"}})
    assert "| text=a\\|b c |" in as_markdown([row])


async def test_json_holds_the_rows(results: Results) -> None:
    shown = rows(results)
    text = as_json(shown)
    assert text.isascii() and "\n" not in text
    assert [Row.model_validate(row) for row in json.loads(text)["rows"]] == shown


async def test_a_hard_run_does_not_claim_averages(bench: Bench) -> None:
    hard = await bench.run(bench.configuration(budgets=["20000tok"], hard=True))
    shown = rows(hard)
    assert not shown[0].sized
    assert not any("average" in note for note in notes(shown))


def test_golden_table(bench: Bench) -> None:
    shown = rows(_made(bench))
    headings, lines = table(shown)
    assert headings == [
        "strategy", "parameters", "budget", "problems", "accuracy %", "difference %", "covered %",
        "tokens", "prompt computed", "prompt cached", "verifier calls", "s/problem", "problems/s",
    ]  # fmt: skip
    assert lines[1][5].startswith("-50.0 [-66.")
    lines[1][5] = ""
    assert lines == [
        ["best_of_n", "n=2", "unlimited", "4", "75.0 [28.4, 94.7]", "", "75.0", "1,000", "12", "3", "2", "0.5", "2"],
        ["self_consistency", "n=2", "unlimited", "4", "25.0 [5.3, 71.6]", "", *lines[0][6:]],
    ]  # fmt: skip


def _made(bench: Bench) -> Results:
    configuration = bench.configuration("best_of_n", "self_consistency", problems=4)
    usage = Usage(generated=1000, prompt_computed=12, prompt_cached=3, verifier_calls=2, seconds=0.5)
    cells = [
        {
            "label": name,
            "strategy": name,
            "parameters": {"n": 2},
            "given": {"n": 2},
            "budget": "unlimited",
            "limits": {},
        }
        for name in ("best_of_n", "self_consistency")
    ]
    header = {"configuration": configuration, "hash": "", "fingerprint": {}, "problems": 4}
    right = {"best_of_n": (1, 2, 3), "self_consistency": (3,)}
    records = tuple(
        Record(
            problem=f"toy-{number}", label=label, budget="unlimited", seed=0, answer="1", right=number in numbers,
            covered=number < 4, ended=Ended.DONE, usage=usage, session=0, at=number / 2,
        )
        for label, numbers in right.items()
        for number in range(1, 5)
    )  # fmt: skip
    return Results(Header.model_validate(header), tuple(map(Cell.model_validate, cells)), records, 0)


def test_the_plot_is_xml_and_escapes_labels() -> None:
    svg = accuracy_svg(
        {"<b> & co": [Point(512, 0.6, 0.5, 0.7), Point(128, 0.4, 0.3, 0.5)], "b": [Point(700, 1, 0.9, 1)]}
    )
    root = ElementTree.fromstring(svg)
    assert root.attrib["viewBox"] == "0 0 640 400"
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<b> & co" in texts and {"128", "256", "512", "1,024"} <= set(texts)
    points = [line.attrib["points"] for line in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert points[0].startswith("56.0,") and points[0].count(" ") == 1
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 3


def test_a_plot_of_nothing_has_no_lines_and_of_few_tokens_no_round_labels() -> None:
    assert "polyline" not in accuracy_svg({})
    assert ">0.5</text>" in accuracy_svg({"a": [Point(0.7, 0.5, 0.4, 0.6)]})
