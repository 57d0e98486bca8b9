"""`tts`: finds the command, and turns errors into one line and an exit code.

Exit codes: 0; 1 no answer, or a failure on the way; 2 bad use, a file that cannot be read included: nothing was spent;
130 interrupted. With TTS_DEBUG=1 an error that nobody foresaw shows its traceback.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from tts.__about__ import __version__
from tts.cli.cost import spent
from tts.cli.parser import Parser
from tts.cli.text import one_line, safe
from tts.errors import FileFormatError, TTSError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "solve": ("tts.cli.solve", "search for the answer to one problem"),
    "list": ("tts.cli.listing", "strategies, verifiers, generators and tasks, and what each takes"),
    "strategy": ("tts.cli.strategy", "show what a strategy does"),
    "doctor": ("tts.cli.doctor", "what a server can do, and which strategies run on it"),
    "bench": ("tts.cli.bench", "measure strategies on a benchmark"),
    "verifier": ("tts.cli.verifier", "measure how well a verifier judges, and calibrate it"),
    "trace": ("tts.cli.trace", "look into what a search did"),
    "demo": ("tts.cli.demo", "six strategies race on the bundled model, in about a minute"),
}
"""Each command with its module, which is imported only when the command is asked for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _never_fail_to_encode()
    try:
        code = dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except TTSError as error:
        return _fail(error)
    except KeyboardInterrupt:
        print("tts: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader left, as `head` does; without this, the interpreter would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(TTSError(str(error)))
    except Exception as error:  # the last boundary: code of other packages raises what it likes
        return _fail_unforeseen(error)


def dispatch(argv: list[str]) -> int:
    """Parse the arguments and run the command.

    Raises:
        UsageError: They make no command.
    """
    name = argv[0] if argv else ""
    if not name:
        raise UsageError(f"no command given: one of {', '.join(COMMANDS)} (see tts --help)")
    if not name.startswith("-") and name not in COMMANDS:
        raise UnknownNameError("command", name, COMMANDS)
    command: Any = importlib.import_module(COMMANDS[name][0]) if name in COMMANDS else None
    try:
        args = _parser(name, command).parse_args(argv)
    except SystemExit:  # --help and --version have printed what they had to
        return 0
    if command is None:
        raise UsageError("no command given (see tts --help)")
    code: int = command.run(args)
    return code


def _parser(chosen: str, command: Any) -> Parser:
    parser = Parser(prog="tts", description="Inference-time search for language models, within a budget.")
    parser.add_argument("--version", action="version", version=f"tts {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND")
    for name, (_, summary) in COMMANDS.items():
        if name == chosen:
            command.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


def _fail(error: TTSError) -> int:
    cost = "" if error.outcome is None else f" (spent until then: {spent(error.outcome.usage)})"
    print(f"tts: error: {one_line(str(error))}{cost}", file=sys.stderr)
    # A file is read before anything is asked of a model, so one that cannot be read has cost nothing.
    return 2 if isinstance(error, (UsageError, FileFormatError)) and error.outcome is None else 1


def _fail_unforeseen(error: Exception) -> int:
    debug = os.environ.get("TTS_DEBUG") == "1"
    if debug:
        print(safe("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    hint = "" if debug else " (set TTS_DEBUG=1 for a traceback)"
    said = one_line(f"{type(error).__name__}: {error}")
    print(f"tts: error: unexpected {said}{hint}", file=sys.stderr)
    return 1


def _never_fail_to_encode() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
