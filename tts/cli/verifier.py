"""`tts verifier`: measure how well a verifier judges steps or paths, and calibrate it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tts import registry
from tts.benchmarks.testbed.settings import settle
from tts.benchmarks.verifier_evaluation import Cost, Evaluation, as_svg, evaluate
from tts.calibration import Calibration, Platt, read_calibration
from tts.cli import backends, request
from tts.cli.bench_table import plain
from tts.cli.text import one_line
from tts.errors import FileFormatError, NeedsError, ParameterError
from tts.runtime import run_sync

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tts.benchmarks.statistics import Interval
    from tts.benchmarks.verifier_metrics import Metrics
    from tts.cli.parser import Subparsers

EXAMPLES = """examples:
  tts verifier evaluate --task countdown
  tts verifier evaluate --task countdown --fit isotonic --save countdown.json --plot countdown.svg
  tts verifier evaluate --task countdown --skip 200 --calibration countdown.json

Problems are halved by a hash of their id: the map and the thresholds come from one half, all figures from the other.
Good steps are the positives: recall at 1 % is the share of good ones above a score that at most 1 % of bad ones exceed.
"""
NONE = "-"
Row = list[str]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its action."""
    parser = subparsers.add_parser("verifier", help="measure how well a verifier judges, and calibrate it")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    evaluating = actions.add_parser(
        "evaluate", help="judge a generator's attempts at problems whose steps can be labelled exactly",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    evaluating.add_argument("--task", metavar="NAME", required=True, help="see tts list")
    evaluating.add_argument("--problems", type=int, metavar="N", default=200, help="default %(default)s")
    evaluating.add_argument("--skip", type=int, metavar="N", default=0, help="problems passed over first (%(default)s)")
    evaluating.add_argument("--samples", type=int, metavar="N", default=4, help="attempts at each (%(default)s)")
    evaluating.add_argument("--seed", type=int, metavar="N", default=0, help="default %(default)s")
    evaluating.add_argument(
        "--in-flight", type=int, metavar="N", default=16, help="problems side by side (%(default)s)"
    )
    group = evaluating.add_argument_group("calibration")
    group.add_argument("--fit", choices=["platt", "isotonic", "none"], help="the map that is fitted (default platt)")
    group.add_argument("--calibration", metavar="FILE", help="a map that --save wrote, instead of fitting one")
    group.add_argument("--save", metavar="FILE", help="write the map that was fitted")
    backends.add_arguments(evaluating)
    request.add_sampling(evaluating)
    group = evaluating.add_argument_group("output")
    group.add_argument("--json", metavar="FILE", help="write every figure here")
    group.add_argument("--plot", metavar="FILE", help="draw shares of good labels against scores, as SVG")
    group.add_argument("--quiet", action="store_true", help="show no progress")
    evaluating.set_defaults(action=_evaluate)


def run(args: argparse.Namespace) -> int:
    """Run the action that was asked for."""
    code: int = args.action(args)
    return code


def _evaluate(args: argparse.Namespace) -> int:
    calibration = _calibration(args)
    choice = backends.choose(args)
    if choice.verifier is None:
        raise NeedsError("there is nothing to evaluate: give --verifier")
    for path in filter(None, (args.json, args.plot, args.save)):
        _check_writable(path)
    evaluation = run_sync(lambda: _measure(args, choice, calibration))
    if args.json:
        _write(args.json, evaluation.model_dump_json(indent=1) + "\n")
    if args.plot:
        _write(args.plot, as_svg(evaluation))
    if args.save and evaluation.calibration is not None:
        evaluation.calibration.save(args.save)
    print(as_text(evaluation), end="")
    if evaluation.refused is not None:
        print(f"tts: nothing was fitted: {one_line(evaluation.refused)}", file=sys.stderr)
        return 1
    return 0


def _calibration(args: argparse.Namespace) -> Calibration | None:
    """Read --calibration, and refuse flags that contradict each other.

    Raises:
        ParameterError: They do.
        FileFormatError: The file cannot be read.
    """
    if args.calibration is not None and (args.fit is not None or args.save is not None):
        raise ParameterError("--calibration takes a map that is there: leave --fit and --save out")
    if args.fit == "none" and args.save is not None:
        raise ParameterError("--fit none leaves nothing to --save")
    return None if args.calibration is None else read_calibration(args.calibration)


async def _measure(args: argparse.Namespace, choice: backends.Choice, calibration: Calibration | None) -> Evaluation:
    sampling = request.sampling(args)
    settings = settle(
        problems=args.problems, skip=args.skip, samples=args.samples, seed=args.seed, in_flight=args.in_flight,
        temperature=sampling.temperature,
    )  # fmt: skip
    task = registry.task(args.task)
    async with backends.opened(choice) as (generator, verifier):
        assert verifier is not None and choice.verifier is not None, "it was looked for before"
        return await evaluate(
            task, generator, verifier, settings, sampling=sampling, system=_system(args), calibration=calibration,
            kind=None if args.fit == "none" else args.fit or "platt", spec=choice.verifier.spec,
            options=choice.verifier.options, note=(lambda _: None) if args.quiet else _note,
        )  # fmt: skip


def _system(args: argparse.Namespace) -> str | None:
    return None if args.system is None else request.unescape(args.system)


def _note(line: str) -> None:
    print(one_line(line), file=sys.stderr)


def _check_writable(path: str) -> None:
    """See before anything is drawn that a file can be written; one that is there stays as it is.

    Raises:
        FileFormatError: It cannot.
    """
    there = Path(path).exists()
    try:
        Path(path).open("a", encoding="utf-8").close()
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be written: {error.strerror}") from None
    if not there:
        Path(path).unlink()


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be written: {error.strerror}") from None


def as_text(evaluation: Evaluation) -> str:
    """Return tables: how well scores rank, whether they are chances, what thresholds accept, and what judging took."""
    names = {role: one_line(evaluation.fingerprint[role]["name"]) for role in ("verifier", "generator")}
    halves = f"{evaluation.fit_problems} problems to fit on, {evaluation.evaluation_problems} others measured"
    left_out = f"{evaluation.attempts} attempts, of which {evaluation.left_out} cannot be judged"
    head = [
        f"{names['verifier']}, {evaluation.of} of attempts of {names['generator']} at {one_line(evaluation.task)}",
        f"{halves}; {left_out}; 95 % intervals over problems",
        *_said_of_map(evaluation.calibration),
    ]
    tables = [_ranking(evaluation), _chances(evaluation), _accepted(evaluation), _cost(evaluation.cost)]
    return "\n".join([*head, "", *(plain(rows[0], rows[1:]) for rows in tables)])


def _said_of_map(calibration: Calibration | None) -> Iterator[str]:
    if calibration is None:
        return
    made, on = calibration.map, calibration.fitted_on
    if isinstance(made, Platt):
        what = f"slope {made.slope:.3f}, intercept {made.intercept:.3f}"
    else:
        what = f"{len(made.scores)} knots"
    where = f"{on.good} good and {on.bad} bad labels of {one_line(on.task)}"
    yield f"{made.kind} map ({what}), fitted on {where}"


def _groups(evaluation: Evaluation) -> Iterator[tuple[str, Metrics, Metrics | None]]:
    before, after = evaluation.before, evaluation.after
    yield "all", before.whole, None if after is None else after.whole
    for name, metrics in before.by_part.items():
        yield name, metrics, None if after is None else after.by_part[name]
    for name, metrics in before.by_band.items():
        yield name, metrics, None if after is None else after.by_band[name]


def _ranking(evaluation: Evaluation) -> list[Row]:
    rows = [["of", "good", "bad", "AUC", "average precision", *_rates("recall at {} % FP", evaluation)]]
    for name, metrics, _ in _groups(evaluation):
        recalls = [NONE if one.recall is None else f"{one.recall.estimate:.3f}" for one in metrics.recall]
        figures = [shown(metrics.auc), shown(metrics.average_precision), *recalls]
        rows.append([name, str(metrics.good), str(metrics.bad), *figures])
    return rows


def _rates(title: str, evaluation: Evaluation) -> list[str]:
    return [title.format(f"{100 * one.threshold.rate:g}") for one in evaluation.before.whole.recall]


def _chances(evaluation: Evaluation) -> list[Row]:
    rows = [["of", "Brier score", "calibration error", "Brier score, calibrated", "calibration error, calibrated"]]
    for name, before, after in _groups(evaluation):
        calibrated = [NONE, NONE] if after is None else [shown(after.brier), shown(after.ece)]
        rows.append([name, shown(before.brier), shown(before.ece), *calibrated])
    return rows


def _accepted(evaluation: Evaluation) -> list[Row]:
    """Return what thresholds accept of all labels, as given and calibrated."""
    rows = [["false positives", "scores", "threshold", "recall", "bad ones accepted"]]
    for scores, figures in (("as given", evaluation.before), ("calibrated", evaluation.after)):
        for one in () if figures is None else figures.whole.recall:
            threshold = one.threshold
            score = NONE if threshold.score is None else f"{threshold.score:.4f}"
            recall = one.unmeasured or shown(one.recall)
            rows.append([f"{100 * threshold.rate:g} %", scores, score, recall, shown(one.false_positives)])
    return rows


def _cost(cost: Cost) -> list[Row]:
    """Return what the verifier took for all that it judged, and for one path."""
    calls, tokens, seconds = cost.calls, cost.tokens, cost.seconds
    return [
        ["cost of judging", "calls", "tokens", "seconds"],
        [f"{cost.paths} paths", f"{calls.in_all:.0f}", f"{tokens.in_all:.0f}", f"{seconds.in_all:.2f}"],
        ["one path", f"{calls.per_path:.2f}", f"{tokens.per_path:.1f}", f"{seconds.per_path:.4f}"],
    ]


def shown(interval: Interval | None) -> str:
    """Write an estimate with its interval."""
    if interval is None:
        return NONE
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
