"""`tts list`: what there is to choose from, what each needs, and its parameters."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from tts import registry
from tts.cli.describe import Description, Parameter, describe
from tts.cli.text import one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from tts.cli.parser import Subparsers
    from tts.registry import Kind

KINDS: Mapping[str, Kind] = {
    "strategies": "strategy", "verifiers": "verifier", "generators": "generator", "tasks": "task",
}  # fmt: skip
BACKENDS = ("generators", "verifiers")
"""What the kind "backends" stands for."""
NO_PARAMETERS = "takes no parameters"


def add_parser(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "list", help="strategies, verifiers, generators and tasks, and what each takes",
        description="List what is registered, here and by installed packages. What a backend needs and gives is said "
        "in lines \"Needs: ...\" and \"Gives: ...\" of its factory's docstring.",
    )  # fmt: skip
    parser.add_argument(
        "kind", nargs="?", choices=[*KINDS, "backends"],
        help="only these; backends are generators and verifiers (default: all)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    wanted = BACKENDS if args.kind == "backends" else [args.kind] if args.kind else list(KINDS)
    found = {heading: [describe(KINDS[heading], name) for name in registry.names(KINDS[heading])] for heading in wanted}
    if args.json:
        print(json.dumps({heading: [asdict(entry) for entry in entries] for heading, entries in found.items()}))
    else:
        print("\n\n".join(_section(heading, entries) for heading, entries in found.items()))
    return 0


def _section(heading: str, entries: Sequence[Description]) -> str:
    return "\n".join([heading, *(line for entry in entries for line in _entry(entry))])


def _entry(entry: Description) -> list[str]:
    about = entry.summary if entry.problem is None else f"not available: {one_line(entry.problem)}"
    lines = [f"  {entry.name:<18} {about}".rstrip()]
    if entry.needs:
        lines.append(f"      needs: {', '.join(entry.needs)}")
    if entry.gives:
        lines.append(f"      gives: {', '.join(entry.gives)}")
    if entry.fixed:
        lines.append(f"      {NO_PARAMETERS}")
    return [*lines, *parameter_lines(entry.parameters, "      ")]


def parameter_lines(parameters: Sequence[Parameter], indent: str) -> list[str]:
    """Return a line for each parameter: name, default, type with range, description."""
    settings = [f"{parameter.name}={json.dumps(parameter.default)}" for parameter in parameters]
    width = max(map(len, settings), default=0)
    return [
        f"{indent}{setting:<{width}}  {parameter.type}{'; ' if parameter.description else ''}{parameter.description}"
        for setting, parameter in zip(settings, parameters, strict=True)
    ]
