"""`tts demo`: six strategies race on held-out problems with the bundled model, and the hardest one's search tree."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tts import registry
from tts.benchmarks.configuration import Contender, configure, digest
from tts.benchmarks.report import rows
from tts.benchmarks.runner import Backends, run_benchmark
from tts.budget import Budget
from tts.cli import backends
from tts.cli.bench_progress import watched
from tts.cli.text import console, one_line
from tts.cli.trace import write_page
from tts.runtime import run_sync
from tts.solve import solve

if TYPE_CHECKING:
    import argparse

    from tts.benchmarks.configuration import Configuration
    from tts.benchmarks.report import Row
    from tts.benchmarks.results import Results
    from tts.benchmarks.runner import Watch
    from tts.benchmarks.sizing import Cell
    from tts.cli.parser import Subparsers
    from tts.outcome import Outcome

STRATEGIES = ("best_of_n", "self_consistency", "beam", "a_star", "particle_filter", "first_finish")
TREES = ("beam", "a_star", "particle_filter")
"""Strategies whose search is a tree worth looking at."""
HEADINGS = ("strategy", "right", "95 % interval", "tokens", "gain/1,000", "seconds")


class Race(NamedTuple):
    """What the race came to: one sample a problem, and the six strategies."""

    single: Results
    searched: Results


def add_parser(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("demo", help="six strategies race on the bundled model")
    parser.add_argument("--problems", type=int, default=60, metavar="N", help="held-out problems (default 60)")
    parser.add_argument("--budget", default="768tok", metavar="LIMITS", help="of each problem (default 768tok)")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--out", default="results/demo", metavar="FOLDER", help="default results/demo")
    parser.add_argument("--no-browser", action="store_true", help="only write the page with the search tree")


def run(args: argparse.Namespace) -> int:
    """Race, show what each token bought, and open the tree of the hardest problem."""
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    choice = backends.Choice(backends.Backend("embedded"), backends.Backend("embedded"))
    budget = Budget.parse(args.budget)
    print(f"Six strategies, {args.problems} held-out Countdown problems, {args.budget} each, on the bundled model.\n")
    with watched(quiet=False) as watch:
        race, tree = run_sync(lambda: _race(args, budget, choice, folder, watch))
    _show(race)
    if tree is not None:
        _show_tree(tree, folder / "tree.html", browse=not args.no_browser and sys.stdout.isatty())
    return 0


async def _race(
    args: argparse.Namespace, budget: Budget, choice: backends.Choice, folder: Path, watch: Watch
) -> tuple[Race, Outcome | None]:
    async with backends.opened(choice) as (generator, verifier):
        engines = Backends(generator, verifier)

        async def measure(name: str, configuration: Configuration) -> Results:
            facts = [dict(able.capabilities.fingerprint) for able in (generator, verifier) if able is not None]
            path = folder / f"{name}-{digest([configuration.hash(), facts])[:8]}.jsonl"
            return await run_benchmark(configuration, engines, path, watch=watch)

        one = Contender(label="one_sample", strategy="self_consistency", parameters={"n": 1})
        single = await measure("single", _configuration(args, (one,), Budget()))
        contenders = tuple(Contender(label=name, strategy=name) for name in STRATEGIES)
        race = Race(single, await measure("race", _configuration(args, contenders, budget)))
        found = hardest(race.searched)
        if found is None:
            return race, None
        cell, problem = found
        items = {item.problem.id: item.problem for item in registry.task("countdown").items(args.problems)}
        strategy = registry.strategy(cell.strategy, **cell.parameters)
        trace = folder / "tree.trace.jsonl"
        outcome = await solve(
            items[problem], strategy=strategy, generator=generator, verifier=verifier, seed=args.seed,
            budget=cell.limits, trace=trace,
        )  # fmt: skip
        write_page(trace, folder / "tree.html")
        return race, outcome


def _configuration(args: argparse.Namespace, contenders: tuple[Contender, ...], budget: Budget) -> Configuration:
    return configure(
        task="countdown", problems=args.problems, contenders=contenders, budgets=(budget,), generator="embedded",
        verifier="embedded", seed=args.seed,
    )  # fmt: skip


def hardest(results: Results) -> tuple[Cell, str] | None:
    """Return the problem that fewest strategies solved, of those that a tree search did, with that search's cell."""
    cells = {cell.label: cell for cell in results.cells}
    solved: dict[str, list[str]] = {}
    for record in results.latest().values():
        if record.right:
            solved.setdefault(record.problem, []).append(record.label)
    trees = {problem: [label for label in TREES if label in labels] for problem, labels in solved.items()}
    candidates = [problem for problem, labels in trees.items() if labels]
    if not candidates:
        return None
    problem = min(candidates, key=lambda name: (len(solved[name]), name))
    return cells[trees[problem][0]], problem


def race_table(race: Race) -> list[tuple[str, ...]]:
    """Return the table's lines: one sample first, then the strategies, best first."""
    base = rows(race.single)[0]
    searched = sorted(rows(race.searched), key=lambda row: -(row.accuracy.estimate if row.accuracy else 0))
    return [_line(row, base) for row in (base, *searched)]


def _line(row: Row, base: Row) -> tuple[str, ...]:
    assert row.accuracy and row.generated and base.accuracy and base.generated
    more = row.generated.estimate - base.generated.estimate
    gain = (row.accuracy.estimate - base.accuracy.estimate) * 100
    return (
        row.label,
        f"{row.accuracy.estimate:.1%}",
        f"{row.accuracy.low:.0%} to {row.accuracy.high:.0%}",
        f"{row.generated.estimate:,.0f}",
        f"{gain / more * 1000:+.0f}" if more > 0 else "",
        f"{row.seconds:.2f}" if row.seconds is not None else "",
    )


def _show(race: Race) -> None:
    from rich.table import Table

    ruled = Table(box=None, header_style="bold", pad_edge=False)
    for place, heading in enumerate(HEADINGS):
        ruled.add_column(heading, justify="right" if place else "left", no_wrap=True)
    for line in race_table(race):
        ruled.add_row(*line)
    screen = console(sys.stdout)
    screen.print()
    screen.print(ruled)
    screen.print(
        "\nShare of problems answered right, with a 95 % credible interval.\n"
        "tokens: sampled for a problem. gain/1,000: points gained over one sample for\n"
        "each 1,000 tokens beyond its. seconds: of a problem with 15 others beside it."
    )


def _show_tree(outcome: Outcome, page: Path, *, browse: bool) -> None:
    screen = console(sys.stdout)
    answer = one_line(outcome.answer or "no answer")
    screen.print(f"\nThe hardest problem solved by a tree search: {outcome.problem}, by {outcome.strategy}: {answer}")
    screen.print(f"Its search tree: {page.resolve().as_uri()}")
    if browse:
        webbrowser.open(page.resolve().as_uri())
