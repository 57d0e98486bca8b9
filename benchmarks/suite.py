"""Several runs as one: a TOML file lists them, and each is a file of results in one folder, all on the same engines.

    title = "What each strategy buys"

    [quick]                       # what --quick changes; each key may be left out
    problems = 100
    seeds = [0]

    [[runs]]
    name = "countdown"            # its files are FOLDER/countdown.jsonl and so on
    task = "countdown"
    strategies = ["best_of_n", { label = "wide", strategy = "beam", parameters = { expansion = 8 } }]
    budgets = ["96tok", "192tok"]
    problems = 300

A complete run is not run again, and one that was broken off goes on where it stopped.
"""

from __future__ import annotations

import reprlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, field_validator

from tts import registry
from tts.benchmarks.configuration import Configuration, Contender, configure
from tts.benchmarks.results import Results
from tts.benchmarks.runner import Backends, Progress, Watch, check_benchmark, run_benchmark
from tts.benchmarks.sizing import size_parameter
from tts.budget import Budget
from tts.errors import ParameterError, UnknownNameError, UsageError
from tts.types import Frozen, Sampling

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BUNDLED = Path(__file__).parent / "suites"
"""Where the suites are that have a name."""
_NAME = r"^\w[\w-]*$"


class Overrides(Frozen):
    """What a shorter suite changes; None changes nothing."""

    problems: int | None = Field(default=None, gt=0)
    seeds: tuple[int, ...] | None = Field(default=None, min_length=1)
    budgets: tuple[str, ...] | None = Field(default=None, min_length=1)
    pilot: int | None = Field(default=None, gt=0)

    def given(self) -> dict[str, Any]:
        """Return what is set."""
        return {name: value for name, value in self if value is not None}


class Run(Frozen):
    """One run of a suite, as its file lists it."""

    name: str = Field(pattern=_NAME, description="of its files")
    title: str = Field(default="", description="its heading; the name where there is none")
    note: str = Field(default="", description="Markdown under the heading")
    task: str
    strategies: tuple[Contender, ...] = Field(min_length=1, description="all are compared with the first")
    reference: tuple[str, ...] = Field(default=(), description="labels whose accuracy others are to reach; the first")
    budgets: tuple[str, ...] = Field(min_length=1)
    hard: bool = False
    problems: int | None = Field(default=None, gt=0)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1, description="a file of results for each")
    pilot: int = Field(default=64, gt=0)
    system: str | None = None
    sampling: Sampling = Sampling()
    in_flight: int = Field(default=16, gt=0)
    concurrency: int = Field(default=64, gt=0)
    quick: Overrides | None = Field(default=Overrides(), description="false leaves the run out of --quick")

    @field_validator("strategies", mode="before")
    @classmethod
    def _name_alone_will_do(cls, given: object) -> object:
        return [_contender(entry) for entry in given] if isinstance(given, list) else given

    @field_validator("quick", mode="before")
    @classmethod
    def _true_and_false_will_do(cls, given: object) -> object:
        return (Overrides() if given else None) if isinstance(given, bool) else given

    @property
    def references(self) -> tuple[str, ...]:
        """Labels whose accuracy the others are to reach."""
        return self.reference or (self.strategies[0].label,)


def _contender(entry: object) -> object:
    if isinstance(entry, str):
        return {"label": entry, "strategy": entry}
    return {"label": entry.get("strategy"), **entry} if isinstance(entry, Mapping) else entry


class Suite(Frozen):
    """What a suite's file says."""

    title: str = "Results"
    note: str = Field(default="", description="Markdown under the title")
    quick: Overrides = Overrides()
    runs: tuple[Run, ...] = Field(min_length=1)

    def shortened(self) -> Suite:
        """Return what --quick measures; what a run says of itself goes before what is said of all."""
        kept = [
            run.model_copy(update={**self.quick.given(), **run.quick.given()})
            for run in self.runs
            if run.quick is not None
        ]
        return self.model_copy(update={"runs": tuple(kept)})


@dataclass(frozen=True, slots=True)
class Part:
    """A run with one of its seeds: what is measured into one file.

    Attributes:
        run: As the suite lists it.
        name: Of its files.
        configuration: What is measured.
    """

    run: Run
    name: str
    configuration: Configuration

    @property
    def cells(self) -> int:
        """How many strategies at how many budgets."""
        return len(self.configuration.contenders) * len(self.configuration.budgets)


def bundled() -> list[str]:
    """Return the names of the suites that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.toml"))


def find_suite(given: str) -> Path:
    """Return the file of a suite: a name of those that come with the package, or a path that ends in .toml.

    Raises:
        UnknownNameError: No suite has this name.
    """
    if given.endswith(".toml"):
        return Path(given)
    if given not in bundled():
        raise UnknownNameError("suite", given, bundled())
    return BUNDLED / f"{given}.toml"


def read_suite(path: Path) -> Suite:
    """Read a suite and check it as far as can be done without engines.

    Raises:
        ParameterError: Names the file, the key and the value that is wrong.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ParameterError(f"{path}: not TOML: {error}") from None
    try:
        suite = Suite.model_validate(content)
        for shorter in (suite, suite.shortened()):
            _check(shorter)
    except ValidationError as error:
        raise ParameterError(f"{path}: {'; '.join(_explained(error, content))}") from None
    except UsageError as error:
        raise ParameterError(f"{path}: {error}") from None
    return suite


_TABLES: Mapping[str, type[Frozen]] = {"quick": Overrides, "runs": Run, "strategies": Contender, "sampling": Sampling}


def _explained(error: ValidationError, content: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong with each key, runs by their names."""
    for item in error.errors():
        place = item["loc"]
        key = _place(place, content)
        if item["type"] == "extra_forbidden":
            tables = [_TABLES[name] for name in place[:-1] if isinstance(name, str) and name in _TABLES]
            yield f"{key}: {UnknownNameError('key', str(place[-1]), (tables or [Suite])[-1].model_fields)}"
        elif item["type"] == "missing":
            yield f"{key} is missing"
        else:
            yield f"{key}={reprlib.repr(item['input'])}: {item['msg'].lower()}"


def _place(place: Sequence[int | str], content: Mapping[str, Any]) -> str:
    """Return "quick.problems", or "run 'countdown': problems"; a run without a name has a number, from 1."""
    if place[0] != "runs" or len(place) < 2 or not isinstance(place[1], int):
        return ".".join(map(str, place))
    run = content["runs"][place[1]]
    name = repr(run["name"]) if isinstance(run, dict) and isinstance(run.get("name"), str) else str(place[1] + 1)
    rest = ".".join(map(str, place[2:]))
    return f"run {name}: {rest}" if rest else f"run {name}"


def _check(suite: Suite) -> None:
    names = [part.name for part in plan(suite, generator="none", verifier=None)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ParameterError(f"two runs have the name {twice[0]!r}")


def plan(
    suite: Suite,
    *,
    generator: str,
    verifier: str | None,
    seeds: Sequence[int] | None = None,
    problems: int | None = None,
) -> list[Part]:
    """Turn a suite into what is measured, a part for each run and seed, in the order of the file.

    Args:
        suite: What to measure.
        generator: As results are to name it.
        verifier: Likewise.
        seeds: Instead of those of every run.
        problems: Instead of those of every run.

    Raises:
        ParameterError: A value is wrong; names the run, the key and the value.
    """
    parts: list[Part] = []
    for run in suite.runs:
        try:
            made = _configured(run, generator, verifier, problems or run.problems)
        except UsageError as error:
            raise ParameterError(f"run {run.name!r}: {error}") from None
        # Seed 0 has the plain name, so that a seed added later leaves what there is in its place.
        parts += [
            Part(run, f"{run.name}-seed{seed}" if seed else run.name, made.model_copy(update={"seed": seed}))
            for seed in seeds or run.seeds
        ]
    return parts


def _configured(run: Run, generator: str, verifier: str | None, problems: int | None) -> Configuration:
    registry.task(run.task)
    budgets = tuple(map(Budget.parse, run.budgets))
    for contender in run.strategies:
        registry.strategy(contender.strategy, **contender.parameters)
        for budget in budgets:
            size_parameter(contender, budget)
    made = configure(
        task=run.task, problems=problems, contenders=run.strategies, budgets=budgets, hard=run.hard,
        generator=generator, verifier=verifier, system=run.system, sampling=run.sampling,
        in_flight=run.in_flight, concurrency=run.concurrency, pilot=run.pilot,
    )  # fmt: skip
    labels = [contender.label for contender in run.strategies]
    for reference in run.reference:
        if reference not in labels:
            raise UnknownNameError("label in reference", reference, labels)
    return made


async def run_suite(
    parts: Sequence[Part],
    backends: Backends,
    folder: Path,
    *,
    retry_errors: bool = False,
    watch: Watch = lambda _: None,
) -> list[Results]:
    """Measure all parts, or go on measuring, and return what their files hold, in order.

    Args:
        parts: See `plan`.
        backends: With what; the same for all.
        folder: Where the files of results are; made if it is not there.
        retry_errors: Search again the problems that failed.
        watch: Told how far the parts have come, numbered through all of them.

    Raises:
        UsageError: Something cannot be done; nothing was spent on any part.
        FileFormatError: A file is damaged, or cannot be written.
        BackendError: A part was broken off; what was done is kept, and the same call goes on from there.
    """
    found = [check_benchmark(part.configuration, backends, folder / f"{part.name}.jsonl") for part in parts]
    total, before, measured = sum(part.cells for part in parts), 0, list[Results]()
    for part, results in zip(parts, found, strict=True):
        if results is None or not results.complete or retry_errors:
            results = await run_benchmark(
                part.configuration, backends, folder / f"{part.name}.jsonl", retry_errors=retry_errors,
                watch=_numbered(watch, part.name, before, total),
            )  # fmt: skip
        measured.append(results)
        before += part.cells
    return measured


def _numbered(watch: Watch, name: str, before: int, total: int) -> Watch:
    """Return a watch that tells the parts of one run as parts of the suite."""

    def tell(state: Progress) -> None:
        watch(replace(state, part=f"{name}: {state.part}", number=before + state.number, parts=total))

    return tell
