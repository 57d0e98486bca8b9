"""`tts solve`: search for the answer to one problem, and say what it rests on and what it cost."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tts.budget import Budget
from tts.cli import backends, request
from tts.cli.cost import count, spent
from tts.cli.tally import Tally
from tts.cli.text import console, one_line, safe
from tts.errors import TTSError
from tts.runtime import run_sync
from tts.setup import SolveOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tts.cli.parser import Subparsers
    from tts.outcome import Outcome
    from tts.setup import Observer
    from tts.types import Problem

EXAMPLES = """examples:
  tts solve "Use 3, 5, 7, 11 to make 24." --strategy best_of_n --set n=16
  tts solve - --strategy self_consistency --budget 4096tok,30s --seed 7 --trace run.jsonl < problem.txt
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "solve", help="search for the answer to one problem", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Search for the answer to one problem. Exit codes: 0, 1 no answer or a failure, 2 bad use, "
        "130 interrupted.",
    )  # fmt: skip
    parser.add_argument("problem", metavar="PROBLEM", help="the question; - reads it from standard input")
    _add_search(parser)
    backends.add_arguments(parser)
    request.add_sampling(parser)
    _add_output(parser)


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--strategy", metavar="NAME", help="see tts list (default best_of_n with a verifier, else self_consistency)"
    )
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="a parameter of the strategy; repeatable"
    )
    parser.add_argument("--budget", metavar="LIMITS", help="limits with units, as in 4096tok,30s (default none)")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument(
        "--task", metavar="NAME", help="whose rules read the answer (default: the generator's, else mathematics)"
    )
    parser.add_argument(
        "--concurrency", type=int, default=64, metavar="N", help="requests in flight (default %(default)s)"
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--trace", metavar="FILE", help="write what happens to FILE, one JSON line an event")
    group.add_argument("--json", action="store_true", help="print the outcome as JSON and nothing else")
    group.add_argument("--quiet", action="store_true", help="no view of the running search")
    group.add_argument(
        "--show-prompt", action="store_true", help="print the prompt as the model will read it, and stop"
    )


@dataclass(frozen=True, slots=True)
class Job:
    """A search as it was asked for, checked as far as it can be without a model."""

    problem: Problem
    choice: backends.Choice
    options: SolveOptions


def run(args: argparse.Namespace) -> int:
    """Search, and print the outcome."""
    job = plan(args)
    if args.show_prompt:
        from tts.cli.prompt import show

        print(run_sync(lambda: show(job)))
        return 0
    tally = Tally()
    try:
        with watched(tally, args.quiet) as observer:
            job.options["observers"] = [observer]
            outcome = run_sync(lambda: search(job))
    except KeyboardInterrupt:
        trace = f"; trace: {args.trace}" if args.trace else ""
        print(f"tts: interrupted; spent: {spent(tally.usage())}{trace}", file=sys.stderr)
        return 130
    except TTSError as error:
        if args.json and error.outcome is not None:
            print(as_json(error.outcome))
        raise
    print(as_json(outcome) if args.json else report(outcome, args.trace))
    return 1 if outcome.answer is None else 0


def plan(args: argparse.Namespace) -> Job:
    """Turn arguments into a job.

    Raises:
        UsageError: What was asked for cannot be done.
    """
    problem, choice = request.problem(args.problem, args.task), backends.choose(args)
    strategy = request.strategy(args, "best_of_n" if choice.verifier else "self_consistency")
    if choice.assumed and not (strategy.needs.verifier or strategy.needs.partial_scores):
        choice = backends.Choice(choice.generator, None)
    options = SolveOptions(
        strategy=strategy,
        sampling=request.sampling(args),
        system=None if args.system is None else request.unescape(args.system),
        seed=args.seed,
        concurrency=args.concurrency,
        trace=args.trace,
    )
    if args.budget is not None:
        options["budget"] = Budget.parse(args.budget)
    return Job(problem, choice, options)


async def search(job: Job) -> Outcome:
    """Make the backends, search, close them."""
    from tts.solve import solve

    async with backends.opened(job.choice) as (generator, verifier):
        job.options["generator"] = generator
        job.options["verifier"] = verifier
        return await solve(job.problem, **job.options)


@contextlib.contextmanager
def watched(tally: Tally, quiet: bool) -> Iterator[Observer]:
    """Yield the search's observer: with a live view where standard error is a terminal."""
    screen = None if quiet or not sys.stderr.isatty() else console(sys.stderr)
    if screen is None or screen.is_dumb_terminal:
        yield tally.observe
        return
    from tts.cli.live import LiveView

    with LiveView(screen, tally) as view:
        yield view.observe


def as_json(outcome: Outcome) -> str:
    """Return the outcome as one line of JSON in ASCII, so that no terminal acts on what the model said."""
    return json.dumps(outcome.model_dump(mode="json"))


def report(outcome: Outcome, trace: str | None) -> str:
    """Return the solution, the answer, its support, and the cost."""
    text = safe(outcome.text).strip()
    facts = {
        "answer": "none" if outcome.answer is None else one_line(outcome.answer),
        "support": _support(outcome),
        "cost": spent(outcome.usage),
        "ended": _ending(outcome),
        "trace": trace,
    }
    lines = [f"{name:<9}{fact}" for name, fact in facts.items() if fact]
    return "\n".join([*([text, ""] if text else []), *lines])


def _support(outcome: Outcome) -> str | None:
    if outcome.support is None:
        return None
    voters = sum(candidate.answer is not None for candidate in outcome.candidates)
    score = outcome.candidates[0].score
    judged = "" if score is None else f"; score {score:.3f}"
    return f"{outcome.support:.0%} of {count(voters, 'candidate')} with an answer{judged}"


def _ending(outcome: Outcome) -> str:
    if outcome.limit is not None:
        return f"{outcome.ended.value}: cut by the limit on {outcome.limit}"
    return outcome.ended.value.replace("_", " ")
