"""Measure a policy and a process reward model: `python -m tts.benchmarks.testbed`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tts import registry
from tts.benchmarks.testbed.measure import measure
from tts.benchmarks.testbed.report import as_text
from tts.benchmarks.testbed.settings import Settings, settle
from tts.errors import TTSError
from tts.runtime import run_sync

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.benchmarks.testbed.measure import Figures


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write the figures; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        figures = _measure(args)
        if args.json is not None:
            args.json.write_text(figures.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except (TTSError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(as_text(figures))
    return 0


def _measure(args: argparse.Namespace) -> Figures:
    settings = settle(**{name: getattr(args, name) for name in Settings.model_fields})
    tasks = [registry.task(name) for name in args.task or _labelled_tasks()]

    def note(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    return run_sync(lambda: measure(tasks, args.generator, args.verifier, settings, note))


def _labelled_tasks() -> list[str]:
    return [name for name in registry.names("task") if hasattr(registry.task(name), "label_steps")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tts.benchmarks.testbed", description=__doc__)
    parser.add_argument(
        "--task", action="append", metavar="NAME", help="may be repeated (default: every task that can label steps)"
    )
    parser.add_argument("--generator", default="embedded", metavar="SPEC", help="the policy (default: embedded)")
    parser.add_argument("--verifier", default="embedded", metavar="SPEC", help="the reward model (default: embedded)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    for name, field in Settings.model_fields.items():
        kind = float if field.annotation is float else int
        help_text = f"{field.description or name} (default: {field.default})"
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=field.default, metavar="N", help=help_text
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
