"""Bands of difficulty: counted, remembered with each record, and reported each by itself."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from tests.benchmarks.conftest import Toy
from tts import registry
from tts.benchmarks.bands import count_bands
from tts.benchmarks.report import as_markdown, as_svg, notes, rows, rows_by_band, table
from tts.benchmarks.results import encode, read_results
from tts.benchmarks.statistics import bayes_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.conftest import Bench, Tts
    from tts.benchmarks.results import Results
    from tts.tasks import Item

RUN = ("bench", "run", "banded", "--problems", "6", "--strategies", "best_of_n,beam", "--set", "best_of_n.n=2",
       "--set", "beam.width=2", "--generator", "scripted", "--verifier", "scripted", "--quiet", "--out")  # fmt: skip


@dataclass(frozen=True)
class Banded(Toy):
    """Every third problem is easy, the others are "awkward": a name that sorts before."""

    name: str = "banded"

    def items(self, limit: int | None = None) -> Sequence[Item]:
        return [
            replace(item, band="awkward" if place % 3 else "easy", difficulty=float(place % 3))
            for place, item in enumerate(super().items(limit))
        ]


@pytest.fixture(autouse=True)
def banded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._added["task"], "banded", Banded())


@pytest.fixture
async def results(bench: Bench) -> Results:
    """Return a run of two strategies at two budgets over nine problems, one of whose searches failed."""
    contenders = [{"label": "bon", "strategy": "best_of_n"}, {"label": "beam", "strategy": "beam"}]
    configuration = bench.configuration(
        task="banded", contenders=contenders, budgets=("128tok", "512tok"), problems=9
    )  # fmt: skip
    return await bench.run(configuration, bench.generator("Question 2"))


def test_bands_are_counted_from_the_easiest_on() -> None:
    assert list(count_bands(Banded().items(10)).items()) == [("easy", 4), ("awkward", 6)]
    assert count_bands(Toy().items(5)) == {}
    unknown = [replace(item, band=band) for item, band in zip(Toy().items(3), ("b", "a", None), strict=True)]
    assert list(count_bands(unknown)) == ["a", "b"]


async def test_each_record_knows_its_band(results: Results) -> None:
    bands = {item.problem.id: item.band for item in Banded().items(9)}
    assert {record.problem: record.band for record in results.records} == bands
    assert results.header.bands == {"easy": 3, "awkward": 6}


async def test_a_band_is_summed_up_by_itself(results: Results) -> None:
    shown = rows_by_band(results)
    assert [row.band for row in shown] == ["easy"] * 4 + ["awkward"] * 4
    for row in shown:
        done = [
            one for one in results.records if (one.label, one.budget, one.band) == (row.label, row.budget, row.band)
        ]
        assert row.problems == row.asked == len(done)
        assert row.accuracy == bayes_interval(sum(record.right for record in done), len(done))
        assert row.generated is not None
        assert row.generated.estimate == pytest.approx(sum(record.usage.generated for record in done) / len(done))
        if row.label == "beam":
            assert row.paired is not None
            assert row.paired.both + row.paired.first_only + row.paired.second_only + row.paired.neither == len(done)
    assert sum(row.errors for row in shown if row.band == "awkward") == 4


async def test_the_default_report_does_not_speak_of_bands(results: Results) -> None:
    shown = rows(results)
    assert {row.band for row in shown} == {None}
    assert "band" not in table(shown)[0]
    assert "Bands" not in as_markdown(shown)


async def test_a_table_by_band_leaves_out_what_is_not_of_bands(results: Results) -> None:
    headings, lines = table(rows_by_band(results))
    assert headings[:2] == ["band", "strategy"] and lines[-1][0] == "awkward"
    assert not {"parameters", "problems/s", "s/problem", "prompt cached"} & set(headings)
    said = " ".join(notes(rows_by_band(results)))
    assert "a budget is met over all of them together" in said
    assert "off the budget" not in said


async def test_a_plot_has_a_panel_for_each_band(results: Results) -> None:
    root = ElementTree.fromstring(as_svg(rows_by_band(results)))
    name = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{name}text")]
    assert texts.count("easy") == texts.count("awkward") == texts.count("bon") == texts.count("beam") == 1
    lines = [(line.attrib["stroke"], line.attrib["points"]) for line in root.iter(f"{name}polyline")]
    assert len(lines) == 4 and len({colour for colour, _ in lines}) == 2
    left, right = ([float(point.split(",")[0]) for point in lines[place][1].split()] for place in (0, 2))
    assert max(left) <= 356 and min(right) >= 400


async def test_a_run_that_is_not_complete_says_so_by_band_too(results: Results) -> None:
    some = replace(results, records=results.records[:7])
    assert any("not complete" in note for note in notes(rows_by_band(some)))
    assert sum(row.problems for row in rows_by_band(some)) == 7


def test_files_without_bands_can_still_be_read(tts: Tts, bench: Bench) -> None:
    tts(*RUN, "r.jsonl")
    results = read_results("r.jsonl")
    header = {"kind": "header", **results.header.model_dump(mode="json", exclude={"bands"})}
    body = json.dumps(header).encode()[1:]
    records = [encode(record.model_copy(update={"band": None})) for record in results.records]
    lines = [b'{"crc32":"%08x",%b\n' % (zlib.crc32(body), body), *map(encode, results.cells), *records]
    bench.path.write_bytes(b"".join(lines))
    assert b'"band":' not in bench.path.read_bytes()
    assert len(rows(read_results(bench.path))) == 2
    ran = tts("bench", "report", str(bench.path), "--by", "band")
    assert (ran.code, ran.out) == (2, "")
    assert "its problems have no bands" in ran.err


def test_a_report_by_band_as_typed(tts: Tts) -> None:
    tts(*RUN, "r.jsonl")
    ran = tts("bench", "report", "r.jsonl", "--by", "band", "--svg", "r.svg")
    lines = [line.split("\t") for line in ran.out.splitlines()]
    assert [line[:2] for line in lines] == [
        ["band", "strategy"], ["easy", "best_of_n"], ["easy", "beam"], ["awkward", "best_of_n"], ["awkward", "beam"],
    ]  # fmt: skip
    shown = json.loads(tts("bench", "report", "r.jsonl", "--by", "band", "--json").out)["rows"]
    assert [row["band"] for row in shown] == ["easy", "easy", "awkward", "awkward"]
    assert tts("bench", "report", "r.jsonl", "--by", "bend").code == 2
