"""`tts trace`: what a trace file holds, a line a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts.cli.cost import count
from tts.cli.text import one_line
from tts.trace import read_trace

if TYPE_CHECKING:
    import argparse

    from tts.cli.parser import Subparsers
    from tts.trace import SearchTrace


def add_parser(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("trace", help="look into what a search did", description="List a trace's searches.")
    parser.add_argument("file", metavar="FILE", help="what tts solve --trace has written")


def run(args: argparse.Namespace) -> int:
    """Print a line for each search."""
    for search in read_trace(args.file):
        print(_line(search))
    return 0


def _line(search: SearchTrace) -> str:
    ending = "broken off" if search.outcome is None else search.outcome["ended"]
    answer = "none" if search.outcome is None or search.outcome["answer"] is None else search.outcome["answer"]
    return one_line(f"{search.start['strategy']}: {ending}, {count(search.generated(), 'token')}, answer {answer}")
