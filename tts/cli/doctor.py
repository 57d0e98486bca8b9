"""`tts doctor`: what a server can do, as it shows when asked, and which strategies can run on it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, cast

from tts import registry
from tts.capabilities import VerifierCapabilities
from tts.cli.cost import count
from tts.cli.text import console, one_line, safe
from tts.errors import ParameterError, TTSError
from tts.needs import check_needs
from tts.runtime import run_sync

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from tts.backends.doctor.findings import Examination, Finding
    from tts.capabilities import Capabilities
    from tts.cli.parser import Subparsers
    from tts.protocols import Generator, Verifier

JUDGE = VerifierCapabilities(name="a verifier", steps=True)
"""Any process reward model: what a server lacks is no fault of the verifier that will be used with it."""
SECONDS = 180.0
KEY = "TTS_API_KEY"
KEYS = {"vllm": KEY, "openai": "OPENAI_API_KEY"}
"""Where backends look for a key if they are not told."""
STYLES = {"yes": "green", "no": "red", "unknown": "yellow"}
FIRST_CHOICES = ("beam", "best_of_n", "self_consistency")


def add_parser(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "doctor", help="what a server can do, which strategies run on it, and the flags that would help",
        description="Ask a server what it can do, by about a hundred short requests. Nothing is taken from what it "
        "says of itself. Exit codes: 0 it can be used, 1 it cannot, 2 bad use.",
    )  # fmt: skip
    parser.add_argument("url", metavar="URL", help="where it is, as in http://localhost:8000")
    parser.add_argument("--model", metavar="NAME", help="the served model (default: the only one)")
    parser.add_argument(
        "--key", metavar="VARIABLE", default=KEY,
        help="environment variable that holds the server's key (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--question", metavar="TEXT", help="what the model is asked; it should have an answer of a few sentences"
    )
    parser.add_argument(
        "--seconds", metavar="X", type=float, default=SECONDS,
        help="how long it may take; what was not asked by then is unknown (default %(default)g)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do with a server that was examined.

    Attributes:
        strategies: Those that run on it, each with whether a verifier has to be given.
        refused: Those that do not, with the reason.
        flags: What would help the server.
        command: What to type; empty if there is nothing that would work.
        file: What a file for --backends has to say beside, as the model's name; empty if nothing.
    """

    strategies: dict[str, bool] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    command: str = ""
    file: str = ""


def run(args: argparse.Namespace) -> int:
    """Examine a server, and print what was found."""
    from tts.backends.doctor import QUESTION, Bounds, examine

    if not args.seconds > 0:
        raise ParameterError(f"--seconds is {args.seconds:g}; it is more than 0")
    bounds = Bounds(total=args.seconds, probe=min(args.seconds, Bounds().probe))
    with _waiting(args.url):
        found = run_sync(lambda: examine(args.url, args.model, key=args.key, question=args.question, bounds=bounds))
    advice = advise(found, args.question or QUESTION, args.model, args.key)
    if args.json:
        print(json.dumps({**asdict(found), "advice": asdict(advice)}))
    else:
        _print(found, advice)
    return 0 if advice.command else 1


@contextlib.contextmanager
def _waiting(url: str) -> Iterator[None]:
    screen = console(sys.stderr) if sys.stderr.isatty() else None
    if screen is None or screen.is_dumb_terminal:
        yield
        return
    with screen.status(f"asking {one_line(url)}"):
        yield


def advise(found: Examination, question: str, model: str | None = None, key: str = KEY) -> Advice:
    """Say which strategies run on a server, which do not, and what to type.

    `model` and `key` name what the server was asked for, where that has to be given to its backend too.
    """
    flags = list(dict.fromkeys(finding.advice for finding in found.findings if finding.advice))
    file = _file(found, model, key)
    if found.pooling:
        command = _command(found, question, "best_of_n", file, judged=True) if found.spec else ""
        return Advice(flags=flags, command=command, file=file)
    runs: dict[str, bool] = {}
    refused: dict[str, str] = {}
    for name in registry.names("strategy"):
        try:
            runs[name] = _needs_verifier(name, found)
        except TTSError as error:
            refused[name] = one_line(str(error))
    best = next((name for name in (*FIRST_CHOICES, *runs) if name in runs), None)
    command = _command(found, question, best, file, judged=runs[best]) if best else ""
    return Advice(runs, refused, flags, command, file)


def _file(found: Examination, model: str | None, key: str) -> str:
    """Return the table of a file for --backends, where a specification alone would not do."""
    spec = found.spec or ""
    usual = key == KEYS.get(spec.partition(":")[0]) or key not in os.environ
    given = {"model": model, "key": None if usual else key}
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items() if value]
    role = "verifier" if found.pooling else "generator"
    return "\n".join([f"[{role}]", f"use = {json.dumps(spec)}", *lines]) if spec and lines else ""


@dataclass(frozen=True, slots=True)
class _Able:
    """Stands for a backend where only what it can do is looked at."""

    capabilities: Capabilities | VerifierCapabilities


def _needs_verifier(name: str, found: Examination) -> bool:
    """Return whether a strategy needs a verifier.

    Raises:
        TTSError: It needs what the server does not have, or cannot be made.
    """
    if found.capabilities is None or found.spec is None:
        raise TTSError(found.unfit or "the server does not draw text")
    strategy = registry.strategy(name)
    check_needs(strategy, cast("Generator", _Able(found.capabilities)), cast("Verifier", _Able(JUDGE)))
    return strategy.needs.verifier or strategy.needs.partial_scores


def _command(found: Examination, question: str, strategy: str, file: str, *, judged: bool) -> str:
    own = ["--backends", "FILE"] if file else ["--verifier" if found.pooling else "--generator", str(found.spec)]
    other = ["--generator", "SPEC"] if found.pooling else ["--verifier", "SPEC"] if judged else []
    template = ["--template", "FILE"] if found.template else []
    return shlex.join(["tts", "solve", question, "--strategy", strategy, *own, *template, *other])


def _print(found: Examination, advice: Advice) -> None:
    print(one_line(f"{found.url}: {found.server}, model {found.model}"))
    if sys.stdout.isatty():
        _print_table(found.findings)
    else:
        for finding in found.findings:
            print(f"{finding.verdict:<8} {one_line(f'{finding.ability}: {finding.evidence}')}")
    print(f"\nThe examination sampled {count(found.sampled, 'token')} and had {count(found.read, 'token')} read.")
    if advice.flags:
        print("\nWould help:", *(f"  {one_line(flag)}" for flag in advice.flags), sep="\n")
    for line in _verdict(found, advice):
        print(line)


def _print_table(findings: Iterable[Finding]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table("ability", "", "what was seen", box=SIMPLE, pad_edge=False)
    for finding in findings:
        verdict = Text(finding.verdict, style=STYLES[finding.verdict])
        table.add_row(one_line(finding.ability), verdict, one_line(finding.evidence))
    console(sys.stdout).print(table)


def _verdict(found: Examination, advice: Advice) -> Iterator[str]:
    if found.unfit:
        yield f"\nAmiss: {one_line(found.unfit)}"
    if found.pooling:
        yield "\nIt scores and does not draw" + (f": a verifier, {one_line(found.spec)}" if found.spec else "")
    elif advice.strategies:
        names = (name + (" (with a verifier)" if judged else "") for name, judged in advice.strategies.items())
        yield f"\nRuns: {', '.join(names)}"
    for name, reason in advice.refused.items():
        yield f"Does not run: {name}: {reason}"
    if advice.command:
        yield f"\n{one_line(advice.command)}"
    if advice.file:
        yield f"where FILE says:\n{safe(advice.file)}"
