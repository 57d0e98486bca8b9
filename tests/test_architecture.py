"""The picture in docs/architecture.md, held by parsing the imports."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import pytest

from tests.sources import ROOT, Source, module_of, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWN = frozenset(source.module for source in sources())
ALL = pytest.mark.parametrize("source", sources(), ids=lambda source: str(source.path.relative_to(ROOT)))

ONLY = {
    "errors": set[str](),
    "types": {"errors"},
    "protocols": {"types"},
    "strategies": {
        "aggregation", "errors", "graph", "notation", "protocols", "resampling", "seeds", "selection", "steps", "types",
        "voting",
    },
    "verifiers": {"aggregation", "errors", "protocols", "types", "answers", "seeds", "steps"},
    "backends": {"errors", "protocols", "types", "retry", "seeds", "steps", "trace"},
}  # fmt: skip
"""Rooms that may use these and themselves, and no others, when they run."""

ABOVE = {"cli", "planner", "benchmarks", "backends", "__main__"}
"""Rooms that the library proper does not use; the registry alone imports backends and tasks, when asked for one."""
USERS = {"training", "cli", "planner", "benchmarks", "backends", "__main__", "registry"}
SOLVERS = {"solve", "many"}
MAY_SOLVE = {"tts", "cli", "planner", "benchmarks", "solve", "many", "laws", "checks", "drawing", "testing"}

HOME = {
    "httpx": "backends/",
    "onnxruntime": "backends/embedded/",
    "tokenizers": "backends/embedded/",
    "jinja2": "backends/embedded/",
    "torch": "backends/",
    "transformers": "backends/",
    "vllm": "backends/",
    "rich": "tts/cli/",
    "networkx": "tts/graph.py",
}
"""The one place from which each of these is imported."""

BANNED = {
    "asyncio": {"gather", "create_task", "ensure_future", "Lock", "Semaphore", "Queue", "sleep", "wait", "wait_for"},
    "random": {"random", "choice", "choices", "seed", "shuffle", "randint", "sample", "uniform"},
    "time": {"time", "sleep"},
}
MAY_PRINT = ("tts/cli/", "backends/embedded/training/", "benchmarks/speed/")
MAY_WAIT_FOR_REAL = ("tts/cli/", "benchmarks/speed/", "backends/embedded/training/")


def place(source: Source) -> str:
    return source.path.relative_to(ROOT).as_posix()


def used(source: Source) -> Iterator[str]:
    """Yield the library's modules that a source imports when it runs."""
    for one in source.imports():
        module = None if one.typing_only else module_of(one.name, KNOWN)
        if module is not None and module != "tts":
            yield module


@ALL
def test_rooms_use_what_lies_below_them(source: Source) -> None:
    rooms = {module.split(".")[1] for module in used(source)} - {source.room}
    if source.room in ONLY:
        assert rooms <= ONLY[source.room]
    if source.room not in USERS:
        assert not rooms & ABOVE
    if source.room not in MAY_SOLVE:
        assert not rooms & SOLVERS
    if source.room != "cli":
        assert "cli" not in rooms or source.room == "__main__"


def test_nothing_imports_itself_in_a_circle() -> None:
    graph = {
        source.module: {
            module
            for one in source.imports()
            if not (one.typing_only or one.lazy)
            for module in [module_of(one.name, KNOWN)]
            if module not in (None, source.module)
        }
        for source in sources()
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


@ALL
def test_each_dependency_lives_in_one_place(source: Source) -> None:
    for one in source.imports():
        home = HOME.get(one.name.split(".")[0], "")
        assert one.typing_only or place(source).startswith(home), one.name


@ALL
def test_only_the_command_line_prints(source: Source) -> None:
    calls = [node for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
    printed = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
    assert not printed or place(source).startswith(MAY_PRINT)


@ALL
def test_nothing_escapes_structure_or_seeds(source: Source) -> None:
    modules = {one.name for one in source.imports() if not one.typing_only} & set(BANNED)
    if place(source).startswith(MAY_WAIT_FOR_REAL):
        modules.discard("time")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert node.attr not in BANNED[node.value.id], f"line {node.lineno}: {node.value.id}.{node.attr}"


@ALL
def test_files_and_functions_are_short(source: Source) -> None:
    assert source.lines <= 350
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or node.lineno) - node.lineno < 60, node.name


@ALL
def test_everything_public_says_what_it_is_for(source: Source) -> None:
    assert ast.get_docstring(source.tree) or not source.tree.body
    for node in public(source.tree):
        assert ast.get_docstring(node), f"line {node.lineno}: {node.name}"


def public(tree: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def test_tests_are_held_to_the_same_length() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, path
