"""`tts bench`: measure strategies on a benchmark, at equal budgets, and report what files of results come to."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tts import registry
from tts.benchmarks.configuration import Configuration, configure
from tts.benchmarks.report import Row, as_json, as_svg, rows, rows_by_band
from tts.benchmarks.results import Results, read_results
from tts.benchmarks.runner import Backends, Watch, run_benchmark
from tts.budget import Budget
from tts.cli import backends, bench_suite, request
from tts.cli.bench_progress import watched
from tts.cli.bench_table import marked_down, rendered
from tts.cli.text import one_line
from tts.errors import FileFormatError, ParameterError, UnknownNameError
from tts.runtime import run_sync

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.cli.parser import Subparsers

RUN_EXAMPLES = """examples:
  tts bench run countdown --strategies best_of_n,beam --budget 512tok --budget 2048tok --problems 100
  tts bench run countdown --strategies wide=beam,narrow=beam --set wide.expansion=8 --budget 1ktok

At a budget each strategy is sized on pilot problems (n of best_of_n, width of beam) so that it spends the budget on
average; what it spent stands in the table. A parameter that is --set is not sized: the budget is then a limit that no
problem exceeds, as it is for all strategies with --hard. The same command takes up a run that was broken off.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its three actions."""
    parser = subparsers.add_parser("bench", help="measure strategies on a benchmark")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add_run(actions)
    bench_suite.add_suite(actions)
    report = actions.add_parser("report", help="show what files of results come to")
    report.add_argument("files", metavar="FILE", nargs="+", help="results of tts bench run")
    report.add_argument("--by", choices=["band"], help="sum up each band of difficulty by itself")
    report.add_argument("--markdown", action="store_true", help="print Markdown")
    report.add_argument("--json", action="store_true", help="print JSON and nothing else")
    report.add_argument("--svg", metavar="FILE", help="draw accuracy against tokens; with --by, a panel for each band")
    report.set_defaults(action=_report)


def _add_run(actions: Subparsers) -> None:
    parser = actions.add_parser(
        "run", help="search the problems of a task with several strategies", epilog=RUN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("task", metavar="TASK", help="see tts list")
    parser.add_argument(
        "--strategies", metavar="A,B,...", required=True, help="names, or LABEL=NAME; all are compared with the first"
    )
    parser.add_argument(
        "--set", metavar="LABEL.NAME=VALUE", action="append", default=[], help="a parameter of a strategy; repeatable"
    )
    parser.add_argument(
        "--budget", metavar="LIMITS", action="append", default=[], help="of a problem, as in 2048tok; repeatable"
    )
    parser.add_argument("--hard", action="store_true", help="budgets hold for each problem, not on average")
    parser.add_argument(
        "--size", metavar="LABEL=NAME", action="append", default=[], help="which parameter a budget sizes"
    )
    parser.add_argument("--problems", type=int, metavar="N", help="the first N (default all)")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument("--in-flight", type=int, default=16, metavar="N", help="problems side by side (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=64, metavar="N", help="requests in flight (%(default)s)")
    backends.add_arguments(parser)
    request.add_sampling(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--out", metavar="FILE", help="results, resumed if there (default results/TASK-HASH.jsonl)")
    group.add_argument("--retry-errors", action="store_true", help="search again the problems that failed")
    group.add_argument("--json", action="store_true", help="print the figures as JSON and nothing else")
    group.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(action=_run)


def run(args: argparse.Namespace) -> int:
    """Run the action that was asked for."""
    code: int = args.action(args)
    return code


def _run(args: argparse.Namespace) -> int:
    choice = backends.choose(args)
    configuration = configuration_of(args, choice)
    path = Path(args.out or f"results/{configuration.task}-{configuration.hash()[:12]}.jsonl")
    try:
        with watched(quiet=args.quiet) as watch:
            results = run_sync(lambda: _measure(configuration, choice, path, watch, retry_errors=args.retry_errors))
    except KeyboardInterrupt:
        kept = one_line(str(path))
        print(f"tts: interrupted; what was done is in {kept}: the same command goes on from there", file=sys.stderr)
        return 130
    shown = rows(results)
    print(as_json(shown) + "\n" if args.json else rendered(shown), end="")
    failed = sum(row.errors for row in shown)
    if failed:
        first = one_line(_first_error(results))
        print(f"tts: {failed} searches failed, first: {first}; --retry-errors tries again", file=sys.stderr)
    return 1 if failed else 0


async def _measure(
    configuration: Configuration, choice: backends.Choice, path: Path, watch: Watch, *, retry_errors: bool
) -> Results:
    async with backends.opened(choice) as (generator, verifier):
        try:
            return await run_benchmark(
                configuration, Backends(generator, verifier), path, retry_errors=retry_errors, watch=watch
            )
        except ParameterError as error:
            raise _in_terms_of_flags(error) from None


def _in_terms_of_flags(error: ParameterError) -> ParameterError:
    """Name a budget as its flag does: where it stands in a configuration says nothing to who typed it."""
    said = re.sub(r"(?<= )budgets\.\d+\.(\w+)(?=: )", r"budget \1", str(error))
    return error if said == str(error) else ParameterError(said)


def _whole(file: str) -> list[Row]:
    return rows(read_results(file))


def _by_band(file: str) -> list[Row]:
    results = read_results(file)
    if not results.header.bands:
        raise ParameterError(f"{file}: its problems have no bands, so that --by band has nothing to show")
    return rows_by_band(results)


def _first_error(results: Results) -> str:
    return next(record.error for record in results.latest().values() if record.error is not None)


def configuration_of(args: argparse.Namespace, choice: backends.Choice) -> Configuration:
    """Turn arguments into a configuration.

    Raises:
        UsageError: Names what is wrong.
    """
    registry.task(args.task)
    return configure(
        task=args.task,
        problems=args.problems,
        contenders=contenders(args.strategies, args.set, args.size),
        budgets=tuple(map(Budget.parse, args.budget)) or (Budget(),),
        hard=args.hard,
        generator=choice.generator.spec,
        verifier=None if choice.verifier is None else choice.verifier.spec,
        system=None if args.system is None else request.unescape(args.system),
        sampling=request.sampling(args),
        seed=args.seed,
        in_flight=args.in_flight,
        concurrency=args.concurrency,
    )


def contenders(names: str, settings: Sequence[str], sizes: Sequence[str]) -> list[dict[str, object]]:
    """Read --strategies, --set and --size.

    Raises:
        UsageError: A strategy, parameter or label is not there, or a value is out of range.
    """
    kinds: dict[str, str] = {}
    for part in filter(None, map(str.strip, names.split(","))):
        label, equals, name = part.partition("=")
        if label in kinds:
            raise ParameterError(f"--strategies: {label} is given twice; write LABEL=NAME to give it another label")
        kinds[label] = name if equals else label
    if not kinds:
        raise ParameterError("--strategies: name one at least")
    given: dict[str, list[str]] = {label: [] for label in kinds}
    for setting in settings:
        label, parameter = _labelled("--set", setting, ".", kinds)
        given[label].append(parameter)
    sized = dict(_labelled("--size", size, "=", kinds) for size in sizes)
    made: list[dict[str, object]] = []
    for label, name in kinds.items():
        parameters = request.parameters(given[label])
        registry.strategy(name, **parameters)
        made.append({"label": label, "strategy": name, "parameters": parameters, "size": sized.get(label)})
    return made


def _labelled(flag: str, text: str, mark: str, labels: dict[str, str]) -> tuple[str, str]:
    label, marked, rest = text.partition(mark)
    if not marked or not rest:
        example = "beam.width=4" if mark == "." else "beam=width"
        raise ParameterError(f"{flag} {text}: expected the label of a strategy first, as in {example}")
    if label not in labels:
        raise UnknownNameError(f"label in {flag}:", label, labels)
    return label, rest


def _report(args: argparse.Namespace) -> int:
    summed_up = _by_band if args.by else _whole
    shown = [row for file in args.files for row in summed_up(file)]
    if args.svg:
        try:
            Path(args.svg).write_text(as_svg(shown), encoding="utf-8")
        except OSError as error:
            raise FileFormatError(f"{args.svg}: cannot be written: {error.strerror}") from None
    if args.json:
        print(as_json(shown))
    else:
        print(marked_down(shown) if args.markdown else rendered(shown), end="")
    return 0
