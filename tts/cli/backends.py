"""Which generator and verifier: by flag, else by file, else by environment, else the embedded ones."""

from __future__ import annotations

import os
import tomllib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio

from tts import registry
from tts.errors import ParameterError, UnknownNameError
from tts.protocols import connect

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Mapping

    from tts.protocols import Generator, Verifier

Role = Literal["generator", "verifier"]
DEFAULT = "embedded"
NONE = "none"
VARIABLES: Mapping[Role, str] = {"generator": "TTS_GENERATOR", "verifier": "TTS_VERIFIER"}


@dataclass(frozen=True, slots=True)
class Backend:
    """A generator or verifier as it was asked for: "name" or "name:rest", and options of its factory."""

    spec: str
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a command is to use; `verifier` is None where there is none, and `assumed` where nobody asked for it."""

    generator: Backend
    verifier: Backend | None
    assumed: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name backends."""
    group = parser.add_argument_group(
        "backends",
        "A flag goes before the file, the file before the environment; keys come from the environment alone.",
    )
    group.add_argument(
        "--generator", metavar="SPEC", help=f"NAME or NAME:ARGUMENT (or {VARIABLES['generator']}; default {DEFAULT})"
    )
    group.add_argument(
        "--verifier", metavar="SPEC",
        help=f"likewise, or {NONE} (or {VARIABLES['verifier']}; default {DEFAULT} with the embedded generator)",
    )  # fmt: skip
    group.add_argument(
        "--backends",
        metavar="FILE",
        help='TOML with tables [generator] and [verifier]: use = "SPEC", and further options',
    )
    group.add_argument("--template", metavar="FILE", help="chat template in Jinja (default: the model's own)")


def choose(args: argparse.Namespace) -> Choice:
    """Settle which backends are meant.

    Raises:
        UsageError: The file cannot be read, or says what it should not.
    """
    file = {} if args.backends is None else _read_tables(Path(args.backends))
    generator = _pick("generator", args.generator, file) or Backend(DEFAULT)
    if args.template is not None:
        generator = Backend(generator.spec, {**generator.options, "template": _read(Path(args.template))})
    verifier = _pick("verifier", args.verifier, file)
    if verifier is None and _name(generator) == DEFAULT:
        # The embedded verifier has learnt to judge the embedded generator alone; beside another it would mislead.
        return Choice(generator, Backend(DEFAULT), assumed=True)
    return Choice(generator, None if verifier is None or verifier.spec == NONE else verifier)


def _pick(role: Role, flag: str | None, file: Mapping[str, Backend]) -> Backend | None:
    if flag is not None:
        return Backend(flag)
    variable = os.environ.get(VARIABLES[role])
    return file.get(role) or (Backend(variable) if variable else None)


def _name(backend: Backend) -> str:
    return backend.spec.partition(":")[0]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: cannot be read: {error}") from None


def _read_tables(path: Path) -> dict[str, Backend]:
    try:
        tables = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise ParameterError(f"{path}: not TOML: {error}") from None
    for name in tables:
        if name not in VARIABLES:
            raise UnknownNameError(f"table of {path}", name, VARIABLES)
    return {role: _read_backend(path, role, table) for role, table in tables.items()}


def _read_backend(path: Path, role: str, table: object) -> Backend:
    if not isinstance(table, dict) or not isinstance(table.get("use"), str):
        raise ParameterError(f'{path}: [{role}] needs use = "NAME" or "NAME:ARGUMENT"')
    return Backend(table["use"], {name: value for name, value in table.items() if name != "use"})


def make(role: Role, backend: Backend) -> Any:
    """Make a generator or a verifier.

    Raises:
        UnknownNameError: No such name, or the factory takes no such option.
        ParameterError: An option is no such thing.
    """
    return registry.make(role, backend.spec, backend.options)


@asynccontextmanager
async def opened(choice: Choice) -> AsyncIterator[tuple[Generator, Verifier | None]]:
    """Make the backends, and close them at the end, also when interrupted."""
    made: list[Any] = []
    try:
        made.append(make("generator", choice.generator))
        if choice.verifier is not None:
            made.append(make("verifier", choice.verifier))
        for backend in made:
            await connect(backend)
        yield made[0], made[1] if len(made) > 1 else None
    finally:
        with anyio.CancelScope(shield=True):
            for backend in made:
                await backend.aclose()
