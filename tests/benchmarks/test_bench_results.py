"""Files of results: every kind of damage is told from a write that was cut off."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import pytest

from tts.benchmarks.results import Header, Record, ResultsFile, decode, encode, read_results
from tts.errors import FileFormatError
from tts.outcome import Ended
from tts.types import Usage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.benchmarks.conftest import Bench


def record(number: int, **more: object) -> Record:
    values = {
        "problem": f"toy-{number}", "label": "best_of_n", "budget": "unlimited", "seed": 0, "session": 0, "at": 0.5,
        "answer": "1", "right": True, "covered": True, "text": "\\boxed{1} \u2028 é", "ended": Ended.DONE,
        "usage": Usage(generated=9), **more,
    }  # fmt: skip
    return Record.model_validate(values)


@pytest.fixture
def whole(bench: Bench) -> bytes:
    """Return a file with a header, a cell and three records."""
    anyio.run(bench.run, bench.configuration(problems=3))
    return bench.path.read_bytes()


def test_a_line_is_json_that_carries_its_own_sum() -> None:
    line = encode(record(1))
    assert json.loads(line)["problem"] == "toy-1"
    assert line.isascii() and line.count(b"\n") == 1
    assert decode(line.rstrip(b"\n")) == record(1)


def test_any_changed_byte_is_noticed() -> None:
    line = encode(record(1)).rstrip(b"\n")
    for place in range(len(line)):
        with pytest.raises(ValueError):
            decode(line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :])


def test_a_file_cut_off_at_any_byte_keeps_its_whole_lines(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # thousands of them would be slow
    path = tmp_path / "cut.jsonl"
    path.write_bytes(whole)
    records = read_results(path).records
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        lines = sum(end <= size for end in ends)
        file, results = ResultsFile.open(path)
        with file:
            assert path.stat().st_size == ([0, *ends][lines])
            if lines:
                assert results is not None and results.records == records[: max(0, lines - 2)]
                assert len(results.cells) == min(1, lines - 1)
            else:
                assert results is None
            if lines > 1:
                file.append(record(9))
        if lines > 1:
            assert read_results(path).records == (*records[: lines - 2], record(9))


def test_every_line_goes_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    path = tmp_path / "results.jsonl"
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(path.stat().st_size))
    file, _ = ResultsFile.open(path)
    with file:
        for number in range(3):
            file.append(record(number))
    assert synced == [len(encode(record(0))) * count for count in (1, 2, 3)]


def test_a_last_line_of_garbage_is_what_a_crash_leaves(whole: bytes, bench: Bench) -> None:
    bench.path.write_bytes(whole + b"\0\0\0\0\n")
    assert len(read_results(bench.path).records) == 3
    file, _ = ResultsFile.open(bench.path)
    with file:
        assert bench.path.read_bytes() == whole


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_damage_before_the_last_line_is_refused_by_its_number(whole: bytes, bench: Bench, number: int) -> None:
    lines = whole.split(b"\n")
    lines[number - 1] = lines[number - 1].replace(b"best", b"bess")
    damaged = b"\n".join(lines)
    bench.path.write_bytes(damaged)
    for reading in (read_results, ResultsFile.open):
        with pytest.raises(FileFormatError, match=rf"results.jsonl:{number}: .*checksum"):
            reading(bench.path)
    assert bench.path.read_bytes() == damaged


@pytest.mark.parametrize(
    "content", [b"notes of mine", b"notes\nof mine\n", b'{"event":"start"}\n', b"\xff\xfe\n\n", b"\n"]
)
def test_another_kind_of_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    for reading in (read_results, ResultsFile.open):
        with pytest.raises(FileFormatError, match=r"notes\.txt:1"):
            reading(path)
    assert path.read_bytes() == content


def test_a_file_that_is_not_there_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="cannot be read: No such file"):
        read_results(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(FileFormatError, match="is empty"):
        read_results(tmp_path / "empty.jsonl")
    with pytest.raises(FileFormatError, match="cannot be written: Is a directory"):
        ResultsFile.open(tmp_path)


def test_lines_out_of_order_are_refused(whole: bytes, bench: Bench) -> None:
    header, cell, *rest = whole.splitlines(keepends=True)
    bench.path.write_bytes(b"".join([header, *rest, cell]))
    with pytest.raises(FileFormatError, match=r"jsonl:2: .*no line before it has begun"):
        read_results(bench.path)
    for lines, number in (([header, header, cell], 2), ([cell, *rest, header], 1)):
        bench.path.write_bytes(b"".join(lines))
        with pytest.raises(FileFormatError, match=f"jsonl:{number}: .*header"):
            read_results(bench.path)


def test_another_format_and_unknown_fields_are_refused(whole: bytes, bench: Bench) -> None:
    header = read_results(bench.path).header
    bench.path.write_bytes(encode(header.model_copy(update={"format": 2})))
    with pytest.raises(FileFormatError, match="format 2; this version reads 1"):
        read_results(bench.path)
    later = record(1).model_copy(update={"problem": 7})
    with pytest.warns(UserWarning, match="serialized"):
        line = encode(later)
    bench.path.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]) + line + encode(record(2)))
    with pytest.raises(FileFormatError, match="jsonl:3: the line is no record of results"):
        read_results(bench.path)


def test_a_later_record_replaces_an_earlier_one_of_the_same_problem(whole: bytes, bench: Bench) -> None:
    again = record(2, right=False, session=4)
    bench.path.write_bytes(whole + encode(again))
    results = read_results(bench.path)
    assert len(results.records) == 4
    assert len(results.latest()) == 3
    assert results.latest()[again.key] == again
    assert results.sessions == 5


def test_the_header_says_what_was_run(whole: bytes, bench: Bench) -> None:
    header = read_results(bench.path).header
    assert isinstance(decode(whole.splitlines()[0]), Header)
    assert header.hash == header.configuration.hash() == bench.configuration(problems=3).hash()
    assert header.fingerprint["generator"]["name"] == "scripted"
    assert set(header.fingerprint) == {"tts", "task", "generator", "verifier"}
