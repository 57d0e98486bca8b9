"""`tts strategy show`: what a strategy is, what it takes, and the graph of its operators."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tts import registry
from tts.cli import request
from tts.cli.describe import describe_strategy, needs_of
from tts.cli.listing import NO_PARAMETERS, parameter_lines
from tts.cli.text import safe

if TYPE_CHECKING:
    import argparse

    from tts.cli.parser import Subparsers
    from tts.protocols import Strategy


def add_parser(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("strategy", help="show what a strategy does", description="Look at a strategy.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    show = actions.add_parser(
        "show", help="its paper, needs, parameters and operator graph",
        description="Show a strategy: what it does and needs, its parameters, and the graph of its operators.",
    )  # fmt: skip
    show.add_argument("name", metavar="NAME", help="see tts list strategies")
    show.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="a parameter of the strategy; repeatable"
    )


def run(args: argparse.Namespace) -> int:
    """Print what there is to know about a strategy."""
    from tts.drawing import draw

    strategy = registry.strategy(args.name, **request.parameters(args.set))
    print("\n\n".join([_facts(strategy, args.name), *_parameters(strategy, args.name), safe(draw(strategy))]))
    return 0


def _facts(strategy: Strategy, name: str) -> str:
    about = describe_strategy(registry.find("strategy", name), name)
    lines = [f"{name}: {about.summary}", f"needs   {', '.join(needs_of(strategy)) or 'nothing but a generator'}"]
    if about.papers:
        lines.append(f"paper   {', '.join('arXiv ' + paper for paper in about.papers)}")
    if strategy.order_sensitive:
        lines.append("order   its answer may hang on which sample arrives first; a trace reproduces it")
    return "\n".join(lines)


def _parameters(strategy: Strategy, name: str) -> list[str]:
    about = describe_strategy(registry.find("strategy", name), name)
    if about.fixed:
        return [NO_PARAMETERS]
    values = strategy.model_dump(mode="json")
    parameters = [replace(parameter, default=values[parameter.name]) for parameter in about.parameters]
    return ["\n".join(["parameters", *parameter_lines(parameters, "  ")])] if parameters else []
