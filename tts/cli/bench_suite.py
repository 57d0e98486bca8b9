"""`tts bench suite`: several runs as one command, with a document and plots of what they came to."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tts.benchmarks.runner import Backends, Watch
from tts.benchmarks.suite import Part, Suite, bundled, find_suite, plan, read_suite, run_suite
from tts.benchmarks.suite_report import DOCUMENT, Figures, pivot, sum_up, write_suite
from tts.cli import backends
from tts.cli.bench_progress import watched
from tts.cli.bench_table import plain
from tts.cli.cost import count
from tts.cli.text import one_line
from tts.errors import FileFormatError, ParameterError
from tts.runtime import run_sync

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.benchmarks.results import Results
    from tts.cli.parser import Subparsers

EXAMPLES = """examples:
  tts bench suite testbed --quick
  tts bench suite testbed
  tts bench suite mine.toml --generator vllm:http://localhost:8000 --out results/mine

In the folder there is then a file of results for each run, with a plot of accuracy against generated tokens, and
results.md with all tables. The same command takes up a suite that was broken off; what is complete is not run again.
"""


def add_suite(actions: Subparsers) -> None:
    """Add the action."""
    parser = actions.add_parser(
        "suite", help="make the runs that a file lists, and a document of what they came to", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("suite", metavar="NAME-OR-FILE", help=f"{', '.join(bundled())}, or a .toml file")
    parser.add_argument("--quick", action="store_true", help="what the suite's [quick] says: fewer problems and runs")
    parser.add_argument("--problems", type=int, metavar="N", help="the first N of each task, instead of the suite's")
    parser.add_argument("--seed", type=int, metavar="N", help="this one, instead of the suite's")
    backends.add_arguments(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--out", metavar="FOLDER", help="default results/SUITE, or results/SUITE-quick")
    group.add_argument("--retry-errors", action="store_true", help="search again the problems that failed")
    group.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(action=_suite)


def _suite(args: argparse.Namespace) -> int:
    path, choice = find_suite(args.suite), backends.choose(args)
    suite = read_suite(path)
    suite = suite.shortened() if args.quick else suite
    parts = _plan(args, suite, path, choice)
    folder = Path(args.out or f"results/{path.stem}{'-quick' if args.quick else ''}")
    try:
        with watched(quiet=args.quiet) as watch:
            measured = run_sync(lambda: _measure(parts, choice, folder, watch, retry_errors=args.retry_errors))
    except KeyboardInterrupt:
        kept = one_line(str(folder))
        print(f"tts: interrupted; what was done is in {kept}: the same command goes on from there", file=sys.stderr)
        return 130
    figures = sum_up(parts, measured)
    try:
        write_suite(folder, suite, figures, command_of(args))
    except OSError as error:
        raise FileFormatError(f"{error.filename}: cannot be written: {error.strerror}") from None
    return _tell(figures, folder)


def _plan(args: argparse.Namespace, suite: Suite, path: Path, choice: backends.Choice) -> list[Part]:
    if not suite.runs:
        raise ParameterError(f"{path}: --quick leaves no run, since each says quick = false")
    if args.problems is not None and args.problems < 1:
        raise ParameterError(f"--problems is {args.problems}; it is at least 1")
    return plan(
        suite,
        generator=choice.generator.spec,
        verifier=None if choice.verifier is None else choice.verifier.spec,
        seeds=None if args.seed is None else (args.seed,),
        problems=args.problems,
    )


async def _measure(
    parts: Sequence[Part], choice: backends.Choice, folder: Path, watch: Watch, *, retry_errors: bool
) -> list[Results]:
    async with backends.opened(choice) as (generator, verifier):
        both = Backends(generator, verifier)
        return await run_suite(parts, both, folder, retry_errors=retry_errors, watch=watch)


def command_of(args: argparse.Namespace) -> str:
    """Return the command as it would be typed to make the same figures."""
    words = ["tts", "bench", "suite", args.suite, *(["--quick"] if args.quick else [])]
    for flag in ("problems", "seed", "generator", "verifier", "backends", "template"):
        value = getattr(args, flag, None)
        words += [] if value is None else [f"--{flag}", str(value)]
    return shlex.join(words)


def _tell(figures: Sequence[Figures], folder: Path) -> int:
    """Print the tables in short, and say what failed."""
    failed = 0
    for one in figures:
        failed += sum(row.errors for row in one.whole)
        print(f"{one_line(one.part.name)}: accuracy %, {count(one.results.header.problems, 'problem')}")
        print(plain(*pivot(one.whole)))
    print(f"tables, intervals and plots: {one_line(str(folder / DOCUMENT))}")
    if failed:
        print(f"tts: {failed} searches failed; --retry-errors tries again", file=sys.stderr)
    return 1 if failed else 0
