"""`tts trace`: what a trace file holds, as a tree in the terminal or as one page for a browser."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tts.cli.cost import count
from tts.cli.text import console, one_line
from tts.errors import ParameterError
from tts.trace import read_trace

if TYPE_CHECKING:
    import argparse
    import os

    from tts.cli.parser import Subparsers
    from tts.trace import SearchTrace


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its two views."""
    parser = subparsers.add_parser("trace", help="look into what a search did")
    views = parser.add_subparsers(metavar="VIEW", required=True)
    show = views.add_parser("show", help="the search tree in the terminal")
    show.add_argument("--depth", type=int, metavar="D", help="levels shown (default all)")
    page = views.add_parser("html", help="one self-contained page: tree, timeline, what was chosen, pruned, cancelled")
    page.add_argument("-o", "--out", metavar="FILE", help="where to (default: the trace's name with .html)")
    for view, work in ((show, _show), (page, _page)):
        view.add_argument("file", metavar="FILE", help="what tts solve --trace has written")
        view.add_argument("--search", type=int, metavar="K", help="of a file with several searches, the K-th (from 0)")
        view.set_defaults(view=work)


def run(args: argparse.Namespace) -> int:
    """Show the trace."""
    code: int = args.view(args)
    return code


def _show(args: argparse.Namespace) -> int:
    from tts.cli.trace_tree import render

    if args.depth is not None and args.depth < 1:
        raise ParameterError(f"--depth is {args.depth}; it is at least 1")
    searches = _searches(args.file, args.search)
    if len(searches) > 1:
        for number, search in enumerate(searches):
            print(f"{number:>4}  {_line(search)}")
        print(f"\n{len(searches)} searches; --search K shows the tree of one")
        return 0
    console(sys.stdout).print(render(searches[0], args.depth))
    return 0


def _page(args: argparse.Namespace) -> int:
    page = Path(args.out) if args.out else Path(args.file).with_suffix(".html")
    write_page(args.file, page, args.search)
    print(page)
    return 0


def write_page(trace: str | os.PathLike[str], page: str | os.PathLike[str], search: int | None = None) -> None:
    """Write the page of a trace file, or of its `search`-th search alone.

    Raises:
        FileFormatError: The trace cannot be read.
        ParameterError: There is no such search, or the page cannot be written.
    """
    from tts.cli.trace_page import build

    html = build(_searches(trace, search))
    try:
        Path(page).write_text(html, encoding="utf-8")
    except OSError as error:
        raise ParameterError(f"{page}: cannot be written: {error.strerror}") from None


def _searches(file: str | os.PathLike[str], number: int | None) -> list[SearchTrace]:
    searches = read_trace(file)
    if number is None:
        return searches
    if not 0 <= number < len(searches):
        raise ParameterError(f"--search is {number}; {file} holds {len(searches)}, counted from 0")
    return [searches[number]]


def _line(search: SearchTrace) -> str:
    ended = "broken off" if search.outcome is None else search.outcome["ended"]
    answer = "none" if search.outcome is None or search.outcome["answer"] is None else search.outcome["answer"]
    tokens = count(search.generated(), "token")
    question = one_line(search.problem.question)[:60]
    return one_line(f"{search.start['strategy']}: {ended}, {tokens}, answer {answer} ({question})")
