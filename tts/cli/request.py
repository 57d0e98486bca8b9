"""The arguments of a search turned into the library's values, each refused in one line where it is wrong."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tts import registry
from tts.errors import ParameterError, ProblemError
from tts.setup import as_problem
from tts.types import Sampling

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from tts.protocols import Strategy
    from tts.types import Problem

_SINGULAR = {"delimiters": "delimiter", "stops": "stop"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each field of `Sampling`, and the system prompt."""
    group = parser.add_argument_group("prompt and sampling", r"Texts may contain \n, \t, \r and \\.")
    group.add_argument(
        "--system", metavar="TEXT", help='system prompt; "" for none (default: what the generator suggests)'
    )
    for name, field in Sampling.model_fields.items():
        flag = "--" + _SINGULAR.get(name, name).replace("_", "-")
        many = name in _SINGULAR
        default = "by the model" if field.default is None else json.dumps(field.default)
        group.add_argument(
            flag, dest=name, metavar="TEXT" if many or isinstance(field.default, str) else "X",
            action="append" if many else "store",
            help=f"{field.description or ''}{'; repeatable' if many else ''} (default {default})".replace("%", "%%"),
        )  # fmt: skip


def sampling(args: argparse.Namespace) -> Sampling:
    """Return the sampling that the flags ask for.

    Raises:
        ParameterError: A value is out of range.
    """
    given = {name: getattr(args, name) for name in Sampling.model_fields if getattr(args, name) is not None}
    texts = {name: tuple(map(unescape, given[name])) for name in _SINGULAR if name in given}
    try:
        return Sampling(**{**given, **texts})
    except ValidationError as error:
        raise ParameterError(f"sampling: {registry.explain(error)}") from None


def unescape(text: str) -> str:
    r"""Read \n, \t, \r and \\ as in a string literal; any other backslash is itself."""
    return re.sub(r"\\([ntr\\])", lambda match: _ESCAPES[match[1]], text)


def parameters(settings: Iterable[str]) -> dict[str, object]:
    """Read settings such as "width=4"; values are JSON, or else text.

    Raises:
        ParameterError: One has no name or no value, or a name is given twice.
    """
    given: dict[str, object] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise ParameterError(f"--set {setting}: expected NAME=VALUE, as in width=4")
        if name in given:
            raise ParameterError(f"--set {setting}: {name} is set twice")
        given[name] = _value(value)
    return given


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def strategy(args: argparse.Namespace, default: str) -> Strategy:
    """Return the strategy that --strategy and --set ask for."""
    return registry.strategy(args.strategy or default, **parameters(args.set))


def problem(text: str, task: str | None) -> Problem:
    """Return the problem; "-" reads it from standard input.

    Raises:
        ProblemError: It is empty, or no text.
        UnknownNameError: No such task.
    """
    try:
        question = sys.stdin.read().rstrip("\r\n") if text == "-" else text
        question.encode()
    except UnicodeError:
        raise ProblemError("the problem is not valid UTF-8") from None
    if task is not None:
        registry.task(task)
    return as_problem(question).model_copy(update={"task": task})
