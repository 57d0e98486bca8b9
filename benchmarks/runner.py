"""Running a benchmark: every strategy at every budget over the same problems, each result on the disk as it comes.

What is timed. `Usage.seconds` of a problem is its wall-clock from first request to answer while others run beside it,
as a user of a loaded service sees it. Throughput is problems over the seconds that their cell took, summed over
sessions where a run was broken off and taken up again. Both hang on `in_flight`, which is part of the configuration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from tts import registry
from tts.__about__ import __version__
from tts.benchmarks.bands import count_bands
from tts.benchmarks.configuration import Configuration, describe, differences, digest
from tts.benchmarks.failures import Failures
from tts.benchmarks.pilot import FIRST, measure_spending
from tts.benchmarks.results import Header, Record, Results, ResultsFile, Tried, peek_results, read_results
from tts.benchmarks.sizing import Cell, Spending, known_spending, make_cell, size_parameter
from tts.budget import Budget
from tts.errors import ParameterError
from tts.many import solve_many
from tts.needs import check_needs
from tts.outcome import Ended
from tts.setup import check_meters

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from tts.benchmarks.configuration import Contender
    from tts.outcome import Outcome
    from tts.protocols import Generator, Strategy, Verifier
    from tts.setup import SolveOptions
    from tts.tasks import Item, Task
    from tts.types import Problem, Usage

ANSWERS_KEPT = 32
"""Distinct answers of candidates that a record holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run has come; sent at the start of each part and after each problem.

    Attributes:
        part: What is under way: a strategy at a budget.
        number: Which part it is, from 1.
        parts: How many there are.
        sizing: Whether it is being sized on pilot problems; the counts are then of these.
        done: Problems finished in this part.
        problems: Problems of this part.
        right: Right answers among those done.
        errors: Problems that failed, which count as wrong.
        generated: Tokens sampled for those done.
    """

    part: str
    number: int
    parts: int
    sizing: bool = False
    done: int
    problems: int
    right: int = 0
    errors: int = 0
    generated: int = 0


Watch = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Backends:
    """The engines of a run, made and closed by the caller."""

    generator: Generator
    verifier: Verifier | None = None


async def run_benchmark(
    configuration: Configuration,
    backends: Backends,
    path: str | os.PathLike[str],
    *,
    retry_errors: bool = False,
    watch: Watch = lambda _: None,
) -> Results:
    """Measure, or go on measuring, and return all results of the file.

    Leaving early, by cancellation or by an exception, keeps what was done; the same call takes it up again.

    Args:
        configuration: What to measure.
        backends: With what.
        path: The file of results; made, with its folders, if it is not there.
        retry_errors: Search again the problems that failed; their new results replace the old.
        watch: Told how far the run has come.

    Raises:
        UsageError: What was asked for cannot be done, or the file belongs to another run; nothing was spent.
        FileFormatError: The file is damaged, or cannot be written.
        BackendError: All pilot searches of a strategy failed, the engine died, or many problems in a row failed.
    """
    run = _Run(configuration, backends, watch)
    run.check()
    file, results = ResultsFile.open(Path(path))
    with file:
        if results is None:
            results = Results(run.header(), (), (), 0)
            file.append(results.header)
        _check_same(Path(path), results.header, configuration, run.fingerprint)
        await run.measure(file, results, retry_errors=retry_errors)
    return read_results(path)


def check_benchmark(configuration: Configuration, backends: Backends, path: str | os.PathLike[str]) -> Results | None:
    """Refuse what `run_benchmark` would refuse before it spends anything; return what the file holds already.

    Raises:
        UsageError: What was asked for cannot be done, or the file belongs to another run.
        FileFormatError: The file is damaged.
    """
    run, file = _Run(configuration, backends, lambda _: None), Path(path)
    run.check()
    results = peek_results(file) if file.exists() else None
    if results is not None:
        _check_same(file, results.header, configuration, run.fingerprint)
    return results


def _check_same(path: Path, header: Header, configuration: Configuration, fingerprint: dict[str, object]) -> None:
    asked = differences(header.configuration.model_dump(mode="json"), configuration.model_dump(mode="json"))
    facts = differences(header.fingerprint, fingerprint)
    if asked or facts:
        differ = "; ".join(asked + facts)
        raise ParameterError(f"{path} holds another run; ask for the same, or write elsewhere (--out): {differ}")


def data_hash(items: Sequence[Item]) -> str:
    """Return the SHA-256 of problems and gold answers."""
    return digest([[item.problem.model_dump(mode="json"), item.gold] for item in items])


class _Run:
    """One call of `run_benchmark`: the task's problems and what is needed to search them."""

    def __init__(self, configuration: Configuration, backends: Backends, watch: Watch) -> None:
        self.configuration = configuration
        self._backends = backends
        self._watch = watch
        self._failures = Failures()
        self._task: Task = registry.task(configuration.task)
        self._items = list(self._task.items(configuration.problems))
        self._by_id = {item.problem.id: item for item in self._items}

    @property
    def fingerprint(self) -> dict[str, object]:
        """What figures hang on beside the configuration."""
        generator, judge = self._backends.generator.capabilities, self._backends.verifier
        able = None if judge is None else judge.capabilities
        return {
            "tts": __version__,
            "task": {"name": self._task.name, "data": data_hash(self._items)},
            "generator": {"name": generator.name, **generator.fingerprint},
            "verifier": None if able is None else {"name": able.name, **able.fingerprint},
        }

    def check(self) -> None:
        """Refuse, before anything is spent, what cannot be measured.

        Raises:
            UsageError: Names what is wrong.
        """
        configuration, wanted = self.configuration, self.configuration.problems
        if not self._items:
            raise ParameterError(f"task {self._task.name} has no problems")
        if wanted is not None and len(self._items) < wanted:
            raise ParameterError(f"task {self._task.name} has {len(self._items)} problems, not {wanted}")
        twice = [name for name, count in Counter(item.problem.id for item in self._items).items() if count > 1]
        if twice:
            raise ParameterError(f"task {self._task.name} has two problems with the id {twice[0]!r}")
        for contender in configuration.contenders:
            strategy = registry.strategy(contender.strategy, **contender.parameters)
            check_needs(strategy, self._backends.generator, self._backends.verifier)
            for budget in configuration.budgets:
                size_parameter(contender, budget)
                check_meters(budget, self._backends.generator, self._backends.verifier)

    def header(self) -> Header:
        """Return the first line of a new file."""
        configuration = self.configuration
        return Header(
            configuration=configuration,
            hash=configuration.hash(),
            fingerprint=self.fingerprint,
            problems=len(self._items),
            bands=count_bands(self._items),
        )

    async def measure(self, file: ResultsFile, results: Results, *, retry_errors: bool) -> None:
        """Go through the strategies at every budget; a part is sized just before it is measured."""
        configuration = self.configuration
        cells = {cell.key: cell for cell in results.cells}
        spent: dict[str, dict[int, Spending]] = {contender.label: {} for contender in configuration.contenders}
        parts = [(budget, contender) for budget in configuration.budgets for contender in configuration.contenders]
        for number, (budget, contender) in enumerate(parts, 1):
            label = f"{contender.label} {describe(budget)}"
            part = Progress(part=label, number=number, parts=len(parts), done=0, problems=len(self._items))
            cell = cells.get((contender.label, describe(budget)))
            if cell is None:
                cell = await self._size(contender, budget, spent[contender.label], part)
                file.append(cell)
                cells[cell.key] = cell
            records = await self._measure_cell(file, results, cell, part, retry_errors=retry_errors)
            if cell.sized is not None:
                spent[contender.label] |= known_spending(cell, _usages(records))

    async def _size(self, contender: Contender, budget: Budget, known: Mapping[int, Spending], part: Progress) -> Cell:
        def tell(done: int, problems: int) -> None:
            self._watch(replace(part, sizing=True, done=done, problems=problems))

        async def measure(strategy: Strategy) -> Spending:
            options = self._options(strategy, Budget())
            return await measure_spending(self._pilots, options, self.configuration.in_flight, tell)

        return await make_cell(contender, budget, measure, known, hard=self.configuration.hard)

    @cached_property
    def _pilots(self) -> list[Problem]:
        """Return the problems that follow those measured, then the first ones; a quarter as many as are measured."""
        count = min(self.configuration.pilot, max(FIRST, len(self._items) // 4))
        following = self._task.items(len(self._items) + count)[len(self._items) :]
        return [item.problem for item in (*following, *self._items)][:count]

    def _options(self, strategy: Strategy, budget: Budget) -> SolveOptions:
        configuration = self.configuration
        return {
            "strategy": strategy,
            "generator": self._backends.generator,
            "verifier": self._backends.verifier,
            "sampling": configuration.sampling,
            "budget": budget,
            "seed": configuration.seed,
            "system": configuration.system,
            "reader": self._task.reader,
            "concurrency": configuration.concurrency,
        }

    async def _measure_cell(
        self, file: ResultsFile, results: Results, cell: Cell, part: Progress, *, retry_errors: bool
    ) -> Collection[Record]:
        """Search the problems of a cell that are still to be searched; return what is known of all of them."""
        done = {
            key[2]: record
            for key, record in results.latest().items()
            if key[:2] == cell.key and not (retry_errors and record.ended is Ended.ERROR)
        }
        waiting = [item.problem for item in self._items if item.problem.id not in done]
        self._watch(_counted(part, done.values()))
        options = self._options(registry.strategy(cell.strategy, **cell.parameters), cell.limits)
        start = anyio.current_time()
        async with solve_many(waiting, in_flight=self.configuration.in_flight, **options) as outcomes:
            async for outcome in outcomes:
                at = anyio.current_time() - start
                # In a thread, since graders compute and disks wait; and a line begun is ended before a cancellation.
                record = await anyio.to_thread.run_sync(self._record, file, cell, outcome, results.sessions, at)
                done[outcome.problem] = record
                self._watch(_counted(part, done.values()))
                self._failures.note(record)
        return done.values()

    def _record(self, file: ResultsFile, cell: Cell, outcome: Outcome, session: int, at: float) -> Record:
        """Grade an outcome and write it down."""
        item = self._by_id[outcome.problem]
        tried = _tried(outcome)
        # A search that failed counts as wrong, whatever it had come to.
        failed = outcome.ended is Ended.ERROR
        record = Record(
            problem=outcome.problem,
            band=item.band,
            label=cell.label,
            budget=cell.budget,
            seed=outcome.seed,
            answer=outcome.answer,
            right=not failed and outcome.answer is not None and self._task.grade(item, outcome.answer),
            covered=not failed and any(self._task.grade(item, entry.answer) for entry in tried),
            ended=outcome.ended,
            limit=outcome.limit,
            error=outcome.error,
            text=outcome.text,
            tried=tried[:ANSWERS_KEPT],
            usage=outcome.usage,
            session=session,
            at=round(at, 6),
        )
        file.append(record)
        return record


def _counted(part: Progress, records: Collection[Record]) -> Progress:
    return replace(
        part,
        done=len(records),
        right=sum(record.right for record in records),
        errors=sum(record.ended is Ended.ERROR for record in records),
        generated=sum(record.usage.generated for record in records),
    )


def _usages(records: Iterable[Record]) -> list[Usage]:
    return [record.usage for record in records if record.ended is not Ended.ERROR]


def _tried(outcome: Outcome) -> tuple[Tried, ...]:
    """Return the distinct answers of an outcome's candidates, in the order of the ranking."""
    counts = Counter(candidate.answer for candidate in outcome.candidates)
    scores: dict[str, float | None] = {}
    for candidate in outcome.candidates:
        if candidate.answer is not None:
            known = [score for score in (scores.get(candidate.answer), candidate.score) if score is not None]
            scores[candidate.answer] = max(known, default=None)
    return tuple(Tried(answer=answer, count=counts[answer], score=score) for answer, score in scores.items())
