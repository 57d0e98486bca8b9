"""The library's source files as trees, for tests of its architecture."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tts", "backends", "benchmarks")


@dataclass(frozen=True)
class Import:
    """One import: of what, and whether only for types or only inside a function."""

    name: str
    typing_only: bool
    lazy: bool


@dataclass(frozen=True)
class Source:
    """A file, with the name under which it is imported."""

    path: Path
    module: str
    tree: ast.Module
    lines: int

    @property
    def room(self) -> str:
        """What it belongs to: "search" of tts/search.py, "strategies" of tts/strategies/beam.py."""
        parts = self.module.split(".")
        return "training" if "training" in parts else parts[1] if len(parts) > 1 else "tts"

    def imports(self) -> list[Import]:
        """Return all its imports; of `from tts import x` each name is one."""
        return list(_imports(self.tree, typing_only=False, lazy=False))


def _imports(node: ast.AST, *, typing_only: bool, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, typing_only, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.module is not None, "imports are absolute"
            for alias in child.names:
                yield Import(f"{child.module}.{alias.name}", typing_only, lazy)
        else:
            only = typing_only or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test))
            inside = lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            yield from _imports(child, typing_only=only, lazy=inside)


@cache
def sources() -> tuple[Source, ...]:
    """Return every file of the library."""
    return tuple(map(_read, sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))))


def _read(path: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = parts if parts[0] == "tts" else ["tts", *parts]
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Source(path, module, ast.parse(text), len(text.splitlines()))


def module_of(name: str, known: frozenset[str]) -> str | None:
    """Return the library's module that an imported name is or lies in."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None
