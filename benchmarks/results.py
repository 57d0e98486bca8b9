"""Files of results: a header, then a line for each cell begun and each problem finished, safe against being cut off.

Every line is JSON whose first field is the CRC-32 of the rest. A last line that is torn or fails its sum is what a kill
in the middle of a write leaves: readers pass over it, and appending goes on in its place. Any other line that fails
is damage, and refused by its number.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ValidationError

from tts.benchmarks.configuration import Configuration
from tts.benchmarks.sizing import Cell
from tts.errors import FileFormatError
from tts.outcome import Ended
from tts.types import Frozen, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

FORMAT = 1
_MARK = b'{"crc32":"'
_SUM_END = len(_MARK) + len('00000000",')


class Header(Frozen):
    """The first line: what was asked, and under which facts."""

    kind: Literal["header"] = "header"
    format: int = FORMAT
    configuration: Configuration
    hash: str = Field(description="of the configuration")
    fingerprint: dict[str, Any] = Field(description="library, backends, task and its data")
    problems: int = Field(description="how many each cell is to have")
    bands: dict[str, int] = Field(default_factory=dict, description="problems by band of difficulty, easiest first")


class Tried(Frozen):
    """An answer among a search's candidates."""

    answer: str
    count: int
    score: float | None = Field(default=None, description="the best that the verifier gave it")


class Record(Frozen):
    """One problem searched by one cell."""

    kind: Literal["record"] = "record"
    problem: str
    band: str | None = Field(default=None, description="class of difficulty, where the task has any")
    label: str
    budget: str
    seed: int
    answer: str | None
    right: bool
    covered: bool = Field(description="whether any candidate was right")
    ended: Ended
    limit: str | None = None
    error: str | None = None
    text: str = Field(default="", description="what the chosen path says, so that it can be graded again")
    tried: tuple[Tried, ...] = Field(default=(), description="answers of candidates, best first; the first few")
    usage: Usage
    session: int = Field(description="how often the run had been started")
    at: float = Field(description="seconds from the start of the cell in that session")

    @property
    def key(self) -> tuple[str, str, str]:
        """Cell and problem; a later record of the same key replaces the earlier."""
        return self.label, self.budget, self.problem


@dataclass(frozen=True, slots=True)
class Results:
    """What a file holds; `size` is how many of its bytes are good."""

    header: Header
    cells: tuple[Cell, ...]
    records: tuple[Record, ...]
    size: int

    def latest(self) -> dict[tuple[str, str, str], Record]:
        """Return the last record of each key."""
        return {record.key: record for record in self.records}

    @property
    def complete(self) -> bool:
        """Whether every strategy has searched every problem at every budget."""
        asked = self.header.configuration
        return len(self.latest()) == len(asked.contenders) * len(asked.budgets) * self.header.problems

    @property
    def sessions(self) -> int:
        """How often the run has been started."""
        return max((record.session for record in self.records), default=-1) + 1


Line = Header | Cell | Record
_KINDS: dict[str, type[Line]] = {"header": Header, "cell": Cell, "record": Record}


def encode(line: Line) -> bytes:
    """Return a line with its sum; defaults of a record are left out."""
    value = line.model_dump(mode="json", exclude_defaults=isinstance(line, Record))
    body = json.dumps({"kind": line.kind, **value}, ensure_ascii=True, separators=(",", ":")).encode()[1:]
    return b'%b%08x",%b\n' % (_MARK, zlib.crc32(body), body)


def decode(line: bytes) -> Line:
    """Read a line, without its line end.

    Raises:
        ValueError: It is damaged, or no line of results.
    """
    head, body = line[:_SUM_END], line[_SUM_END:]
    if head != b'%b%08x",' % (_MARK, zlib.crc32(body)):
        raise ValueError("its checksum does not match" if line.startswith(_MARK) else "it is no line of results")
    value = json.loads(b"{" + body)
    if value.get("format", FORMAT) != FORMAT:
        raise ValueError(f"it is of format {value['format']!r}; this version reads {FORMAT}")
    return _KINDS[value["kind"]].model_validate(value)


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read a file of results; a torn last line is passed over.

    Raises:
        FileFormatError: The file cannot be read, holds nothing yet, or has a damaged line; names the line.
    """
    results = peek_results(Path(path))
    if results is None:
        raise FileFormatError(f"{path}: no results: the file was cut off in its first line, or is empty")
    return results


def peek_results(path: Path) -> Results | None:
    """Read a file as `read_results` does; None where it holds no whole line yet.

    Raises:
        FileFormatError: The file cannot be read, or has a damaged line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror}") from None
    *whole, rest = content.split(b"\n")
    if not whole and (_MARK.startswith(rest) or rest.startswith(_MARK)):
        return None
    header, *lines = _parse(path, whole or [rest], torn=bool(rest))
    assert isinstance(header, Header)
    cells = tuple(line for line in lines if isinstance(line, Cell))
    records = tuple(line for line in lines if isinstance(line, Record))
    return Results(header, cells, records, sum(len(line) + 1 for line in whole[: 1 + len(lines)]))


def _parse(path: Path, lines: list[bytes], *, torn: bool) -> Iterator[Line]:
    """Yield what the lines hold; the last one may be damaged where none is torn off after it."""
    cells: set[tuple[str, str]] = set()
    for number, line in enumerate(lines, 1):
        try:
            parsed = decode(line)
            if isinstance(parsed, Header) != (number == 1):
                raise ValueError("it should hold the header" if number == 1 else "it is a second header")
            if isinstance(parsed, Cell):
                cells.add(parsed.key)
            elif isinstance(parsed, Record) and parsed.key[:2] not in cells:
                raise ValueError("it belongs to a strategy and budget that no line before it has begun")
        except (ValueError, KeyError, AttributeError) as error:
            if number == len(lines) > 1 and not torn:
                return
            raise FileFormatError(f"{path}:{number}: {_reason(error)}") from None
        yield parsed


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return f"the line is no {error.title.lower()} of results that this version reads"
    return f"the line is damaged: {error}"


class ResultsFile:
    """Results under way: each line is on the disk before the next problem is counted."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    @classmethod
    def open(cls, path: Path) -> tuple[Self, Results | None]:
        """Open a file for appending, with what it holds; a torn last line is cut off.

        Raises:
            FileFormatError: It cannot be written, or is damaged, or is another kind of file.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            raise FileFormatError(f"{path}: cannot be written: {error.strerror}") from None
        try:
            results = peek_results(path)
            file.truncate(0 if results is None else results.size)
        except BaseException:
            file.close()
            raise
        return cls(file), results

    def append(self, line: Line) -> None:
        """Write a line through to the disk."""
        self._file.write(encode(line))
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
